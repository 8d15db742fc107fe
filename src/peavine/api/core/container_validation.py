"""The rules of one container: its name, image, ports, environment, mounts, probes, hooks and security."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from peavine.api.core.resource_validation import validate_requirements
from peavine.api.fields import broken, named, non_negative, one_of
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
Volumes = Mapping[str, Object]  # by name

SIDECAR_ONLY = "may not be set for init containers without restartPolicy=Always"
DOWNWARD_FIELDS = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
ENV_FIELDS = frozenset(f for f in DOWNWARD_FIELDS if f not in ("metadata.annotations", "metadata.labels"))
VOLUME_FIELDS = frozenset(
    ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
)
ENV_RESOURCES = frozenset(
    f"{part}.{name}" for part in ("limits", "requests") for name in ("cpu", "memory", "ephemeral-storage")
)
SIGNALS = frozenset(
    [
        "SIGABRT",
        "SIGALRM",
        "SIGBUS",
        "SIGCHLD",
        "SIGCLD",
        "SIGCONT",
        "SIGFPE",
        "SIGHUP",
        "SIGILL",
        "SIGINT",
        "SIGIO",
        "SIGIOT",
        "SIGKILL",
        "SIGPIPE",
        "SIGPOLL",
        "SIGPROF",
        "SIGPWR",
        "SIGQUIT",
        "SIGSEGV",
        "SIGSTKFLT",
        "SIGSTOP",
        "SIGSYS",
        "SIGTERM",
        "SIGTRAP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGUSR1",
        "SIGUSR2",
        "SIGVTALRM",
        "SIGWINCH",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGRTMIN",
        "SIGRTMAX",
    ]
    + [f"SIGRTMIN+{i}" for i in range(1, 16)]
    + [f"SIGRTMAX-{i}" for i in range(1, 15)]
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
    errors += _env_from(container.get("envFrom") or [], f"{field}.envFrom")
    errors += _mounts(container, field, pod)
    errors += _devices(container, field, pod)
    errors += one_of(f"{field}.imagePullPolicy", container.get("imagePullPolicy"), ("Always", "IfNotPresent", "Never"))
    errors += validate_requirements(container.get("resources") or {}, f"{field}.resources", pod.claims)
    errors += _resize_policy(container.get("resizePolicy") or [], f"{field}.resizePolicy", pod)
    return errors + validate_security_context(container.get("securityContext"), f"{field}.securityContext", pod)


class Pod:
    """What the rules of a container need to know of its pod."""

    __slots__ = ("claims", "grace", "host_users", "os", "restart_policy", "volumes")

    def __init__(self, spec: Object, volumes: Volumes) -> None:
        self.volumes = volumes
        self.claims = {claim.get("name") or "": claim for claim in spec.get("resourceClaims") or []}
        self.grace = spec.get("terminationGracePeriodSeconds") or 0
        self.restart_policy = spec.get("restartPolicy") or ""
        self.os = (spec.get("os") or {}).get("name") or ""
        self.host_users = spec.get("hostUsers")


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
        errors += _lifecycle(container.get("lifecycle"), f"{at}.lifecycle", pod)
        errors += _probes(container, at, pod)
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
            errors += _lifecycle(container.get("lifecycle"), f"{at}.lifecycle", pod)
            errors += _probes(container, at, pod)
        else:
            for part in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
                if container.get(part) is not None:
                    errors.append(forbidden_field(f"{at}.{part}", SIDECAR_ONLY))
        errors += _host_ports([container], f"{field}.initContainers", i)
    return errors


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


# Ports


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


# Environment


def validate_env(variables: list[Object], field: str, pod: Pod | None = None) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, variable in enumerate(variables):
        at = f"{field}[{i}]"
        errors += named(f"{at}.name", variable.get("name"), rules.is_env_var_name)
        source = variable.get("valueFrom")
        if source is not None:
            errors += _env_source(source, variable, f"{at}.valueFrom", pod)
    return errors


def _env_source(source: Object, variable: Object, field: str, pod: Pod | None) -> list[FieldError]:
    errors: list[FieldError] = []
    count = 0
    if (reference := source.get("fieldRef")) is not None:
        count += 1
        errors += validate_field_reference(reference, f"{field}.fieldRef", ENV_FIELDS)
    if (reference := source.get("resourceFieldRef")) is not None:
        count += 1
        errors += validate_resource_reference(reference, f"{field}.resourceFieldRef", in_volume=False)
    for part in ("configMapKeyRef", "secretKeyRef"):
        if (reference := source.get(part)) is not None:
            count += 1
            errors += named(f"{field}.{part}.name", reference.get("name"), rules.is_dns1123_subdomain)
            errors += named(f"{field}.{part}.key", reference.get("key"), rules.is_config_map_key)
    if (reference := source.get("fileKeyRef")) is not None:
        count += 1
        errors += _file_key(reference, f"{field}.fileKeyRef", pod)
    if variable.get("value"):
        if count:
            errors.append(invalid_value(field, "", "may not be specified when `value` is not empty"))
    elif count > 1:
        errors.append(invalid_value(field, "", "may not have more than one field specified at a time"))
    elif not count:
        message = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        )
        errors.append(invalid_value(field, "", message))
    return errors


def _file_key(reference: Object, field: str, pod: Pod | None) -> list[FieldError]:
    errors = named(f"{field}.key", reference.get("key"), rules.is_env_var_name)
    volume = reference.get("volumeName") or ""
    if not volume:
        errors.append(required(f"{field}.volumeName"))
    else:
        errors += broken(f"{field}.volumeName", volume, rules.is_dns1123_label(volume))
        if pod is not None and volume not in pod.volumes:
            errors.append(field_not_found(f"{field}.volumeName", volume))
        elif pod is not None and "emptyDir" not in pod.volumes[volume]:
            message = "referenced volume must be of type emptyDir"
            errors.append(invalid_value(f"{field}.volumeName", volume, message))
    path = reference.get("path") or ""
    if not path:
        errors.append(required(f"{field}.path"))
    return errors + (validate_local_path(path, f"{field}.path") if path else [])


_SUBSCRIPT = re.compile(r"(.*)\['(.*)'\]", re.DOTALL)


def validate_field_reference(reference: Object, field: str, allowed: frozenset[str]) -> list[FieldError]:
    """A reference to a field of the pod; labels and annotations may be subscripted."""
    if not reference.get("apiVersion"):
        return [required(f"{field}.apiVersion")]
    path = reference.get("fieldPath") or ""
    if not path:
        return [required(f"{field}.fieldPath")]
    if match := _SUBSCRIPT.fullmatch(path):
        base, key = match[1], match[2]
        if base == "metadata.annotations":
            return broken(f"{field}.fieldPath", path, rules.is_qualified_name(key.lower()))
        if base == "metadata.labels":
            return broken(f"{field}.fieldPath", path, rules.is_qualified_name(key))
        return [invalid_value(f"{field}.fieldPath", path, "does not support subscript")]
    if reference["apiVersion"] != "v1" or path not in DOWNWARD_FIELDS:
        message = f"error converting fieldPath: field label not supported: {path}"
        return [invalid_value(f"{field}.fieldPath", path, message)]
    if path not in allowed:
        return [not_supported(f"{field}.fieldPath", path, sorted(allowed))]
    return []


def validate_resource_reference(reference: Object, field: str, *, in_volume: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    if in_volume and not reference.get("containerName"):
        errors.append(required(f"{field}.containerName"))
    resource = reference.get("resource") or ""
    if not resource:
        errors.append(required(f"{field}.resource"))
    elif resource not in ENV_RESOURCES and not re.match(r"(limits|requests)\.hugepages-", resource):
        errors.append(not_supported(f"{field}.resource", resource, sorted(ENV_RESOURCES)))
    return errors + _divisor(resource, str(reference.get("divisor") or "0"), field)


SIZE_DIVISORS = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")


def _divisor(resource: str, divisor: str, field: str) -> list[FieldError]:
    name = resource.partition(".")[2]
    if divisor == "0":
        return []
    if name == "cpu":
        if divisor in ("1m", "1"):
            return []
        message = "only divisor's values 1m and 1 are supported with the cpu resource"
        return [invalid_value(f"{field}.divisor", "cpu", message)]
    words = {"memory": "memory", "ephemeral-storage": "local ephemeral storage"}.get(name)
    if name.startswith("hugepages-"):
        words = "hugepages"
    if words is None or divisor in SIZE_DIVISORS:
        return []
    message = f"only divisor's values {', '.join(SIZE_DIVISORS)} are supported with the {words} resource"
    return [invalid_value(f"{field}.divisor", name, message)]


def _env_from(sources: list[Object], field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, source in enumerate(sources):
        at = f"{field}[{i}]"
        if source.get("prefix"):
            errors += broken(f"{at}.prefix", source["prefix"], rules.is_env_var_name(source["prefix"]))
        count = 0
        for part in ("configMapRef", "secretRef"):
            if (reference := source.get(part)) is not None:
                count += 1
                errors += named(f"{at}.{part}.name", reference.get("name"), rules.is_dns1123_subdomain)
        if count == 0:
            errors.append(invalid_value(at, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif count > 1:
            errors.append(invalid_value(at, "", "may not have more than one field specified at a time"))
    return errors


# Mounts


def _mounts(container: Object, field: str, pod: Pod) -> list[FieldError]:
    errors: list[FieldError] = []
    paths: set[str] = set()
    devices = {d.get("devicePath") for d in container.get("volumeDevices") or []}
    device_names = {d.get("name") for d in container.get("volumeDevices") or []}
    for i, mount in enumerate(container.get("volumeMounts") or []):
        at = f"{field}.volumeMounts[{i}]"
        name, path = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            errors.append(required(f"{at}.name"))
        volume = pod.volumes.get(name)
        if volume is None:
            errors.append(field_not_found(f"{at}.name", name))
        if not path:
            errors.append(required(f"{at}.mountPath"))
        if path in paths:
            errors.append(invalid_value(f"{at}.mountPath", path, "must be unique"))
        paths.add(path)
        if name in device_names:
            errors.append(invalid_value(f"{at}.name", name, "must not already exist in volumeDevices"))
        if path in devices:
            message = "must not already exist as a path in volumeDevices"
            errors.append(invalid_value(f"{at}.mountPath", path, message))
        if mount.get("subPath"):
            errors += validate_local_path(mount["subPath"], f"{field}.volumeMounts.subPath")
        if mount.get("subPathExpr"):
            if mount.get("subPath"):
                message = "subPathExpr and subPath are mutually exclusive"
                errors.append(invalid_value(f"{at}.subPathExpr", mount["subPathExpr"], message))
            errors += validate_local_path(mount["subPathExpr"], f"{field}.volumeMounts.subPathExpr")
        errors += _mount_modes(mount, at, container)
    return errors


def _mount_modes(mount: Object, field: str, container: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    propagation = mount.get("mountPropagation")
    privileged = (container.get("securityContext") or {}).get("privileged")
    if propagation is not None:
        modes = ("Bidirectional", "HostToContainer", "None")
        if propagation not in modes:
            errors.append(not_supported(f"{field}.mountPropagation", propagation, modes))
        elif propagation == "Bidirectional" and not privileged:
            message = "Bidirectional mount propagation is available only to privileged containers"
            errors.append(forbidden_field(f"{field}.mountPropagation", message))
    recursive = mount.get("recursiveReadOnly")
    if recursive is not None:
        modes = ("Disabled", "Enabled", "IfPossible")
        if recursive not in modes:
            errors.append(not_supported(f"{field}.recursiveReadOnly", recursive, modes))
        elif recursive != "Disabled":
            if not mount.get("readOnly"):
                errors.append(
                    forbidden_field(f"{field}.recursiveReadOnly", "may only be specified when readOnly is true")
                )
            if propagation not in (None, "None"):
                message = "may only be specified when mountPropagation is None or not specified"
                errors.append(forbidden_field(f"{field}.recursiveReadOnly", message))
    return errors


def _devices(container: Object, field: str, pod: Pod) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    paths: set[str] = set()
    for i, device in enumerate(container.get("volumeDevices") or []):
        at = f"{field}.volumeDevices[{i}]"
        name, path = device.get("name") or "", device.get("devicePath") or ""
        if not name:
            errors.append(required(f"{at}.name"))
        if name in names:
            errors.append(invalid_value(f"{at}.name", name, "must be unique"))
        volume = pod.volumes.get(name)
        if volume is None:
            errors.append(field_not_found(f"{at}.name", name))
        elif volume.get("persistentVolumeClaim") is None and volume.get("ephemeral") is None:
            message = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            errors.append(invalid_value(f"{at}.name", name, message))
        if not path:
            errors.append(required(f"{at}.devicePath"))
        elif path in paths:
            errors.append(invalid_value(f"{at}.devicePath", path, "must be unique"))
        if path and ".." in path.split("/"):
            errors.append(invalid_value(f"{at}.devicePath", path, "can not contain backsteps ('..')"))
        names.add(name)
        paths.add(path)
    return errors


def validate_local_path(path: str, field: str) -> list[FieldError]:
    """A relative path that does not climb out."""
    if path.startswith("/"):
        return [invalid_value(field, path, "must be a relative path")]
    return validate_no_backsteps(path, field)


def validate_no_backsteps(path: str, field: str) -> list[FieldError]:
    if ".." in path.replace("\\", "/").split("/"):
        return [invalid_value(field, path, "must not contain '..'")]
    return []


# Probes and hooks


def _probes(container: Object, field: str, pod: Pod) -> list[FieldError]:
    errors: list[FieldError] = []
    liveness, startup = container.get("livenessProbe"), container.get("startupProbe")
    errors += _probe(liveness, f"{field}.livenessProbe", pod)
    if liveness is not None and (liveness.get("successThreshold") or 0) != 1:
        at = f"{field}.livenessProbe.successThreshold"
        errors.append(invalid_value(at, liveness.get("successThreshold") or 0, "must be 1"))
    readiness = container.get("readinessProbe")
    errors += _probe(readiness, f"{field}.readinessProbe", pod)
    if readiness is not None and readiness.get("terminationGracePeriodSeconds") is not None:
        at = f"{field}.readinessProbe.terminationGracePeriodSeconds"
        message = "must not be set for readinessProbes"
        errors.append(invalid_value(at, readiness["terminationGracePeriodSeconds"], message))
    errors += _probe(startup, f"{field}.startupProbe", pod)
    if startup is not None and (startup.get("successThreshold") or 0) != 1:
        at = f"{field}.startupProbe.successThreshold"
        errors.append(invalid_value(at, startup.get("successThreshold") or 0, "must be 1"))
    return errors


def _probe(probe: Object | None, field: str, pod: Pod) -> list[FieldError]:
    if probe is None:
        return []
    errors = _handler(probe, field, pod, ("exec", "httpGet", "tcpSocket", "grpc"))
    for part in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        errors += non_negative(f"{field}.{part}", probe.get(part))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        errors.append(invalid_value(f"{field}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
    return errors


def _lifecycle(lifecycle: Object | None, field: str, pod: Pod) -> list[FieldError]:
    errors: list[FieldError] = []
    if lifecycle is None:
        return errors
    for part in ("postStart", "preStop"):
        if (handler := lifecycle.get(part)) is not None:
            errors += _handler(handler, f"{field}.{part}", pod, ("exec", "httpGet", "tcpSocket", "sleep"))
    signal = lifecycle.get("stopSignal")
    if signal is not None:
        if not pod.os:
            errors.append(
                forbidden_field(f"{field}.stopSignal", "may not be set for containers with empty `spec.os.name`")
            )
        elif pod.os == "windows":
            if signal not in ("SIGTERM", "SIGKILL"):
                errors.append(not_supported(f"{field}.stopSignal", signal, ["SIGKILL", "SIGTERM"]))
        elif signal not in SIGNALS:
            errors.append(not_supported(f"{field}.stopSignal", signal, sorted(SIGNALS)))
    return errors


def _handler(handler: Object, field: str, pod: Pod, kinds: tuple[str, ...]) -> list[FieldError]:
    errors: list[FieldError] = []
    count = 0
    for kind in kinds:
        action = handler.get(kind)
        if action is None:
            continue
        if count:
            errors.append(forbidden_field(f"{field}.{kind}", "may not specify more than 1 handler type"))
            continue
        count += 1
        errors += _action(kind, action, f"{field}.{kind}", pod)
    if not count:
        errors.append(required(field, "must specify a handler type"))
    return errors


def _action(kind: str, action: Object, field: str, pod: Pod) -> list[FieldError]:
    if kind == "exec":
        return [] if action.get("command") else [required(f"{field}.command")]
    if kind == "sleep":
        seconds = action.get("seconds") or 0
        if seconds < 0 or seconds > pod.grace:
            message = f"must be non-negative and less than terminationGracePeriodSeconds ({pod.grace})."
            return [invalid_value(f"{field}.seconds", seconds, message)]
        return []
    if kind == "grpc":
        return broken(f"{field}.port", action.get("port") or 0, rules.is_port_number(action.get("port") or 0))
    port = action.get("port")
    errors: list[FieldError] = []
    if kind == "httpGet" and not action.get("path"):
        errors.append(required(f"{field}.path"))
    errors += rules.validate_port_number_or_name(0 if port is None else port, f"{field}.port")
    if kind == "httpGet":
        if action.get("scheme") not in ("HTTP", "HTTPS"):
            errors.append(not_supported(f"{field}.scheme", action.get("scheme") or "", ["HTTP", "HTTPS"]))
        for header in action.get("httpHeaders") or []:
            name = header.get("name") or ""
            errors += broken(f"{field}.httpHeaders", name, rules.is_http_header_name(name))
    return errors


# Resizing and security


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


def validate_security_context(context: Object | None, field: str, pod: Pod) -> list[FieldError]:
    errors: list[FieldError] = []
    if context is None:
        return errors
    for part in ("runAsUser", "runAsGroup"):
        if context.get(part) is not None:
            errors += broken(f"{field}.{part}", context[part], rules.is_user_id(context[part]))
    errors += validate_seccomp(context.get("seccompProfile"), f"{field}.seccompProfile")
    mount = context.get("procMount")
    if mount is not None:
        if mount not in ("Default", "Unmasked"):
            errors.append(not_supported(f"{field}.procMount", mount, ["Default", "Unmasked"]))
        elif mount == "Unmasked" and pod.host_users is not False:
            message = "`hostUsers` must be false to use `Unmasked`"
            errors.append(invalid_value(f"{field}.procMount", mount, message))
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            message = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(invalid_value(field, context, message))
        added = (context.get("capabilities") or {}).get("add") or []
        if "CAP_SYS_ADMIN" in added:
            message = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errors.append(invalid_value(field, context, message))
    errors += validate_windows_options(context.get("windowsOptions"), f"{field}.windowsOptions")
    return errors + validate_apparmor(context.get("appArmorProfile"), f"{field}.appArmorProfile")


def validate_seccomp(profile: Object | None, field: str) -> list[FieldError]:
    return _profile(profile, field, ("Localhost", "RuntimeDefault", "Unconfined"), "seccomp")


def validate_apparmor(profile: Object | None, field: str) -> list[FieldError]:
    return _profile(profile, field, ("Localhost", "RuntimeDefault", "Unconfined"), "AppArmor")


def _profile(profile: Object | None, field: str, types: tuple[str, ...], what: str) -> list[FieldError]:
    if profile is None:
        return []
    type, local = profile.get("type") or "", profile.get("localhostProfile")
    if type == "Localhost":
        if local is None:
            return [required(f"{field}.localhostProfile", f"must be set when {what.lower()} type is Localhost")]
        if what == "AppArmor":
            if local != local.strip():
                message = "must not be padded with whitespace"
                return [invalid_value(f"{field}.localhostProfile", local, message)]
            if not local:
                message = "must be set when AppArmor type is Localhost"
                return [required(f"{field}.localhostProfile", message)]
            return []
        return validate_local_path(local, f"{field}.localhostProfile")
    errors: list[FieldError] = []
    if local is not None:
        message = f"can only be set when {what.lower() if what == 'seccomp' else what} type is Localhost"
        errors.append(invalid_value(f"{field}.localhostProfile", local, message))
    if not type:
        errors.append(
            required(
                f"{field}.type",
                "type is required when seccompProfile is set"
                if what == "seccomp"
                else "type is required when appArmorProfile is set",
            )
        )
    elif type not in types:
        errors.append(not_supported(f"{field}.type", type, sorted(types)))
    return errors


def validate_windows_options(options: Object | None, field: str) -> list[FieldError]:
    if options is None:
        return []
    errors: list[FieldError] = []
    name = options.get("gmsaCredentialSpecName")
    if name is not None:
        errors += named(f"{field}.gmsaCredentialSpecName", name, rules.is_dns1123_subdomain)
    text = options.get("gmsaCredentialSpec")
    if text is not None:
        if not text:
            errors.append(
                invalid_value(f"{field}.gmsaCredentialSpec", text, "gmsaCredentialSpec cannot be an empty string")
            )
        elif len(text) > 64 * 1024:
            message = "gmsaCredentialSpec size must be under 64 KiB"
            errors.append(invalid_value(f"{field}.gmsaCredentialSpec", text, message))
    user = options.get("runAsUserName")
    if user is not None and not user:
        errors.append(invalid_value(f"{field}.runAsUserName", user, "runAsUserName cannot be an empty string"))
    return errors
