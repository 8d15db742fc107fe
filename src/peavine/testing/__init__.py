"""Supported fakes and the pytest fixtures for people who test against Kubernetes.

What belongs here is used from tests: whole clusters inside a process, nodes that only pretend. Nothing in production
imports it.
"""

from peavine.testing.cluster import AsyncCluster, Cluster
from peavine.testing.requests import Request, Requests
from peavine.testing.snapshot import Snapshot

__all__ = ["AsyncCluster", "Cluster", "Request", "Requests", "Snapshot"]
