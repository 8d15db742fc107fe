"""The rules of containers: name, image, ports, restarts; what is inside has modules of its own beside this one."""

from __future__ import annotations

from typing import Any

from peavine.api.core.environment_validation import validate_env, validate_env_from
from peavine.api.core.mount_validation import validate_devices, validate_mounts
from peavine.api.core.pod_context import Pod
from peavine.api.core.probe_validation import validate_lifecycle, validate_probes
from peavine.api.core.resource_validation import validate_requirements
from peavine.api.core.security_context_validation import validate_security_context
from peavine.api.fields import broken, named, one_of
from peavine.machinery import validation as rules
from peavine.machinery.errors import (
    FieldError,
    duplicate,
    field_not_found,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)

Object = dict[str, Any]
SIDECAR_ONLY = "may not be set for init containers without restartPolicy=Always"
EPHEMERAL_FORBIDDEN = (
    "ports",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
)


def validate_container(container: Object, field: str, pod: Pod) -> list[FieldError]:
    """What holds for every sort of container."""
    errors = named(f"{field}.name", container.get("name"), rules.is_dns1123_label)
    image = container.get("image") or ""
    if not image:
        errors.append(required(f"{field}.image"))
    elif image != image.strip():
        errors.append(invalid_value(f"{field}.image", image, "must not have leading or trailing whitespace"))
    errors += one_of(
        f"{field}.terminationMessagePolicy",
        container.get("terminationMessagePolicy"),
        ("FallbackToLogsOnError", "File"),
    )
    errors += _ports(container.get("ports") or [], f"{field}.ports")
    errors += validate_env(container.get("env") or [], f"{field}.env", pod)
    errors += validate_env_from(container.get("envFrom") or [], f"{field}.envFrom")
    errors += validate_mounts(container, field, pod)
    errors += validate_devices(container, field, pod)
    errors += one_of(f"{field}.imagePullPolicy", container.get("imagePullPolicy"), ("Always", "IfNotPresent", "Never"))
    errors += validate_requirements(container.get("resources") or {}, f"{field}.resources", pod.claims)
    errors += _resize_policy(container.get("resizePolicy") or [], f"{field}.resizePolicy", pod)
    return errors + validate_security_context(container.get("securityContext"), f"{field}.securityContext", pod)


def validate_containers(spec: Object, field: str, pod: Pod) -> list[FieldError]:
    containers = spec.get("containers") or []
    if not containers:
        return [required(f"{field}.containers")]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, container in enumerate(containers):
        at = f"{field}.containers[{i}]"
        errors += validate_container(container, at, pod)
        name = container.get("name") or ""
        if name in seen:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)
        errors += _restart(container, at, init=False)
        errors += validate_lifecycle(container.get("lifecycle"), f"{at}.lifecycle", pod)
        errors += validate_probes(container, at, pod)
    return errors + _host_ports(containers, f"{field}.containers")


def validate_init_containers(spec: Object, field: str, pod: Pod) -> list[FieldError]:
    errors: list[FieldError] = []
    regular = {c.get("name") for c in spec.get("containers") or []}
    seen: set[str] = set()
    for i, container in enumerate(spec.get("initContainers") or []):
        at = f"{field}.initContainers[{i}]"
        errors += validate_container(container, at, pod)
        errors += _restart(container, at, init=True)
        name = container.get("name") or ""
        if name and (name in seen or name in regular):
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)
        if container.get("restartPolicy") == "Always":
            errors += validate_lifecycle(container.get("lifecycle"), f"{at}.lifecycle", pod)
            errors += validate_probes(container, at, pod)
        else:
            for part in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
                if container.get(part) is not None:
                    errors.append(forbidden_field(f"{at}.{part}", SIDECAR_ONLY))
        errors += _host_ports([container], f"{field}.initContainers", i)
    return errors


def validate_ephemeral_containers(spec: Object, field: str, pod: Pod) -> list[FieldError]:
    errors: list[FieldError] = []
    others = {c.get("name") for part in ("containers", "initContainers") for c in spec.get(part) or []}
    regular = {c.get("name") for c in spec.get("containers") or []}
    seen: set[str] = set()
    for i, container in enumerate(spec.get("ephemeralContainers") or []):
        at = f"{field}.ephemeralContainers[{i}]"
        errors += validate_container(container, at, pod)
        name = container.get("name") or ""
        if name in seen or name in others:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)
        target = container.get("targetContainerName")
        if target and target not in regular:
            errors.append(field_not_found(f"{at}.targetContainerName", target))
        for part in EPHEMERAL_FORBIDDEN:
            if container.get(part) not in (None, {}, []):
                errors.append(forbidden_field(f"{at}.{part}", "cannot be set for an Ephemeral Container"))
        for j, mount in enumerate(container.get("volumeMounts") or []):
            for part in ("subPath", "subPathExpr"):
                if mount.get(part):
                    message = "cannot be set for an Ephemeral Container"
                    errors.append(forbidden_field(f"{at}.volumeMounts[{j}].{part}", message))
    return errors


