"""The rules of a pod spec, and of the templates that hold one."""

from __future__ import annotations

from typing import Any

from peavine.api import strict_ip
from peavine.api.core import container_validation as containers
from peavine.api.core.pod_context import Pod
from peavine.api.core.resource_validation import validate_pod_level
from peavine.api.core.scheduling_validation import (
    validate_affinity,
    validate_tolerations,
    validate_topology_spread,
)
from peavine.api.core.security_context_validation import validate_apparmor, validate_seccomp, validate_windows_options
from peavine.api.core.volume_validation import validate_volumes
from peavine.api.fields import broken, named, one_of, supported
from peavine.machinery import validation as rules
from peavine.machinery.errors import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)

Object = dict[str, Any]

INT32_MAX = 2**31 - 1


def validate_pod_template(template: Object, field: str, claims: set[str] | None = None) -> list[FieldError]:
    """A PodTemplateSpec. `claims` names volumes that a StatefulSet will add."""
    meta = template.get("metadata") or {}
    errors = rules.validate_labels(meta.get("labels"), f"{field}.labels")
    errors += rules.validate_annotations(meta.get("annotations"), f"{field}.annotations")
    spec = template.get("spec") or {}
    if claims:
        own = {v.get("name") for v in spec.get("volumes") or []}
        extra = [{"name": n, "persistentVolumeClaim": {"claimName": n}} for n in sorted(claims - own)]
        spec = {**spec, "volumes": [*(spec.get("volumes") or []), *extra]}
    errors += validate_pod_spec(spec, f"{field}.spec", meta)
    if spec.get("ephemeralContainers"):
        message = "ephemeral containers not allowed in pod template"
        errors.append(forbidden_field(f"{field}.spec.ephemeralContainers", message))
    return errors


def validate_pod_spec(spec: Object, field: str, meta: Object | None = None) -> list[FieldError]:
    volumes, errors = validate_volumes(spec, f"{field}.volumes")
    pod = Pod(spec, volumes)
    errors += _resource_claims(spec.get("resourceClaims") or [], f"{field}.resourceClaims")
    errors += containers.validate_containers(spec, field, pod)
    errors += containers.validate_init_containers(spec, field, pod)
    errors += containers.validate_ephemeral_containers(spec, field, pod)
    errors += validate_pod_level(spec, f"{field}.resources")
    errors += _host_network(spec, field)
    errors += one_of(f"{field}.restartPolicy", spec.get("restartPolicy"), ("Always", "Never", "OnFailure"))
    policies = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
    errors += one_of(f"{field}.dnsPolicy", spec.get("dnsPolicy"), policies)
    errors += rules.validate_labels(spec.get("nodeSelector"), f"{field}.nodeSelector")
    errors += _security_context(spec, field)
    for i, secret in enumerate(spec.get("imagePullSecrets") or []):
        if not secret.get("name"):
            errors.append(required(f"{field}.imagePullSecrets[{i}].name"))
    errors += validate_affinity(spec.get("affinity"), f"{field}.affinity")
    errors += _dns_config(spec, f"{field}.dnsConfig")
    for i, gate in enumerate(spec.get("readinessGates") or []):
        type = gate.get("conditionType") or ""
        errors += broken(f"{field}.readinessGates[{i}].conditionType", type, rules.is_qualified_name(type))
    errors += _scheduling_gates(spec.get("schedulingGates") or [], f"{field}.schedulingGates")
    constraints = spec.get("topologySpreadConstraints") or []
    errors += validate_topology_spread(constraints, f"{field}.topologySpreadConstraints")
    errors += _host_users(spec, field)
    errors += _names(spec, field)
    return errors + _rest(spec, field)


