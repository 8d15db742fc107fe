"""Making what a fresh server must hold, and mending what an older one lacks.

Objects that say `autoupdate: "false"` are left alone; others get back what is missing of their default content and
keep what was added to them, as upstream's auto-reconciliation does.
"""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from peavine.apiserver.authorization.escalation import covers
from peavine.apiserver.bootstrap import flowcontrol, policy
from peavine.apiserver.lister import Lister, Writer
from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import scope
from peavine.machinery.errors import ApiError

log = logging.getLogger(__name__)

SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
TOKEN_TRACKING = "kube-apiserver-legacy-service-account-token-tracking"
_PRIORITY_CLASSES = (
    (
        "system-cluster-critical",
        2000000000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2000001000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
)


@dataclass
class BootstrapOptions:
    """What goes into the objects. `client_ca` and `requestheader_ca` are PEM texts; "" leaves their keys out."""

    service_ranges: Sequence[str] = ("192.168.0.0/16",)
    secure_port: int = 6443
    client_ca: str = ""
    requestheader_ca: str = ""
    requestheader_allowed_names: Sequence[str] = ("front-proxy-client",)
    requestheader_username_headers: Sequence[str] = ("X-Remote-User",)
    requestheader_uid_headers: Sequence[str] = ("X-Remote-Uid",)
    requestheader_group_headers: Sequence[str] = ("X-Remote-Group",)
    requestheader_extra_headers_prefix: Sequence[str] = ("X-Remote-Extra-",)
    rbac: bool = True


async def bootstrap(lister: Lister, writer: Writer, options: BootstrapOptions, clock: Clock = REAL) -> None:
    """Make or mend everything. Raises ApiError for what cannot be written; safe to call again, also by two servers."""
    await _all(
        _ensure(lister, writer, "", "v1", "namespaces", {"metadata": {"name": name}}, None)
        for name in SYSTEM_NAMESPACES
    )
    work = [
        _ensure(lister, writer, "scheduling.k8s.io", "v1", "priorityclasses", obj, None) for obj in _priority_classes()
    ]
    for obj in flowcontrol.priority_levels():
        work.append(_ensure(lister, writer, flowcontrol.GROUP, "v1", "prioritylevelconfigurations", obj, _mend_flow))
    for obj in flowcontrol.flow_schemas():
        work.append(_ensure(lister, writer, flowcontrol.GROUP, "v1", "flowschemas", obj, _mend_flow))
    if options.rbac:
        for obj in policy.roles():
            resource = obj["kind"].lower() + "s"
            work.append(_ensure(lister, writer, policy.GROUP, "v1", resource, obj, _mend_role))
        work += [_ensure_binding(lister, writer, obj) for obj in policy.bindings()]
    cidr = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": list(options.service_ranges)}}
    work.append(_ensure(lister, writer, "networking.k8s.io", "v1", "servicecidrs", cidr, None))
    work.append(_ensure(lister, writer, "", "v1", "configmaps", _authentication(options), _mend_data))
    since = {"since": time.strftime("%Y-%m-%d", time.gmtime(clock.time()))}
    tracking = {"metadata": {"name": TOKEN_TRACKING, "namespace": "kube-system"}, "data": since}
    work.append(_ensure(lister, writer, "", "v1", "configmaps", tracking, None))
    await _all(work)


def kubernetes_service(options: BootstrapOptions) -> dict[str, Any]:
    """The Service by which pods reach the API server: the first address of the service range."""
    import ipaddress

    first = str(next(ipaddress.ip_network(options.service_ranges[0]).hosts()))
    port = {"name": "https", "port": 443, "protocol": "TCP", "targetPort": options.secure_port}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"provider": "kubernetes", "component": "apiserver"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": first,
            "clusterIPs": [first],
            "ipFamilies": ["IPv6" if ":" in first else "IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "ports": [port],
        },
    }


async def _all(work: Iterable[Any]) -> None:
    """Run together: the store commits concurrent writes as one."""
    async with scope() as tasks:
        started = [tasks.start(item) for item in work]
        for task in started:
            await task


Mend = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any] | None]


async def _ensure(
    lister: Lister, writer: Writer, group: str, version: str, resource: str, obj: dict[str, Any], mend: Mend | None
) -> None:
    """Create `obj` where it is missing, else write what `mend(live, obj)` answers (None: it is good)."""
    metadata = obj["metadata"]
    namespace, name = metadata.get("namespace"), metadata["name"]
    live = lister.get(group, resource, namespace, name)
    if live is None:
        try:
            await writer.create(group, version, resource, namespace, obj)
            return
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            if mend is None:
                return  # the other server made it
    if mend is not None and (live is None or mend(live, obj) is not None):
        await writer.patch(group, version, resource, namespace, name, lambda live: mend(live, obj))


