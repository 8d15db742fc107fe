"""The core group (v1): pods, services, nodes, configuration, volumes."""
