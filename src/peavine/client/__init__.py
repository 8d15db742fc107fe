"""The only door to the API server: REST, discovery, informers, workqueue, leader election, events.

What belongs here speaks HTTP to an API server or keeps what it said. It knows no kind: rules about Pods or
Services live in `peavine.api`; what to do about them lives in the component.

The names below are imported when first used: a command line that needs `Client` does not pay for informers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peavine.client.config import ClientConfig, load_kubeconfig
    from peavine.client.events import EventRecorder
    from peavine.client.informer import Informer, InformerFactory
    from peavine.client.leader import LeaderElector
    from peavine.client.rest import Client, Resource
    from peavine.client.workqueue import WorkQueue

_HOMES = {
    "Client": "rest",
    "ClientConfig": "config",
    "EventRecorder": "events",
    "Informer": "informer",
    "InformerFactory": "informer",
    "LeaderElector": "leader",
    "Resource": "rest",
    "WorkQueue": "workqueue",
    "load_kubeconfig": "config",
}

__all__ = [
    "Client",
    "ClientConfig",
    "EventRecorder",
    "Informer",
    "InformerFactory",
    "LeaderElector",
    "Resource",
    "WorkQueue",
    "load_kubeconfig",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
