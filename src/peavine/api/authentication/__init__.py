"""authentication.k8s.io: token and identity reviews."""
