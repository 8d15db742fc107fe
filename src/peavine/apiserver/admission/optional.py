"""Upstream's smaller plugins that are off by default: namespaces made on demand, node selectors and tolerations by
namespace, anti-affinity kept to a node, tolerations for extended resources, everything denied.
"""

from __future__ import annotations

import json
from typing import Any

from peavine.api.core.resourcenames import is_extended
from peavine.api.core.taint import tolerates
from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.refusals import forbidden
from peavine.apiserver.admission.request import CONNECT, CREATE, DELETE, UPDATE, AdmissionRequest, Plugin
from peavine.machinery import errors
from peavine.machinery.errors import ApiError

_POD = frozenset((("", "pods"),))
_HOSTNAME = "kubernetes.io/hostname"
_SELECTOR = "scheduler.alpha.kubernetes.io/node-selector"
_DEFAULT_TOLERATIONS = "scheduler.alpha.kubernetes.io/defaultTolerations"
_TOLERATIONS = "scheduler.alpha.kubernetes.io/tolerationsWhitelist"


class AlwaysAdmit(Plugin):
    name = "AlwaysAdmit"

    def __init__(self, context: PluginContext) -> None:
        del context


class AlwaysDeny(Plugin):
    name = "AlwaysDeny"
    operations = frozenset((CREATE, UPDATE, DELETE, CONNECT))

    def __init__(self, context: PluginContext) -> None:
        del context

    async def admit(self, req: AdmissionRequest) -> None:
        raise forbidden(req, "admission control is denying all modifications")


class NamespaceAutoProvision(Plugin):
    """The first object of a namespace makes it."""

    name = "NamespaceAutoProvision"
    operations = frozenset((CREATE,))

    def __init__(self, context: PluginContext) -> None:
        self.lister, self.writer = context.lister, context.writer

    async def admit(self, req: AdmissionRequest) -> None:
        if not req.namespace or req.dry_run or (req.gvr.group, req.gvr.resource) == ("", "namespaces"):
            return
        if self.lister.get("", "namespaces", None, req.namespace) is None:
            try:
                await self.writer.create("", "v1", "namespaces", None, {"metadata": {"name": req.namespace}})
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise


class NamespaceExists(Plugin):
    name = "NamespaceExists"
    operations = frozenset((CREATE, UPDATE, DELETE))

    def __init__(self, context: PluginContext) -> None:
        self.lister = context.lister

    async def validate(self, req: AdmissionRequest) -> None:
        if not req.namespace or (req.gvr.group, req.gvr.resource) == ("", "namespaces"):
            return
        if self.lister.get("", "namespaces", None, req.namespace) is None:
            raise errors.not_found("namespaces", req.namespace)


class LimitPodHardAntiAffinityTopology(Plugin):
    """Nobody keeps others' pods off more than a node."""

    name = "LimitPodHardAntiAffinityTopology"
    resources = _POD

    def __init__(self, context: PluginContext) -> None:
        del context

    async def validate(self, req: AdmissionRequest) -> None:
        if req.subresource or req.obj is None:
            return
        rules = (req.obj["spec"].get("affinity") or {}).get("podAntiAffinity") or {}
        for term in rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ():
            if term.get("topologyKey") != _HOSTNAME:
                why = (
                    "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey "
                    f"{term.get('topologyKey')} but only key {_HOSTNAME} is allowed"
                )
                raise forbidden(req, why)


class ExtendedResourceToleration(Plugin):
    """A pod that asks for a device tolerates the taint that keeps others off the nodes that have it."""

    name = "ExtendedResourceToleration"
    resources = _POD

    def __init__(self, context: PluginContext) -> None:
        del context

    async def admit(self, req: AdmissionRequest) -> None:
        if req.subresource or req.obj is None:
            return
        spec = req.obj["spec"]
        wanted: set[str] = set()
        for kind in ("containers", "initContainers"):
            for container in spec.get(kind) or ():
                requests = (container.get("resources") or {}).get("requests") or {}
                wanted |= {name for name in requests if is_extended(name)}
        present = spec.get("tolerations") or []
        added = [{"key": name, "operator": "Exists"} for name in sorted(wanted)]
        added = [toleration for toleration in added if toleration not in present]
        if added:
            spec["tolerations"] = [*present, *added]


