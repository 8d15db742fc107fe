"""PodSecurity: the Pod Security Standards, enforced, warned of and audited as a namespace's labels say."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.podsecurity_checks import (
    LATEST,
    LEVELS,
    PRIVILEGED,
    RESTRICTED,
    Finding,
    Version,
    evaluate,
)
from peavine.apiserver.admission.refusals import forbidden
from peavine.apiserver.admission.request import CREATE, UPDATE, AdmissionRequest, Plugin
from peavine.machinery import errors
from peavine.machinery.errors import FieldError

PREFIX = "pod-security.kubernetes.io/"
MODES = ("enforce", "audit", "warn")
PODS_EVALUATED_MAX = 3000

# (group, resource) of a workload -> where its pod template is.
_TEMPLATES: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "podtemplates"): ("template",),
    ("", "replicationcontrollers"): ("spec", "template"),
    ("apps", "replicasets"): ("spec", "template"),
    ("apps", "deployments"): ("spec", "template"),
    ("apps", "statefulsets"): ("spec", "template"),
    ("apps", "daemonsets"): ("spec", "template"),
    ("batch", "jobs"): ("spec", "template"),
    ("batch", "cronjobs"): ("spec", "jobTemplate", "spec", "template"),
}
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]*)")


class Policy(NamedTuple):
    """One mode's level and version, and the version as it was written."""

    level: str
    version: Version
    shown_version: str

    def __str__(self) -> str:
        return f"{self.level}:{self.shown_version}"


