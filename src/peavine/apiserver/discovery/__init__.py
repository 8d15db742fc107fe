"""What is served, told to clients: group and resource lists, version 1 and aggregated version 2."""

from peavine.apiserver.discovery.discovery import Discovery

__all__ = ["Discovery"]