class PodNodeSelector(Plugin):
    """The namespace says on which nodes its pods run: by annotation, within what the configuration allows it."""

    name = "PodNodeSelector"
    operations = frozenset((CREATE,))
    resources = _POD

    def __init__(self, context: PluginContext) -> None:
        config = context.config.get(self.name) or {}
        self.selectors: dict[str, str] = config.get("podNodeSelectorPluginConfig") or config
        self.lister = context.lister

    async def admit(self, req: AdmissionRequest) -> None:
        if req.subresource or req.obj is None:
            return
        found = self.lister.get("", "namespaces", None, req.namespace) or {"metadata": {}}
        annotations = found["metadata"].get("annotations") or {}
        default = self.selectors.get("clusterDefaultNodeSelector", "")
        selector = _labels(annotations.get(_SELECTOR, default))
        own = req.obj["spec"].get("nodeSelector") or {}
        if any(own.get(key, value) != value for key, value in selector.items()):
            raise forbidden(req, "pod node label selector conflicts with its namespace node label selector")
        merged = {**own, **selector}
        allowed = _labels(self.selectors.get(req.namespace, ""))
        if req.namespace in self.selectors and not merged.items() <= allowed.items():
            raise forbidden(req, "pod node label selector labels conflict with its namespace whitelist")
        if merged:
            req.obj["spec"]["nodeSelector"] = merged


class PodTolerationRestriction(Plugin):
    """The namespace gives its pods tolerations, and says which they may have."""

    name = "PodTolerationRestriction"
    resources = _POD

    def __init__(self, context: PluginContext) -> None:
        config = context.config.get(self.name) or {}
        self.default, self.allowed = config.get("default") or [], config.get("whitelist") or []
        self.lister = context.lister

    async def admit(self, req: AdmissionRequest) -> None:
        if req.subresource or req.obj is None or req.operation != CREATE:
            return
        spec = req.obj["spec"]
        given = self._of(req.namespace, _DEFAULT_TOLERATIONS)
        present = spec.get("tolerations") or []
        added = [t for t in (self.default if given is None else given) if t not in present]
        if added:
            spec["tolerations"] = [*present, *added]

    async def validate(self, req: AdmissionRequest) -> None:
        if req.subresource or req.obj is None:
            return
        given = self._of(req.namespace, _TOLERATIONS)
        allowed = self.allowed if given is None else given
        tolerations = req.obj["spec"].get("tolerations") or []
        if allowed and not all(any(_covers(wide, t) for wide in allowed) for t in tolerations):
            what = "pod tolerations (possibly merged with namespace default tolerations)"
            raise forbidden(req, f"{what} conflict with its namespace whitelist")

    def _of(self, namespace: str, annotation: str) -> list[dict[str, Any]] | None:
        found = self.lister.get("", "namespaces", None, namespace) or {"metadata": {}}
        text = (found["metadata"].get("annotations") or {}).get(annotation)
        if not text:
            return None
        try:
            return list(json.loads(text))
        except ValueError:
            raise errors.internal(f"invalid tolerations in annotation {annotation} of namespace {namespace}") from None


def _covers(wide: dict[str, Any], toleration: dict[str, Any]) -> bool:
    """Whether everything that `toleration` tolerates is tolerated by `wide`."""
    if wide.get("tolerationSeconds") is not None:
        seconds = toleration.get("tolerationSeconds")
        if seconds is None or seconds > wide["tolerationSeconds"]:
            return False
    if (toleration.get("operator") or "Equal") == "Exists" and (wide.get("operator") or "Equal") != "Exists":
        return False
    taint = {key: toleration.get(key, "") for key in ("key", "value", "effect")}
    return tolerates(wide, taint)


def _labels(text: str) -> dict[str, str]:
    """`a=b,c=d` as a map."""
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {key.strip(): value.strip() for key, _, value in pairs}
