"""Nodes that stop answering: `zones` says how fast pods may be driven off them (pure), `controller` taints."""
