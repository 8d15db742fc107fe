"""certificates.k8s.io: signing requests and trust bundles."""
