"""NodeName: a pod goes to the node that it names. Those that name one never reach the queue."""

from __future__ import annotations

from peavine.scheduler.plugins.base import Plugin


class NodeName(Plugin):
    name = "NodeName"
