"""Values unreadable in the store: transformers between registry and store, and their keys."""
