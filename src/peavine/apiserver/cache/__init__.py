"""The watch cache: every object of the store in memory as bytes, its recent changes, and who wants to hear of them.

It knows keys, revisions, names, labels and bytes; what a kind means, or how an answer looks, belongs above.
"""

from peavine.apiserver.cache.cache import Cache
from peavine.apiserver.cache.entries import Change, Entry
from peavine.apiserver.cache.resource import ResourceCache
from peavine.apiserver.cache.watchers import Watcher

__all__ = ["Cache", "Change", "Entry", "ResourceCache", "Watcher"]
