"""The node as the API sees it: what the machine is, its registration, its conditions, its lease."""