class PodSecurity(Plugin):
    name = "PodSecurity"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset((("", "pods"), ("", "namespaces"), *_TEMPLATES))

    def __init__(self, context: PluginContext) -> None:
        config = context.config.get(self.name) or {}
        self.lister = context.lister
        self.defaults: dict[str, str] = config.get("defaults") or {}
        exempt = config.get("exemptions") or {}
        self.exempt_users = frozenset(exempt.get("usernames") or ())
        self.exempt_namespaces = frozenset(exempt.get("namespaces") or ())
        self.exempt_classes = frozenset(exempt.get("runtimeClasses") or ())

    async def validate(self, req: AdmissionRequest) -> None:
        if req.obj is None:
            return
        if req.gvr.resource == "namespaces":
            if not req.subresource:
                self._namespace(req)
        elif req.gvr.resource == "pods":
            if req.subresource in ("", "ephemeralcontainers"):
                self._pod(req)
        elif not req.subresource:
            self._workload(req)

    def _pod(self, req: AdmissionRequest) -> None:
        assert req.obj is not None
        spec, metadata = req.obj["spec"], req.obj["metadata"]
        if self._exempt(req, spec):
            return
        if req.operation == UPDATE and req.old is not None and not _significant(req.obj, req.old):
            return
        policies, problems = self._policies(req.namespace)
        enforce = policies["enforce"]
        req.annotations[PREFIX + "enforce-policy"] = str(enforce)
        if problems:
            req.annotations[PREFIX + "error"] = "failed to parse policy: " + errors.aggregate(problems)
        findings = evaluate(enforce.level, enforce.version, metadata, spec)
        self._note(req, policies["audit"], metadata, spec)
        if findings:
            raise forbidden(req, f'violates PodSecurity "{enforce}": {_listed(findings)}')
        if policies["warn"] != enforce:
            self._warn(req, policies["warn"], metadata, spec)

    def _workload(self, req: AdmissionRequest) -> None:
        """Workloads are never refused, but whoever makes one hears now what its pods will meet."""
        template: Any = req.obj
        for part in _TEMPLATES[req.gvr.group, req.gvr.resource]:
            template = (template or {}).get(part)
        spec = (template or {}).get("spec")
        if not spec or self._exempt(req, spec):
            return
        policies, _ = self._policies(req.namespace)
        metadata = template.get("metadata") or {}
        self._note(req, policies["audit"], metadata, spec)
        self._warn(req, policies["warn"], metadata, spec)

    def _note(self, req: AdmissionRequest, policy: Policy, metadata: dict[str, Any], spec: dict[str, Any]) -> None:
        findings = evaluate(policy.level, policy.version, metadata, spec)
        if findings:
            req.annotations[PREFIX + "audit-violations"] = f'would violate PodSecurity "{policy}": {_listed(findings)}'

    def _warn(self, req: AdmissionRequest, policy: Policy, metadata: dict[str, Any], spec: dict[str, Any]) -> None:
        findings = evaluate(policy.level, policy.version, metadata, spec)
        if findings:
            req.warnings.append(f'would violate PodSecurity "{policy}": {_listed(findings)}')

    def _exempt(self, req: AdmissionRequest, spec: dict[str, Any]) -> bool:
        for what, holds in (
            ("namespace", req.namespace in self.exempt_namespaces),
            ("user", req.user.name in self.exempt_users),
            ("runtimeClass", spec.get("runtimeClassName") in self.exempt_classes),
        ):
            if holds:
                req.annotations[PREFIX + "exempt"] = what
                return True
        return False

    def _policies(self, namespace: str) -> tuple[dict[str, Policy], list[FieldError]]:
        found = self.lister.get("", "namespaces", None, namespace) or {"metadata": {}}
        return parse_policies(found["metadata"].get("labels") or {}, self.defaults)

    def _namespace(self, req: AdmissionRequest) -> None:
        assert req.obj is not None
        policies, problems = parse_policies(req.obj["metadata"].get("labels") or {}, self.defaults)
        before: dict[str, Policy] | None = None
        if req.operation == UPDATE and req.old is not None:
            before, old_problems = parse_policies(req.old["metadata"].get("labels") or {}, self.defaults)
            # A label that was wrong before may stay: others must be able to change the rest.
            if len(problems) <= len(old_problems):
                problems = [problem for problem in problems if str(problem) not in set(map(str, old_problems))]
        if problems:
            raise errors.invalid("Namespace", req.object_name, problems)
        enforce, name = policies["enforce"], req.object_name
        if before is None or enforce.level == PRIVILEGED or name in self.exempt_namespaces:
            return
        was = before["enforce"]
        if was == enforce or (was.version == enforce.version and LEVELS.index(enforce.level) < LEVELS.index(was.level)):
            return
        req.warnings += self._existing(name, enforce)

    def _existing(self, namespace: str, policy: Policy) -> list[str]:
        """What the pods that are there would have been refused for, by reason."""
        by_reasons: dict[str, list[str]] = {}
        for pod in self.lister.list("", "pods", namespace)[:PODS_EVALUATED_MAX]:
            if pod["spec"].get("runtimeClassName") in self.exempt_classes:
                continue
            findings = evaluate(policy.level, policy.version, pod["metadata"], pod["spec"])
            if findings:
                by_reasons.setdefault(", ".join(reason for reason, _ in findings), []).append(pod["metadata"]["name"])
        if not by_reasons:
            return []
        warnings = [f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{policy}"']
        for reasons, names in by_reasons.items():
            others = len(names) - 1
            more = "" if not others else " (and 1 other pod)" if others == 1 else f" (and {others} other pods)"
            warnings.append(f"{names[0]}{more}: {reasons}")
        return warnings


def parse_policies(labels: dict[str, str], defaults: dict[str, str]) -> tuple[dict[str, Policy], list[FieldError]]:
    """The policy of each mode. What cannot be read counts as restricted for enforce, privileged for the others."""
    policies: dict[str, Policy] = {}
    problems: list[FieldError] = []
    for mode in MODES:
        level = labels.get(PREFIX + mode, defaults.get(mode, PRIVILEGED))
        if level not in LEVELS:
            detail = "must be one of " + ", ".join(LEVELS)
            problems.append(errors.invalid_value(f"metadata.labels[{PREFIX}{mode}]", level, detail))
            level = RESTRICTED if mode == "enforce" else PRIVILEGED
        shown = labels.get(f"{PREFIX}{mode}-version", defaults.get(f"{mode}-version", "latest"))
        version = LATEST
        match = _VERSION.fullmatch(shown)
        if match:
            version = (1, int(match.group(1)))
        elif shown != "latest":
            detail = 'must be "latest" or "v1.x"'
            problems.append(errors.invalid_value(f"metadata.labels[{PREFIX}{mode}-version]", shown, detail))
            shown = "latest"
        policies[mode] = Policy(level, min(version, LATEST), shown)
    # Who is held to a level is warned of the same, unless they say otherwise.
    if PREFIX + "warn" not in labels and "warn" not in defaults and PREFIX + "enforce" in labels:
        policies["warn"] = policies["enforce"]
    return policies, problems


def _listed(findings: list[Finding]) -> str:
    return ", ".join(f"{reason} ({detail})" if detail else reason for reason, detail in findings)


def _significant(new: dict[str, Any], old: dict[str, Any]) -> bool:
    """Whether an update of a pod changes what the checks look at: images may change, and more containers may come."""
    if new["metadata"].get("annotations") != old["metadata"].get("annotations"):
        return True
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        now, then = new["spec"].get(kind) or [], old["spec"].get(kind) or []
        if len(now) != len(then):
            return True
        if any(a.get("image") != b.get("image") for a, b in zip(now, then)):
            return True
    return False
