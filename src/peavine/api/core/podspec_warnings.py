"""Warnings about pod specs: what is deprecated, what hides something, what will not do what it says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from peavine.api.fields import quantity

Object = dict[str, Any]

DEPRECATED_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}
DEPRECATED_VOLUMES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


def pod_warnings(pod: Object, old: Object | None) -> list[str]:
    """Nothing for an update that leaves the spec alone: its author was told when it was made."""
    if old is not None and (old.get("spec") or {}) == (pod.get("spec") or {}):
        return []
    return spec_warnings(pod.get("spec") or {}, pod.get("metadata") or {}, "", old is None)


def template_warnings(obj: Object, old: Object | None, field: str = "spec.template") -> list[str]:
    """The same for the template of a controller."""
    template = _dig(obj, field)
    if old is not None and template == _dig(old, field):
        return []
    return spec_warnings(template.get("spec") or {}, template.get("metadata") or {}, field + ".", True)


def _dig(obj: Object, field: str) -> Object:
    for part in field.split("."):
        obj = obj.get(part) or {}
    return obj


def spec_warnings(spec: Object, meta: Object, prefix: str, created: bool) -> list[str]:
    field = prefix + "spec"
    found: list[str] = []
    for key in spec.get("nodeSelector") or {}:
        if key in DEPRECATED_LABELS:
            found.append(f"{field}.nodeSelector[{key}]: {DEPRECATED_LABELS[key]}")
    found += _affinity(spec.get("affinity") or {}, f"{field}.affinity")
    found += _spreading(spec.get("topologySpreadConstraints") or [], f"{field}.topologySpreadConstraints")
    found += _aliases_and_secrets(spec, field)
    for i, volume in enumerate(spec.get("volumes") or []):
        for kind in volume:
            if kind in DEPRECATED_VOLUMES and volume[kind] is not None:
                found.append(f"{field}.volumes[{i}].{kind}: {DEPRECATED_VOLUMES[kind]}")
    annotations = meta.get("annotations") or {}
    if SECCOMP in annotations and spec.get("securityContext", {}).get("seccompProfile") is None:
        words = 'non-functional in v1.27+; use the "seccompProfile" field instead'
        found.append(f"{prefix}metadata.annotations[{SECCOMP}]: {words}")
    for part in ("initContainers", "containers"):
        for i, container in enumerate(spec.get(part) or []):
            found += _container(container, f"{field}.{part}[{i}]", annotations, prefix)
    for name, amount in (spec.get("overhead") or {}).items():
        found += _fractional(name, amount, f"{field}.overhead")
    found += _ports(spec, field)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        words = "must be >= 0; negative values are invalid and will be treated as 1"
        found.append(f"{field}.terminationGracePeriodSeconds: {words}")
    return found


def _affinity(affinity: Object, field: str) -> list[str]:
    found: list[str] = []
    name, preferred = (
        "requiredDuringSchedulingIgnoredDuringExecution",
        "preferredDuringSchedulingIgnoredDuringExecution",
    )
    node = affinity.get("nodeAffinity") or {}
    terms = [
        (f"{field}.nodeAffinity.{name}.nodeSelectorTerms[{i}]", term)
        for i, term in enumerate((node.get(name) or {}).get("nodeSelectorTerms") or [])
    ] + [
        (f"{field}.nodeAffinity.{preferred}[{i}].preference", term.get("preference") or {})
        for i, term in enumerate(node.get(preferred) or [])
    ]
    for at, term in terms:
        for i, requirement in enumerate(term.get("matchExpressions") or []):
            key = requirement.get("key")
            if key in DEPRECATED_LABELS:
                found.append(f"{at}.matchExpressions[{i}].key: {key} is {DEPRECATED_LABELS[key]}")
    for part in ("podAffinity", "podAntiAffinity"):
        pods = affinity.get(part) or {}
        for i, term in enumerate(pods.get(name) or []):
            found += _null_selector(term, f"{field}.{part}.{name}[{i}].labelSelector")
        for i, weighted in enumerate(pods.get(preferred) or []):
            term = weighted.get("podAffinityTerm") or {}
            found += _null_selector(term, f"{field}.{part}.{preferred}[{i}].podAffinityTerm.labelSelector")
    return found


def _null_selector(term: Object, field: str) -> list[str]:
    return [f"{field}: a null labelSelector results in matching no pod"] if term.get("labelSelector") is None else []


def _spreading(constraints: list[Object], field: str) -> list[str]:
    found: list[str] = []
    for i, constraint in enumerate(constraints):
        key = constraint.get("topologyKey")
        if key in DEPRECATED_LABELS:
            found.append(f"{field}[{i}].topologyKey: {key} is {DEPRECATED_LABELS[key]}")
        found += _null_selector(constraint, f"{field}[{i}].labelSelector")
    return found


def _aliases_and_secrets(spec: Object, field: str) -> list[str]:
    found: list[str] = []
    seen: dict[str, int] = {}
    for i, alias in enumerate(spec.get("hostAliases") or []):
        ip = alias.get("ip") or ""
        if ip in seen:
            found.append(f'{field}.hostAliases[{i}].ip: duplicate ip "{ip}"')
        seen.setdefault(ip, i)
    names: set[str] = set()
    for i, secret in enumerate(spec.get("imagePullSecrets") or []):
        name = secret.get("name") or ""
        if not name:
            found.append(f'{field}.imagePullSecrets[{i}].name: invalid empty name ""')
        elif name in names:
            found.append(f'{field}.imagePullSecrets[{i}].name: duplicate name "{name}"')
        names.add(name)
    return found


def _container(container: Object, field: str, annotations: Object, prefix: str) -> list[str]:
    found: list[str] = []
    resources = container.get("resources") or {}
    for part in ("limits", "requests"):
        for name, amount in (resources.get(part) or {}).items():
            found += _fractional(name, amount, f"{field}.resources.{part}")
    seen: set[str] = set()
    for i, variable in enumerate(container.get("env") or []):
        name = variable.get("name") or ""
        if name in seen:
            found.append(
                f'{field}.env[{i}]: hides previous definition of "{name}", which may be dropped when using apply'
            )
        seen.add(name)
    key = APPARMOR + (container.get("name") or "")
    if key in annotations and (container.get("securityContext") or {}).get("appArmorProfile") is None:
        words = 'deprecated since v1.30; use the "appArmorProfile" field instead'
        found.append(f"{prefix}metadata.annotations[{key}]: {words}")
    return found


def _fractional(name: str, amount: Any, field: str) -> Iterable[str]:
    if name in ("memory", "ephemeral-storage") and quantity(amount).nanos % 10**9:
        return [f'{field}[{name}]: fractional byte value "{amount}" is invalid, must be an integer']
    return []


def _ports(spec: Object, field: str) -> list[str]:
    """Ports that shadow each other: the same number, or the same name, twice in a pod."""
    found: list[str] = []
    names: dict[str, str] = {}
    numbers: dict[tuple[Any, ...], str] = {}
    for part in ("initContainers", "containers"):
        for i, container in enumerate(spec.get(part) or []):
            if part == "initContainers" and container.get("restartPolicy") != "Always":
                continue
            for j, port in enumerate(container.get("ports") or []):
                at = f"{field}.{part}[{i}].ports[{j}]"
                name = port.get("name")
                if name and names.get(name, at).rpartition(".ports")[0] != at.rpartition(".ports")[0]:
                    first = names[name]
                    found.append(
                        f'{at}: duplicate port name "{name}" with {first}, services and probes that select ports by '
                        f"name will use {first}"
                    )
                elif name:
                    names.setdefault(name, at)
                key = (port.get("containerPort"), port.get("protocol"), port.get("hostIP"), port.get("hostPort"))
                if key in numbers:
                    found.append(f"{at}: duplicate port definition with {numbers[key]}")
                numbers.setdefault(key, at)
    return found
