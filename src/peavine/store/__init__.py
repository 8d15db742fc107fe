"""The only door to the disk: revisions, compare-and-swap, watch, compaction, leases (sqlite, etcd, memory).
One interface, one conformance suite. It knows keys and bytes, never objects.
"""