def _restart(container: Object, field: str, *, init: bool) -> list[FieldError]:
    policy, restart_rules = container.get("restartPolicy"), container.get("restartPolicyRules") or []
    errors: list[FieldError] = []
    if policy is not None and policy not in ("Always", "Never", "OnFailure"):
        errors.append(not_supported(f"{field}.restartPolicy", policy, ["Always", "Never", "OnFailure"]))
    if restart_rules and policy is None:
        message = "must specify restartPolicy when restart rules are used"
        errors.append(required(f"{field}.restartPolicy", message))
    if init and policy == "Always" and restart_rules:
        message = "restartPolicyRules are not allowed for init containers with restart policy Always"
        errors.append(forbidden_field(f"{field}.restartPolicyRules", message))
    if len(restart_rules) > 20:
        errors.append(FieldError("TooLong", f"{field}.restartPolicyRules", "", "may not be more than 20 items"))
    for i, rule in enumerate(restart_rules):
        at = f"{field}.restartPolicyRules[{i}]"
        errors += one_of(f"{at}.action", rule.get("action"), ("Restart", "RestartAllContainers"))
        codes = rule.get("exitCodes")
        if codes is None:
            errors.append(required(f"{at}.exitCodes", "must be specified"))
            continue
        errors += one_of(f"{at}.exitCodes.operator", codes.get("operator"), ("In", "NotIn"))
        if len(codes.get("values") or []) > 255:
            errors.append(FieldError("TooLong", f"{at}.exitCodes.values", "", "may not be more than 255 items"))
    return errors


def _ports(ports: list[Object], field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, port in enumerate(ports):
        at = f"{field}[{i}]"
        name = port.get("name") or ""
        if name:
            messages = rules.is_port_name(name)
            errors += broken(f"{at}.name", name, messages)
            if not messages:
                if name in seen:
                    errors.append(duplicate(f"{at}.name", name))
                seen.add(name)
        number = port.get("containerPort") or 0
        if not number:
            errors.append(required(f"{at}.containerPort"))
        else:
            errors += broken(f"{at}.containerPort", number, rules.is_port_number(number))
        if port.get("hostPort"):
            errors += broken(f"{at}.hostPort", port["hostPort"], rules.is_port_number(port["hostPort"]))
        errors += one_of(f"{at}.protocol", port.get("protocol"), ("SCTP", "TCP", "UDP"))
        if port.get("hostIP"):
            errors += broken(f"{at}.hostIP", port["hostIP"], rules.is_ip(port["hostIP"]))
    return errors


def _host_ports(containers: list[Object], field: str, start: int = 0) -> list[FieldError]:
    errors = []
    seen: set[str] = set()
    for i, container in enumerate(containers, start):
        for j, port in enumerate(container.get("ports") or []):
            if port.get("hostPort"):
                text = f"{port.get('protocol') or ''}/{port.get('hostIP') or ''}/{port['hostPort']}"
                if text in seen:
                    errors.append(duplicate(f"{field}[{i}].ports[{j}].hostPort", text))
                seen.add(text)
    return errors


def _resize_policy(policies: list[Object], field: str, pod: Pod) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for policy in policies:
        resource = policy.get("resourceName") or ""
        if resource in seen:
            errors.append(duplicate(field, resource))
        seen.add(resource)
        if not resource:
            errors.append(required(field))
        elif resource not in ("cpu", "memory"):
            errors.append(not_supported(field, resource, ["cpu", "memory"]))
        restart = policy.get("restartPolicy") or ""
        if not restart:
            errors.append(required(field))
        elif restart not in ("NotRequired", "RestartContainer"):
            errors.append(not_supported(field, restart, ["NotRequired", "RestartContainer"]))
        if pod.restart_policy == "Never" and restart not in ("NotRequired", ""):
            errors.append(invalid_value(field, restart, "must be 'NotRequired' when `restartPolicy` is 'Never'"))
    return errors
