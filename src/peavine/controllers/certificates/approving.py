"""Approves the client certificates that kubelets ask for, where the asker may have them."""

from __future__ import annotations

from peavine.api.certificates.signing import automatic_approval
from peavine.controllers.certificates import conditions
from peavine.controllers.controller import Context, Controller, Key, Object

API = "certificates.k8s.io/v1"


class CSRApprovingController(Controller):
    name = "certificatesigningrequest-approving-controller"
    account = "certificate-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.requests = self.watch(API, "certificatesigningrequests")

    async def reconcile(self, key: Key) -> float | None:
        request = self.requests.get(*key)
        if request is None or conditions(request):
            return None
        approval = automatic_approval(request["spec"])
        if approval is not None and await self._may(request["spec"], approval.subresource):
            await self._approve(request, approval.message)
        return None

    async def _may(self, spec: Object, subresource: str) -> bool:
        """Whether the asker may create this subresource of requests, which is how the right is given."""
        attributes = {
            "group": "certificates.k8s.io",
            "resource": "certificatesigningrequests",
            "subresource": subresource,
            "verb": "create",
            "version": "*",
        }
        asked = {part: spec[part] for part in ("uid", "groups", "extra") if spec.get(part)}
        review: Object = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": spec.get("username"), **asked, "resourceAttributes": attributes},
        }
        answer = await self.client.resource("authorization.k8s.io/v1", "subjectaccessreviews").create(review)
        return bool(answer["status"].get("allowed"))

    async def _approve(self, request: Object, message: str) -> None:
        status = dict(request.get("status") or {})
        condition = {"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message}
        status["conditions"] = [*(status.get("conditions") or ()), condition]
        body = {**request, "apiVersion": API, "kind": "CertificateSigningRequest", "status": status}
        await self.client.resource(API, "certificatesigningrequests").update(body, subresource="approval")
