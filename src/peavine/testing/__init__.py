"""Supported fakes and the pytest fixtures for people who test against Kubernetes.

What belongs here is used from tests: whole clusters inside a process, nodes that only pretend. Nothing in production
imports it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peavine.testing.cluster import AsyncCluster
    from peavine.testing.hosts import Cluster
    from peavine.testing.requests import Request, Requests
    from peavine.testing.snapshot import Snapshot

__all__ = ["AsyncCluster", "Cluster", "Request", "Requests", "Snapshot"]

_MODULES = {"AsyncCluster": "cluster", "Cluster": "hosts", "Snapshot": "snapshot"}


def __getattr__(name: str) -> Any:
    # Imported when asked for: every run of pytest loads the plugin, few start a cluster.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'requests')}"), name)
