"""The leases by which API servers know of each other are theirs alone. Always on.

From them the addresses behind the `kubernetes` Service are made (bootstrap/presence.py): who could write one could
stand in for the API server towards every pod.
"""

from __future__ import annotations

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.refusals import forbidden
from peavine.apiserver.admission.request import CREATE, DELETE, UPDATE, AdmissionRequest, Plugin
from peavine.apiserver.authentication.user import MASTERS

IDENTITY_LABEL = "apiserver.kubernetes.io/identity"
NAME_PREFIX = "apiserver-"


class ServerLeaseGuard(Plugin):
    name = "peavine.ServerLeases"
    operations = frozenset((CREATE, UPDATE, DELETE))
    resources = frozenset((("coordination.k8s.io", "leases"),))

    def __init__(self, context: PluginContext) -> None:
        del context

    async def validate(self, req: AdmissionRequest) -> None:
        if req.namespace != "kube-system" or MASTERS in req.user.groups:
            return
        labels = [(obj["metadata"].get("labels") or {}) for obj in (req.obj, req.old) if obj is not None]
        if req.object_name.startswith(NAME_PREFIX) or any(IDENTITY_LABEL in found for found in labels):
            raise forbidden(req, "leases of API servers are written by API servers only")
