"""From a pod's spec to CRI's PodSandboxConfig."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peavine.api.core.resources import parse_resources
from peavine.kubelet.cri.runtime import PROTOCOLS
from peavine.kubelet.pods import security
from peavine.kubelet.pods.dns import Resolver
from peavine.kubelet.pods.records import POD_NAME, POD_NAMESPACE, POD_UID
from peavine.kubelet.pods.resources import milli_to_quota, milli_to_shares

Object = dict[str, Any]


def pod_labels(pod: Object) -> dict[str, str]:
    """The labels by which a sandbox or container is found to belong to its pod."""
    meta = pod["metadata"]
    return {POD_NAME: meta["name"], POD_NAMESPACE: meta.get("namespace", "default"), POD_UID: meta["uid"]}


def sandbox_config(
    pod: Object,
    *,
    attempt: int,
    hostname: str,
    resolver: Resolver,
    log_directory: Path,
    cgroup_parent: str,
    root: Path,
    default_seccomp: bool = False,
    users: Object | None = None,
) -> Object:
    meta, spec = pod["metadata"], pod.get("spec") or {}
    linux: Object = {
        "cgroup_parent": cgroup_parent,
        "security_context": security.sandbox_context(pod, default_seccomp=default_seccomp, root=root, users=users),
    }
    sysctls = (spec.get("securityContext") or {}).get("sysctls") or []
    if sysctls:
        linux["sysctls"] = {entry["name"].replace("/", "."): entry["value"] for entry in sysctls}
    if spec.get("overhead"):
        overhead = parse_resources(spec["overhead"])
        linux["overhead"] = {
            "cpu_shares": milli_to_shares(overhead["cpu"].milli()) if "cpu" in overhead else 0,
            "cpu_quota": milli_to_quota(overhead["cpu"].milli()) if "cpu" in overhead else 0,
            "memory_limit_in_bytes": overhead["memory"].value() if "memory" in overhead else 0,
        }
    config: Object = {
        "metadata": {
            "name": meta["name"],
            "namespace": meta.get("namespace", "default"),
            "uid": meta["uid"],
            "attempt": attempt,
        },
        "hostname": "" if spec.get("hostNetwork") and not spec.get("hostnameOverride") else hostname,
        "log_directory": str(log_directory),
        "dns_config": {"servers": resolver.servers, "searches": resolver.searches, "options": resolver.options},
        "port_mappings": _ports(spec),
        "labels": {**(meta.get("labels") or {}), **pod_labels(pod)},
        "annotations": dict(meta.get("annotations") or {}),
        "linux": linux,
    }
    return config


def _ports(spec: Object) -> list[Object]:
    if spec.get("hostNetwork"):
        return []
    return [
        {
            "protocol": PROTOCOLS.get(port.get("protocol") or "TCP", 0),
            "container_port": port["containerPort"],
            "host_port": port["hostPort"],
            "host_ip": port.get("hostIP") or "",
        }
        for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
        for port in container.get("ports") or []
        if port.get("hostPort")
    ]
