"""Service network to pod network: `model` is pure, each backend renders and syncs it."""
