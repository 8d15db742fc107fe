"""The plugins in their order, and the choice of which are on."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from peavine.apiserver.admission.request import AdmissionRequest, Plugin
from peavine.apiserver.authorization.attributes import Authorizer
from peavine.apiserver.lister import Lister, Writer
from peavine.base.clock import REAL, Clock


@dataclass
class PluginContext:
    """What plugins are made from."""

    lister: Lister
    writer: Writer
    config: dict[str, Any] = field(default_factory=dict)  # plugin name -> its configuration
    authorizer: Authorizer | None = None
    clock: Clock = REAL
    registry: Any = None  # kinds and types, for plugins that decode what they changed


# Upstream's order. Name -> (module, below peavine.apiserver.admission unless it has a dot; on by default).
PLUGINS: dict[str, tuple[str, bool]] = {
    "AlwaysAdmit": ("optional", False),
    "NamespaceAutoProvision": ("optional", False),
    "NamespaceLifecycle": ("namespace_lifecycle", True),
    "NamespaceExists": ("optional", False),
    "LimitPodHardAntiAffinityTopology": ("optional", False),
    "LimitRanger": ("limit_ranger", True),
    "ServiceAccount": ("service_account", True),
    "NodeRestriction": ("node_restriction", True),
    "TaintNodesByCondition": ("node_taints", True),
    "AlwaysPullImages": ("pod_rules", False),
    "PodSecurity": ("podsecurity", True),
    "PodNodeSelector": ("optional", False),
    "Priority": ("priority", True),
    "DefaultTolerationSeconds": ("tolerations", True),
    "PodTolerationRestriction": ("optional", False),
    "EventRateLimit": ("event_rate", False),
    "ExtendedResourceToleration": ("optional", False),
    "DefaultStorageClass": ("storage", True),
    "StorageObjectInUseProtection": ("storage", True),
    "OwnerReferencesPermissionEnforcement": ("pod_rules", False),
    "PersistentVolumeClaimResize": ("storage", True),
    "RuntimeClass": ("runtime_class", True),
    "CertificateApproval": ("certificates", True),
    "CertificateSigning": ("certificates", True),
    "ClusterTrustBundleAttest": ("certificates", True),
    "CertificateSubjectRestriction": ("certificates", True),
    "DefaultIngressClass": ("ingress_class", True),
    "DenyServiceExternalIPs": ("pod_rules", True),  # the CIS benchmark's choice; upstream leaves it off
    "PodTopologyLabels": ("pod_rules", True),
    "MutatingAdmissionPolicy": ("peavine.apiserver.policies.mutating", True),
    "MutatingAdmissionWebhook": ("peavine.apiserver.webhooks.mutating", True),
    "ValidatingAdmissionPolicy": ("peavine.apiserver.policies.validating", True),
    "ValidatingAdmissionWebhook": ("peavine.apiserver.webhooks.validating", True),
    "ResourceQuota": ("quota", True),
    "AlwaysDeny": ("optional", False),
}


class Chain:
    """All plugins of a server. The registry calls, for a write: `admit`, (its own validation), `validate`, the
    store; and `undo` where the store or its own validation then refused.
    """

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self.plugins = list(plugins)
        self._by_request: dict[tuple[str, str, str, str], list[Plugin]] = {}

    async def admit(self, req: AdmissionRequest) -> None:
        """Every plugin in order; all once more where one asks for it (`notes["reinvoke"]`): a webhook that changed
        the object may have added what an earlier plugin would have looked at.
        """
        for plugin in self._for(req, "admit"):
            await plugin.admit(req)
        if req.notes.pop("reinvoke", False):
            req.notes["reinvoking"] = True
            for plugin in self._for(req, "admit"):
                await plugin.admit(req)
            del req.notes["reinvoking"]

    async def validate(self, req: AdmissionRequest) -> None:
        for plugin in self._for(req, "validate"):
            await plugin.validate(req)

    async def undo(self, req: AdmissionRequest) -> None:
        for plugin in self._for(req, "undo"):
            await plugin.undo(req)

    def _for(self, req: AdmissionRequest, step: str) -> list[Plugin]:
        """The plugins that have a say in such requests at a step: those that do not inherit it from `Plugin`."""
        key = (req.operation, req.gvr.group, req.gvr.resource, step)
        plugins = self._by_request.get(key)
        if plugins is None:
            nothing = getattr(Plugin, step)
            plugins = self._by_request[key] = [
                plugin for plugin in self.plugins if plugin.handles(req) and getattr(type(plugin), step) is not nothing
            ]
        return plugins


def build_chain(
    lister: Lister,
    writer: Writer,
    enabled: Iterable[str] = (),
    disabled: Iterable[str] = (),
    config: dict[str, Any] | None = None,
    *,
    authorizer: Authorizer | None = None,
    clock: Clock = REAL,
    last: Iterable[Plugin] = (),
    registry: Any = None,
) -> Chain:
    """The default plugins, plus `enabled`, less `disabled`. Raises ValueError for a name that is no plugin's.

    `last`: plugins that come after all others and cannot be disabled (the allocators of Services, say).
    """
    enabled, disabled = set(enabled), set(disabled)
    unknown = sorted((enabled | disabled) - PLUGINS.keys())
    if unknown:
        raise ValueError(f"unknown admission plugins: {', '.join(unknown)}; known: {', '.join(PLUGINS)}")
    context = PluginContext(lister, writer, config or {}, authorizer, clock, registry)
    plugins: list[Plugin] = []
    for name, (module, on) in PLUGINS.items():
        if (on or name in enabled) and name not in disabled:
            plugins.append(_load(module, name)(context))
    plugins.append(_load("rbac_escalation", "EscalationGuard")(context))
    plugins.append(_load("server_leases", "ServerLeaseGuard")(context))
    return Chain([*plugins, *last])


def _load(module: str, name: str) -> Any:
    return getattr(importlib.import_module(_full(module)), name)


def _full(module: str) -> str:
    return module if "." in module else f"peavine.apiserver.admission.{module}"
