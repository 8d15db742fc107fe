"""Numbers that may be given out only once: cluster IPs and node ports."""

from peavine.apiserver.allocation.services import ServiceAllocator

__all__ = ["ServiceAllocator"]
