"""storagemigration.k8s.io: storage version migrations."""
