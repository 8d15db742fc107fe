"""events.k8s.io: the newer face of core events."""
