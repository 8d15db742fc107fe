"""The only door to the API server: REST, discovery, informers, workqueue, leader election, events.

What belongs here speaks HTTP to an API server or keeps what it said. It knows no kind: rules about Pods or
Services live in `peavine.api`; what to do about them lives in the component.
"""

from peavine.client.config import ClientConfig, load_kubeconfig
from peavine.client.events import EventRecorder
from peavine.client.informer import Informer, InformerFactory
from peavine.client.leader import LeaderElector
from peavine.client.rest import Client, Resource
from peavine.client.workqueue import WorkQueue

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
