"""The rules of environment variables, and of references to fields and resources, in containers and volumes."""

from __future__ import annotations

import re
from typing import Any

from peavine.api.core.mount_validation import validate_local_path
from peavine.api.core.pod_context import Pod
from peavine.api.fields import broken, named
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, field_not_found, invalid_value, not_supported, required

Object = dict[str, Any]
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
SIZE_DIVISORS = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_SUBSCRIPT = re.compile(r"(.*)\['(.*)'\]", re.DOTALL)


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


def validate_env_from(sources: list[Object], field: str) -> list[FieldError]:
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
