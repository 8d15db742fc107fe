"""The API server: filters, authentication, authorization, admission, endpoints, registry, watch cache."""
