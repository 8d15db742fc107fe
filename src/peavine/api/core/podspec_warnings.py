"""Warnings about pod specs: what is deprecated, what hides something, what will not do what it says."""

from __future__ import annotations

from typing import Any

from peavine.api.core.container_warnings import container_warnings, fractional
from peavine.api.core.volume_warnings import volume_warnings

Object = dict[str, Any]

DEPRECATED_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}
SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"
DEPRECATED_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}


def pod_warnings(pod: Object, old: Object | None) -> list[str]:
    """Nothing for updates: people hardly write those, and programs often."""
    return spec_warnings(pod.get("spec") or {}, pod.get("metadata") or {}, "") if old is None else []


def template_warnings(obj: Object, old: Object | None, field: str = "spec.template") -> list[str]:
    """The same for the template of a controller."""
    template = _dig(obj, field)
    if old is not None and template == _dig(old, field):
        return []
    return spec_warnings(template.get("spec") or {}, template.get("metadata") or {}, field + ".")


def _dig(obj: Object, field: str) -> Object:
    for part in field.split("."):
        obj = obj.get(part) or {}
    return obj


def spec_warnings(spec: Object, meta: Object, prefix: str) -> list[str]:
    field = prefix + "spec"
    found = label_warnings(spec.get("nodeSelector") or {}, f"{field}.nodeSelector")
    found += _affinity(spec.get("affinity") or {}, f"{field}.affinity")
    found += _spreading(spec.get("topologySpreadConstraints") or [], f"{field}.topologySpreadConstraints")
    found += _aliases_and_secrets(spec, field)
    annotations = meta.get("annotations") or {}
    for key, words in DEPRECATED_ANNOTATIONS.items():
        if key in annotations:
            found.append(f"{prefix}metadata.annotations[{key}]: {words}")
    found += volume_warnings(spec.get("volumes") or [], f"{field}.volumes")
    if SECCOMP in annotations and (spec.get("securityContext") or {}).get("seccompProfile") is None:
        words = 'non-functional in v1.27+; use the "seccompProfile" field instead'
        found.append(f"{prefix}metadata.annotations[{SECCOMP}]: {words}")
    found += fractional(spec.get("overhead") or {}, f"{field}.overhead")
    found += container_warnings(spec, field, annotations, prefix)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        words = "must be >= 0; negative values are invalid and will be treated as 1"
        found.append(f"{field}.terminationGracePeriodSeconds: {words}")
    return found


def label_warnings(labels: Object, field: str) -> list[str]:
    """Labels of nodes that go by another name today."""
    return [f"{field}[{key}]: {DEPRECATED_LABELS[key]}" for key in labels if key in DEPRECATED_LABELS]


def term_warnings(term: Object, field: str) -> list[str]:
    """The same in a term of a node selector, or any list of `matchExpressions`."""
    return [
        f"{field}.matchExpressions[{i}].key: {requirement['key']} is {DEPRECATED_LABELS[requirement['key']]}"
        for i, requirement in enumerate(term.get("matchExpressions") or [])
        if requirement.get("key") in DEPRECATED_LABELS
    ]


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
        found += term_warnings(term, at)
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
