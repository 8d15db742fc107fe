"""Defaults of a pod spec and all that is in it, as pods and pod templates share them.

`default_pod_spec` holds for both; a pod itself gets more (`default_pod`): requests from limits, service links.
"""

from __future__ import annotations

import re
from typing import Any

from peavine.api import alpha
from peavine.machinery.quantity import parse_quantity

Object = dict[str, Any]

MODE = 0o644
_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
)


def default_pod(pod: Object) -> None:
    """What a Pod gets beyond its spec's own defaults; call it before `default_pod_spec`."""
    spec = pod.setdefault("spec", {})
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        _requests_from_limits(container)
    if spec.get("resources"):
        _pod_level_requests(spec)
    if spec.get("enableServiceLinks") is None:
        spec["enableServiceLinks"] = True


def default_template(template: Object | None) -> None:
    """A pod template inside another object."""
    if template is not None:
        default_pod_spec(template.setdefault("spec", {}))


def default_pod_spec(spec: Object) -> None:
    alpha.drop(spec, alpha.POD_SPEC)
    spec["dnsPolicy"] = spec.get("dnsPolicy") or "ClusterFirst"
    spec["restartPolicy"] = spec.get("restartPolicy") or "Always"
    if spec.get("securityContext") is None:
        spec["securityContext"] = {}
    if spec.get("terminationGracePeriodSeconds") is None:
        spec["terminationGracePeriodSeconds"] = 30
    spec["schedulerName"] = spec.get("schedulerName") or "default-scheduler"
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for volume in spec.get("volumes") or []:
        default_volume(volume)
    for name in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(name) or []:
            default_container(container)
            if spec.get("hostNetwork") and name != "ephemeralContainers":
                for port in container.get("ports") or []:
                    if not port.get("hostPort"):
                        port["hostPort"] = port.get("containerPort") or 0
    round_up(spec.get("overhead"))
    _default_resources(spec.get("resources"))


def default_container(container: Object) -> None:
    for mount in container.get("volumeMounts") or []:
        alpha.drop(mount, alpha.VOLUME_MOUNT)
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(container.get("image") or "")
    container["terminationMessagePath"] = container.get("terminationMessagePath") or "/dev/termination-log"
    container["terminationMessagePolicy"] = container.get("terminationMessagePolicy") or "File"
    for port in container.get("ports") or []:
        port["protocol"] = port.get("protocol") or "TCP"
    for variable in container.get("env") or []:
        source = variable.get("valueFrom") or {}
        _field_reference(source.get("fieldRef"))
        _divisor(source.get("resourceFieldRef"))
        key = source.get("fileKeyRef")
        if key is not None and key.get("optional") is None:
            key["optional"] = False
    _default_resources(container.get("resources"))
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe := container.get(name):
            _default_probe(probe)
    for handler in (container.get("lifecycle") or {}).values():
        if isinstance(handler, dict):
            _http_get(handler.get("httpGet"))


def pull_policy(image: str) -> str:
    """Always for what has the tag `latest`, or neither tag nor digest; else only where the image is missing."""
    if "@" in image or not _REFERENCE.fullmatch(image):
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def default_volume(volume: Object) -> None:
    alpha.drop_volume_users(volume)
    if not any(volume.get(k) is not None for k in volume if k != "name"):
        volume["emptyDir"] = {}
    for name, source in volume.items():
        if isinstance(source, dict):
            _default_source(name, source)
            if name in ("secret", "configMap", "downwardAPI", "projected") and source.get("defaultMode") is None:
                source["defaultMode"] = MODE
    for item in (volume.get("downwardAPI") or {}).get("items") or []:
        _field_reference(item.get("fieldRef"))
        _divisor(item.get("resourceFieldRef"))
    for source in (volume.get("projected") or {}).get("sources") or []:
        token = source.get("serviceAccountToken")
        if token is not None and token.get("expirationSeconds") is None:
            token["expirationSeconds"] = 3600
        for item in (source.get("downwardAPI") or {}).get("items") or []:
            _field_reference(item.get("fieldRef"))
            _divisor(item.get("resourceFieldRef"))


def _default_source(name: str, source: Object) -> None:
    """Defaults of a volume source that pods and persistent volumes share."""
    fixed: dict[str, Object] = {
        "hostPath": {"type": ""},
        "iscsi": {"iscsiInterface": "default"},
        "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
        "azureDisk": {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": False},
        "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
    }
    for field, value in fixed.get(name, {}).items():
        if source.get(field) is None or (source[field] == "" and value):
            source[field] = value
    if name == "image" and not source.get("pullPolicy"):
        source["pullPolicy"] = pull_policy(source.get("reference") or "")
    if name == "ephemeral":
        spec = (source.get("volumeClaimTemplate") or {}).get("spec")
        if spec is not None and spec.get("volumeMode") is None:
            spec["volumeMode"] = "Filesystem"


default_volume_source = _default_source


def round_up(resources: Object | None) -> None:
    """Quantities of resources are kept to the thousandth, rounded up."""
    for name, text in (resources or {}).items():
        quantity = parse_quantity(text)
        if quantity.nanos % 10**6:
            resources[name] = str(type(quantity).of_milli(quantity.milli(), quantity.format))  # type: ignore[index]


def _default_resources(resources: Object | None) -> None:
    if resources:
        round_up(resources.get("limits"))
        round_up(resources.get("requests"))


def _requests_from_limits(container: Object) -> None:
    resources = container.get("resources") or {}
    limits = resources.get("limits")
    if not limits:
        return
    requests = resources.setdefault("requests", {}) or {}
    for name, quantity in limits.items():
        requests.setdefault(name, quantity)
    resources["requests"] = requests


def _pod_level_requests(spec: Object) -> None:
    """Pod-level requests default to what the containers ask for together, then to the pod-level limits."""
    from peavine.api.core.resources import is_pod_level, pod_requests

    resources = spec["resources"]
    requests = dict(resources.get("requests") or {})
    if requests or resources.get("limits"):
        together = pod_requests({"spec": {**spec, "resources": {}}}, overhead=False)
        for name, quantity in together.items():
            if name not in requests and is_pod_level(name) and not name.startswith("hugepages-"):
                requests[name] = str(quantity)
        for name, limit in (resources.get("limits") or {}).items():
            if name not in requests and is_pod_level(name):
                requests[name] = limit
    if requests:
        resources["requests"] = requests


def _field_reference(reference: Object | None) -> None:
    if reference is not None and not reference.get("apiVersion"):
        reference["apiVersion"] = "v1"


def _divisor(reference: Object | None) -> None:
    if reference is not None and reference.get("divisor") is None:
        reference["divisor"] = "0"


def _default_probe(probe: Object) -> None:
    for field, value in (
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ):
        if not probe.get(field):
            probe[field] = value
    _http_get(probe.get("httpGet"))
    grpc = probe.get("grpc")
    if grpc is not None and grpc.get("service") is None:
        grpc["service"] = ""


def _http_get(action: Object | None) -> None:
    if action is not None:
        action["path"] = action.get("path") or "/"
        action["scheme"] = action.get("scheme") or "HTTP"
