"""The rules of probes and lifecycle hooks, and of what they do."""

from __future__ import annotations

from typing import Any

from peavine.api.core.pod_context import Pod
from peavine.api.fields import broken, non_negative
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]
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


def validate_probes(container: Object, field: str, pod: Pod) -> list[FieldError]:
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


def validate_lifecycle(lifecycle: Object | None, field: str, pod: Pod) -> list[FieldError]:
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