async def _ensure_binding(lister: Lister, writer: Writer, obj: dict[str, Any]) -> None:
    resource = obj["kind"].lower() + "s"
    metadata = obj["metadata"]
    namespace = metadata.get("namespace")
    live = lister.get(policy.GROUP, resource, namespace, metadata["name"])
    if live is not None and _updates(live, policy.AUTOUPDATE) and live["roleRef"] != obj["roleRef"]:
        # A role reference cannot change: the binding is made anew.
        await writer.delete(policy.GROUP, "v1", resource, namespace, metadata["name"])
        await writer.create(policy.GROUP, "v1", resource, namespace, obj)
        return
    await _ensure(lister, writer, policy.GROUP, "v1", resource, obj, _mend_binding)


def _updates(live: dict[str, Any], annotation: str) -> bool:
    return (live["metadata"].get("annotations") or {}).get(annotation) != "false"


def _mend_role(live: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any] | None:
    if not _updates(live, policy.AUTOUPDATE):
        return None
    new = copy.deepcopy(live)
    changed = _mend_metadata(new, wanted)
    if "aggregationRule" in wanted:
        rule = new.setdefault("aggregationRule", {})
        selectors = rule.get("clusterRoleSelectors") or []
        missing = [s for s in wanted["aggregationRule"]["clusterRoleSelectors"] if s not in selectors]
        rule["clusterRoleSelectors"] = selectors + missing
        return new if changed or missing else None
    missing = [rule for rule in wanted["rules"] or () if not covers(new.get("rules") or [], [rule])[0]]
    if missing:
        new["rules"] = (new.get("rules") or []) + missing
    return new if changed or missing else None


def _mend_binding(live: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any] | None:
    if not _updates(live, policy.AUTOUPDATE):
        return None
    new = copy.deepcopy(live)
    changed = _mend_metadata(new, wanted)
    subjects = new.get("subjects") or []
    missing = [subject for subject in wanted.get("subjects") or () if subject not in subjects]
    if missing:
        new["subjects"] = subjects + missing
    return new if changed or missing else None


def _mend_flow(live: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any] | None:
    """Flow objects follow their defaults wholly while they are auto-updated (the first generation, unless said)."""
    said = (live["metadata"].get("annotations") or {}).get(flowcontrol.AUTOUPDATE)
    follows = said == "true" if said is not None else live["metadata"].get("generation", 1) == 1
    if not follows or _without_defaults(live["spec"], wanted["spec"]):
        return None
    return {**copy.deepcopy(live), "spec": copy.deepcopy(wanted["spec"])}


def _without_defaults(live: Any, wanted: Any) -> bool:
    """Whether `live` says everything that `wanted` says; more keys in a map are defaults."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(_without_defaults(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(live, list) and len(live) == len(wanted) and all(map(_without_defaults, live, wanted))
    return live == wanted


def _mend_data(live: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any] | None:
    data = {**(live.get("data") or {}), **wanted["data"]}
    # A second server with another CA adds to the bundle: both are trusted.
    for key in ("client-ca-file", "requestheader-client-ca-file"):
        before = (live.get("data") or {}).get(key, "")
        if key in wanted["data"] and wanted["data"][key].strip() not in before:
            data[key] = (before.rstrip() + "\n" + wanted["data"][key]).lstrip()
        elif before:
            data[key] = before
    return None if data == (live.get("data") or {}) else {**copy.deepcopy(live), "data": data}


def _mend_metadata(live: dict[str, Any], wanted: dict[str, Any]) -> bool:
    changed = False
    for field in ("labels", "annotations"):
        for key, value in (wanted["metadata"].get(field) or {}).items():
            if key not in (live["metadata"].get(field) or {}):
                live["metadata"].setdefault(field, {})[key] = value
                changed = True
    return changed


def _priority_classes() -> list[dict[str, Any]]:
    return [
        {
            "metadata": {"name": name},
            "value": value,
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        }
        for name, value, description in _PRIORITY_CLASSES
    ]


def _authentication(options: BootstrapOptions) -> dict[str, Any]:
    """What extension API servers read to trust this one's clients and its front proxy."""
    data: dict[str, str] = {}
    if options.client_ca:
        data["client-ca-file"] = options.client_ca
    if options.requestheader_ca:
        data["requestheader-client-ca-file"] = options.requestheader_ca
        for key, values in (
            ("requestheader-allowed-names", options.requestheader_allowed_names),
            ("requestheader-username-headers", options.requestheader_username_headers),
            ("requestheader-uid-headers", options.requestheader_uid_headers),
            ("requestheader-group-headers", options.requestheader_group_headers),
            ("requestheader-extra-headers-prefix", options.requestheader_extra_headers_prefix),
        ):
            data[key] = json.dumps(list(values), separators=(",", ":"))
    return {"metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"}, "data": data}
