"""The only door to the disk: revisions, compare-and-swap, watch, compaction, leases (sqlite, etcd, memory).
One interface, one conformance suite. It knows keys and bytes, never objects.
"""

from peavine.store.interface import (
    Batch,
    Compacted,
    Conflict,
    Event,
    FutureRevision,
    KeyValue,
    LeaseNotFound,
    Page,
    Store,
    StoreError,
    TooLarge,
    Unavailable,
    Watch,
    WatchCut,
)
from peavine.store.open import open_store

__all__ = [
    "Batch",
    "Compacted",
    "Conflict",
    "Event",
    "FutureRevision",
    "KeyValue",
    "LeaseNotFound",
    "Page",
    "Store",
    "StoreError",
    "TooLarge",
    "Unavailable",
    "Watch",
    "WatchCut",
    "open_store",
]