def _names(spec: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name, rule in (
        ("serviceAccountName", rules.is_dns1123_subdomain),
        ("nodeName", rules.is_dns1123_subdomain),
    ):
        if spec.get(name):
            errors += broken(f"{field}.{name}", spec[name], rule(spec[name]))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= INT32_MAX:
        message = f"must be between 1 and {INT32_MAX}, inclusive"
        errors.append(invalid_value(f"{field}.activeDeadlineSeconds", deadline, message))
    for name in ("hostname", "subdomain"):
        if spec.get(name):
            errors += broken(f"{field}.{name}", spec[name], rules.is_dns1123_label(spec[name]))
    override = spec.get("hostnameOverride")
    if override is not None:
        errors += broken(f"{field}.hostnameOverride", override, rules.is_dns1123_subdomain(override))
        if len(override) > 64:
            errors.append(FieldError("TooLong", f"{field}.hostnameOverride", "", "may not be more than 64 bytes"))
        if spec.get("hostNetwork"):
            errors.append(forbidden_field(f"{field}.hostnameOverride", "cannot be set when hostNetwork is true"))
        if spec.get("setHostnameAsFQDN"):
            message = "cannot be set when setHostnameAsFQDN is true"
            errors.append(forbidden_field(f"{field}.hostnameOverride", message))
    return errors


def _rest(spec: Object, field: str) -> list[FieldError]:
    errors = validate_tolerations(spec.get("tolerations") or [], f"{field}.tolerations")
    for i, alias in enumerate(spec.get("hostAliases") or []):
        ip = alias.get("ip") or ""
        errors += broken(f"{field}.hostAliases[{i}].ip", ip, strict_ip.is_ip(ip))
        for host in alias.get("hostnames") or []:
            errors += broken(f"{field}.hostAliases[{i}].hostnames", host, rules.is_dns1123_subdomain(host))
    for name in ("priorityClassName", "runtimeClassName"):
        if spec.get(name):
            errors += broken(f"{field}.{name}", spec[name], rules.is_dns1123_subdomain(spec[name]))
    policy = spec.get("preemptionPolicy")
    if policy is not None:
        errors += one_of(f"{field}.preemptionPolicy", policy, ("Never", "PreemptLowerPriority"))
    if spec.get("overhead"):
        from peavine.api.core.resource_validation import validate_requirements

        for error in validate_requirements({"limits": spec["overhead"]}, f"{field}.overhead"):
            error.field = error.field.replace(f"{field}.overhead.limits", f"{field}.overhead.limits")
            errors.append(error)
    system = spec.get("os")
    if system is not None:
        errors += _system(system, spec, field)
    return errors


def _system(system: Object, spec: Object, field: str) -> list[FieldError]:
    name = system.get("name") or ""
    if not name:
        return [required(f"{field}.os.name", "cannot be empty")]
    if name not in ("linux", "windows"):
        return [not_supported(f"{field}.os.name", name, ["linux", "windows"])]
    errors: list[FieldError] = []
    context = spec.get("securityContext") or {}
    if name == "linux":
        message = "windows options cannot be set for a linux pod"
        if context.get("windowsOptions") is not None:
            errors.append(forbidden_field(f"{field}.securityContext.windowsOptions", message))
        for part in ("containers", "initContainers", "ephemeralContainers"):
            for i, container in enumerate(spec.get(part) or []):
                if (container.get("securityContext") or {}).get("windowsOptions") is not None:
                    at = f"{field}.{part}[{i}].securityContext.windowsOptions"
                    errors.append(forbidden_field(at, message))
        return errors
    for option in ("hostPID", "hostIPC", "hostNetwork", "shareProcessNamespace"):
        if spec.get(option):
            errors.append(forbidden_field(f"{field}.{option}", "cannot be set for a windows pod"))
    linux_only = (
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
    )
    for option in linux_only:
        if context.get(option):
            message = "cannot be set for a windows pod"
            errors.append(forbidden_field(f"{field}.securityContext.{option}", message))
    return errors


def _host_network(spec: Object, field: str) -> list[FieldError]:
    """A container port of a pod on the host's network is that host port."""
    errors: list[FieldError] = []
    if not spec.get("hostNetwork"):
        return errors
    for part in ("containers", "initContainers"):
        for i, container in enumerate(spec.get(part) or []):
            for j, port in enumerate(container.get("ports") or []):
                host, own = port.get("hostPort") or 0, port.get("containerPort") or 0
                if host != own:
                    at = f"{field}.{part}[{i}].ports[{j}].containerPort"
                    message = "must match `hostPort` when `hostNetwork` is true"
                    errors.append(invalid_value(at, own, message))
    return errors


def _host_users(spec: Object, field: str) -> list[FieldError]:
    if spec.get("hostUsers") is not False:
        return []
    errors: list[FieldError] = []
    message = "when `pod.Spec.HostUsers` is false"
    for part in ("hostNetwork", "hostIPC", "hostPID"):
        if spec.get(part):
            errors.append(forbidden_field(f"{field}.{part}", message))
    for part in ("containers", "initContainers"):
        for i, container in enumerate(spec.get(part) or []):
            if container.get("volumeDevices"):
                at = f"{field}.{part}[{i}].volumeDevices"
                errors.append(forbidden_field(at, message))
    return errors


def _scheduling_gates(gates: list[Object], field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, gate in enumerate(gates):
        name = gate.get("name") or ""
        errors += broken(f"{field}[{i}]", name, rules.is_qualified_name(name))
        if name in seen:
            errors.append(duplicate(f"{field}[{i}]", name))
        seen.add(name)
    return errors


def _resource_claims(claims: list[Object], field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, claim in enumerate(claims):
        at = f"{field}[{i}]"
        name = claim.get("name") or ""
        errors += named(f"{at}.name", name, rules.is_dns1123_label)
        if name and name in seen:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)
        direct, template = claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName")
        if direct is not None and template is not None:
            message = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            errors.append(invalid_value(at, claim, message))
        elif direct is None and template is None:
            message = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(invalid_value(at, claim, message))
        for part in ("resourceClaimName", "resourceClaimTemplateName"):
            if claim.get(part) is not None:
                errors += broken(f"{at}.{part}", claim[part], rules.is_dns1123_subdomain(claim[part]))
    return errors


# Security


def _security_context(spec: Object, field: str) -> list[FieldError]:
    context, at = spec.get("securityContext"), f"{field}.securityContext"
    errors: list[FieldError] = []
    if context is None:
        return errors
    for part in ("fsGroup", "runAsUser", "runAsGroup"):
        if context.get(part) is not None:
            errors += broken(f"{at}.{part}", context[part], rules.is_user_id(context[part]))
    for i, group in enumerate(context.get("supplementalGroups") or []):
        errors += broken(f"{at}.supplementalGroups[{i}]", group, rules.is_group_id(group))
    if context.get("supplementalGroupsPolicy") is not None:
        value = context["supplementalGroupsPolicy"]
        errors += supported(f"{at}.supplementalGroupsPolicy", value, ("Merge", "Strict"))
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        message = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid_value(f"{field}.shareProcessNamespace", True, message))
    errors += _sysctls(context.get("sysctls") or [], spec, f"{at}.sysctls")
    if context.get("fsGroupChangePolicy") is not None:
        value = context["fsGroupChangePolicy"]
        errors += supported(f"{at}.fsGroupChangePolicy", value, ("Always", "OnRootMismatch"))
    errors += validate_seccomp(context.get("seccompProfile"), f"{at}.seccompProfile")
    errors += validate_windows_options(context.get("windowsOptions"), f"{at}.windowsOptions")
    if context.get("seLinuxChangePolicy") is not None:
        value = context["seLinuxChangePolicy"]
        errors += supported(f"{at}.seLinuxChangePolicy", value, ("MountOption", "Recursive"))
    return errors + validate_apparmor(context.get("appArmorProfile"), f"{at}.appArmorProfile")


def _sysctls(sysctls: list[Object], spec: Object, field: str) -> list[FieldError]:
    import re

    pattern = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, sysctl in enumerate(sysctls):
        name, at = sysctl.get("name") or "", f"{field}[{i}].name"
        if not name:
            errors.append(required(at))
        elif len(name) > 253 or not re.fullmatch(pattern, name):
            message = f"must have at most 253 characters and match regex ^{pattern}$"
            errors.append(invalid_value(at, name, message))
        elif name.replace("/", ".") in seen:
            errors.append(duplicate(at, name))
        for option, prefixes in (
            ("hostNetwork", ("net.",)),
            ("hostIPC", ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")),
        ):
            if spec.get(option) and name.replace("/", ".").startswith(prefixes):
                message = f"may not be specified when '{option}' is true"
                errors.append(invalid_value(at, name, message))
        seen.add(name.replace("/", "."))
    return errors


# DNS


def _dns_config(spec: Object, field: str) -> list[FieldError]:
    config = spec.get("dnsConfig")
    errors: list[FieldError] = []
    if spec.get("dnsPolicy") == "None":
        if config is None:
            message = 'must provide `dnsConfig` when `dnsPolicy` is "None"'
            return [required(field, message)]
        if not config.get("nameservers"):
            message = 'must provide at least one DNS nameserver when `dnsPolicy` is "None"'
            return [required(f"{field}.nameservers", message)]
    if config is None:
        return errors
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > 3:
        errors.append(invalid_value(f"{field}.nameservers", servers, "must not have more than 3 nameservers"))
    for i, server in enumerate(servers):
        errors += broken(f"{field}.nameservers[{i}]", server, strict_ip.is_ip(server))
    if len(searches) > 32:
        errors.append(invalid_value(f"{field}.searches", searches, "must not have more than 32 search paths"))
    if len(" ".join(searches)) > 2048:
        message = "must not have more than 2048 characters (including spaces) in the search list"
        errors.append(invalid_value(f"{field}.searches", searches, message))
    for i, search in enumerate(searches):
        if search == ".":
            continue
        text = search.removesuffix(".").replace("_", "-") if "_" in search else search.removesuffix(".")
        errors += broken(f"{field}.searches[{i}]", search, rules.is_dns1123_subdomain(text))
    for i, option in enumerate(config.get("options") or []):
        if not option.get("name"):
            errors.append(required(f"{field}.options[{i}]", "must not be empty"))
    return errors
