"""Ingress and Gateway API controller; HAProxy is the data plane."""
