"""Checks the expressions of each ValidatingAdmissionPolicy against the kinds it is about, and warns in its status.

Upstream: pkg/controller/validatingadmissionpolicystatus. Rules with wildcards name no kinds; kinds that are not served
are passed over.
"""

from __future__ import annotations

from peavine.api.catalogue import CATALOGUE
from peavine.client.discovery import served_resources
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.machinery.names import GVK

API = "admissionregistration.k8s.io/v1"


class AdmissionPolicyStatusController(Controller):
    name = "validatingadmissionpolicy-status-controller"
    account = "validatingadmissionpolicy-status-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.policies = self.watch(API, "validatingadmissionpolicies")
        self.definitions = self.read("apiextensions.k8s.io/v1", "customresourcedefinitions")

    async def reconcile(self, key: Key) -> float | None:
        policy = self.policies.get(*key)
        if policy is None:
            return None
        generation = policy["metadata"].get("generation", 0)
        if (policy.get("status") or {}).get("observedGeneration") == generation:
            return None
        warnings = await self._warnings(policy["spec"])
        checking = {"expressionWarnings": warnings} if warnings else {}
        status = {**(policy.get("status") or {}), "observedGeneration": generation, "typeChecking": checking}
        body = {**policy, "apiVersion": API, "kind": "ValidatingAdmissionPolicy", "status": status}
        await self.client.resource(API, "validatingadmissionpolicies").update(body, subresource="status")
        return None

    async def _warnings(self, spec: Object) -> list[Object]:
        # The language is a big thing to load, for what few clusters have.
        from peavine.machinery.cel.typechecking import check_policy
        from peavine.machinery.cel.types import DYN

        kinds = [(gvk, found) for gvk in await self._kinds(spec) if (found := self._type(gvk)) is not None]
        params = None
        if spec.get("paramKind"):
            params = self._type(_gvk(spec["paramKind"])) or DYN
        return check_policy(spec, kinds, params, self._type(GVK("", "v1", "Namespace")))

    async def _kinds(self, spec: Object) -> list[GVK]:
        """The kinds that the policy's rules name, in order."""
        named = set()
        for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
            parts = (rule.get("apiGroups") or (), rule.get("apiVersions") or (), rule.get("resources") or ())
            if any("*" in text for part in parts for text in part):
                continue
            named |= {(g, v, r) for g in parts[0] for v in parts[1] for r in parts[2] if "/" not in r}
        found = set()
        for group, version, plural in named:
            kind = CATALOGUE.resource(group, version, plural)
            if kind is not None:
                found.add(GVK(group, version, kind.kind))
                named = named - {(group, version, plural)}
        if named:
            for served in await served_resources(self.client, preferred_only=False):
                if (served.gvr.group, served.gvr.version, served.gvr.resource) in named:
                    found.add(GVK(served.gvr.group, served.gvr.version, served.kind))
        return sorted(found)

    def _type(self, gvk: GVK):  # type: ignore[no-untyped-def]
        """The CEL type of a kind; None for one that has no schema."""
        from peavine.machinery.cel.rules import type_of
        from peavine.machinery.cel.typechecking import cel_type
        from peavine.machinery.schema import Schema
        from peavine.machinery.structural import Structural

        known = Schema.load().for_kind(gvk)
        if known is not None:
            return cel_type(known)
        for definition in self.definitions.list():
            spec = definition["spec"]
            if (spec["group"], spec["names"]["kind"]) != (gvk.group, gvk.kind):
                continue
            for version in spec["versions"]:
                schema = (version.get("schema") or {}).get("openAPIV3Schema")
                if version["name"] == gvk.version and schema:
                    return type_of(Structural(schema), root=True)
        return None


def _gvk(reference: Object) -> GVK:
    group, _, version = reference["apiVersion"].rpartition("/")
    return GVK(group, version, reference["kind"])
