"""What happens to objects: create, update, patch, delete, and the subresources, the same way for every kind.

Everything here works on decoded objects and the watch cache; how a request spells them is the endpoints' business, and
what a kind's own rules are stands in `peavine.api`.
"""

from peavine.apiserver.registry.registry import Registry, Resource
from peavine.apiserver.registry.request import WriteRequest

__all__ = ["Registry", "Resource", "WriteRequest"]
