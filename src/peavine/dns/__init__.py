"""The cluster's DNS server (Kubernetes DNS-based service discovery specification)."""
