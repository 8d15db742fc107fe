"""The rules of what a container sees of volumes: mounts, block devices, and the paths in them."""

from __future__ import annotations

from typing import Any

from peavine.api.core.pod_context import Pod
from peavine.machinery.errors import (
    FieldError,
    field_not_found,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)

Object = dict[str, Any]


def validate_mounts(container: Object, field: str, pod: Pod) -> list[FieldError]:
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


def validate_devices(container: Object, field: str, pod: Pod) -> list[FieldError]:
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
