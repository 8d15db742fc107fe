"""Debugging profiles: what a debug container may do, and what becomes of a copied pod or a pod on a node."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
PROFILES = ("legacy", "general", "baseline", "restricted", "netadmin", "sysadmin")
_SECURITY: dict[str, Object] = {
    "general": {"capabilities": {"add": ["SYS_PTRACE"]}},
    "restricted": {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "netadmin": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
    "sysadmin": {"privileged": True},
}  # fmt: skip
_HOST_NAMESPACES = ("legacy", "general", "netadmin", "sysadmin")
_HOST_FILES = ("legacy", "general", "sysadmin")
_PROBES = {"keep-liveness": "livenessProbe", "keep-readiness": "readinessProbe", "keep-startup": "startupProbe"}


def secure(container: Object, profile: str, *, node: bool = False) -> None:
    """Give a debug container the security context of the profile."""
    if profile in _SECURITY and not (node and profile == "general"):
        container["securityContext"] = _SECURITY[profile]


def on_node(pod: Object, profile: str) -> None:
    """A debugging pod of a node: the host's namespaces and files, where the profile gives them."""
    spec = pod["spec"]
    container = spec["containers"][0]
    secure(container, profile, node=True)
    if profile in _HOST_NAMESPACES:
        spec.update(hostIPC=True, hostNetwork=True, hostPID=True)
    if profile in _HOST_FILES:
        spec["volumes"] = [{"name": "host-root", "hostPath": {"path": "/"}}]
        container["volumeMounts"] = [{"mountPath": "/host", "name": "host-root"}]


def bare_copy(pod: Object, profile: str, keep: dict[str, bool]) -> Object:
    """A pod's copy without what ties it to its owner and its service: labels, owners, status, probes."""
    meta: Object = {}
    for part in ("labels", "annotations"):
        if keep[f"keep-{part}"] and pod["metadata"].get(part):
            meta[part] = pod["metadata"][part]
    spec = {key: value for key, value in pod["spec"].items() if key not in ("ephemeralContainers", "nodeName")}
    if not keep["keep-init-containers"]:
        spec.pop("initContainers", None)
    if profile != "legacy":
        dropped = [field for flag, field in _PROBES.items() if not keep[flag]]
        spec["containers"] = [{k: v for k, v in c.items() if k not in dropped} for c in spec["containers"]]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
