"""Says of each ValidatingAdmissionPolicy that it has been looked at. Upstream also reports type-checking warnings."""

from __future__ import annotations

from peavine.controllers.controller import Context, Controller, Key

API = "admissionregistration.k8s.io/v1"


class AdmissionPolicyStatusController(Controller):
    name = "validatingadmissionpolicy-status-controller"
    account = "validatingadmissionpolicy-status-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.policies = self.watch(API, "validatingadmissionpolicies")

    async def reconcile(self, key: Key) -> float | None:
        policy = self.policies.get(*key)
        if policy is None:
            return None
        generation = policy["metadata"].get("generation", 0)
        if (policy.get("status") or {}).get("observedGeneration") == generation:
            return None
        status = {"observedGeneration": generation, "typeChecking": {}}
        resource = self.client.resource(API, "validatingadmissionpolicies")
        await resource.patch(key[1], {"status": status}, subresource="status")
        return None
