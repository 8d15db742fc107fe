"""NodeName: a pod that names its node is not scheduled at all, so this filter is only for asking about one."""

from __future__ import annotations

from peavine.scheduler.plugins.base import Plugin


class NodeName(Plugin):
    """Known so that a configuration may name it; pods with spec.nodeName never reach the queue."""

    name = "NodeName"
