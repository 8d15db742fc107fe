"""The rules of volumes: one source each, and what each source must say. Persistent volumes share the sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peavine.api.core.environment_validation import (
    VOLUME_FIELDS,
    validate_field_reference,
    validate_resource_reference,
)
from peavine.api.core.mount_validation import validate_local_path, validate_no_backsteps
from peavine.api.fields import broken, quantity
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]
Errors = list[FieldError]

MODE_RANGE = "must be a number between 0 and 0777 (octal), both inclusive"


def validate_volumes(spec: Object, field: str) -> tuple[dict[str, Object], Errors]:
    """The volumes by name, and what is wrong with them."""
    errors: Errors = []
    found: dict[str, Object] = {}
    for i, volume in enumerate(spec.get("volumes") or []):
        at = f"{field}[{i}]"
        own = validate_source({k: v for k, v in volume.items() if k != "name"}, at, volume.get("name") or "")
        name = volume.get("name") or ""
        if not name:
            own.append(required(f"{at}.name"))
        else:
            own += broken(f"{at}.name", name, rules.is_dns1123_label(name))
        if name in found:
            own.append(duplicate(f"{at}.name", name))
        errors += own
        if not own:
            found[name] = volume
    return found, errors


def validate_source(source: Object, field: str, name: str) -> Errors:
    """Exactly one source, and its own rules."""
    errors: Errors = []
    count = 0
    for kind in SOURCES:
        value = source.get(kind)
        if value is None:
            continue
        if count:
            errors.append(forbidden_field(f"{field}.{kind}", "may not specify more than 1 volume type"))
            continue
        count += 1
        errors += SOURCES[kind](value, f"{field}.{kind}")
    if not count:
        errors.append(required(field, "must specify a volume type"))
    claim = (source.get("ephemeral") or {}).get("volumeClaimTemplate")
    if claim is not None and name and len(name) > 63:
        errors.append(FieldError("TooLong", f"{field}.name", "", "may not be more than 63 bytes"))
    return errors


def _needs(*names: str) -> Callable[[Object, str], Errors]:
    def check(source: Object, field: str) -> Errors:
        return [required(f"{field}.{name}") for name in names if not source.get(name)]

    return check


def _nothing(source: Object, field: str) -> Errors:
    return []


def empty_dir(source: Object, field: str) -> Errors:
    limit = source.get("sizeLimit")
    if limit is not None and quantity(limit).nanos < 0:
        return [forbidden_field(f"{field}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
    return []


HOST_PATH_TYPES = (
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)


def host_path(source: Object, field: str) -> Errors:
    path, type = source.get("path") or "", source.get("type")
    if not path:
        return [required(f"{field}.path")]
    errors = validate_no_backsteps(path, f"{field}.path")
    if type and type not in HOST_PATH_TYPES:
        errors.append(not_supported(f"{field}.type", type, HOST_PATH_TYPES))
    return errors


def _partition(source: Object, field: str, name: str) -> Errors:
    errors = [] if source.get(name) else [required(f"{field}.{name}")]
    part = source.get("partition") or 0
    if not 0 <= part <= 255:
        errors.append(invalid_value(f"{field}.partition", part, "must be between 0 and 255, inclusive"))
    return errors


def nfs(source: Object, field: str) -> Errors:
    errors = [required(f"{field}.{name}") for name in ("server", "path") if not source.get(name)]
    if source.get("path") and not source["path"].startswith("/"):
        errors.append(invalid_value(f"{field}.path", source["path"], "must be an absolute path"))
    return errors


def iscsi(source: Object, field: str) -> Errors:
    errors = [required(f"{field}.{name}") for name in ("targetPortal", "iqn") if not source.get(name)]
    iqn = source.get("iqn") or ""
    if iqn and not iqn.startswith(("iqn", "eui", "naa")):
        errors.append(invalid_value(f"{field}.iqn", iqn, "must be valid format starting with iqn, eui, or naa"))
    lun = source.get("lun") or 0
    if not 0 <= lun <= 255:
        errors.append(invalid_value(f"{field}.lun", lun, "must be between 0 and 255, inclusive"))
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and source.get("secretRef") is None:
        errors.append(required(f"{field}.secretRef"))
    return errors


def fc(source: Object, field: str) -> Errors:
    names, ids = source.get("targetWWNs") or [], source.get("wwids") or []
    if not names and not ids:
        return [required(f"{field}.targetWWNs", "must specify either targetWWNs or wwids, but not both")]
    if names and ids:
        message = "targetWWNs and wwids can not be specified simultaneously"
        return [invalid_value(f"{field}.targetWWNs", names, message)]
    if names:
        lun = source.get("lun")
        if lun is None:
            return [required(f"{field}.lun", "lun is required if targetWWNs is specified")]
        if not 0 <= lun <= 255:
            return [invalid_value(f"{field}.lun", lun, "must be between 0 and 255, inclusive")]
    return []


def projected_file(item: Object, field: str) -> Errors:
    """A key and where it goes."""
    errors: Errors = []
    if not item.get("key"):
        errors.append(required(f"{field}.key"))
    path = item.get("path") or ""
    if not path:
        errors.append(required(f"{field}.path"))
    else:
        errors += validate_local_path(path, f"{field}.path")
        if path.startswith(".."):
            errors.append(invalid_value(f"{field}.path", path, "must not start with '..'"))
    return errors + _mode(item.get("mode"), f"{field}.mode")


def _mode(mode: int | None, field: str) -> Errors:
    if mode is not None and not 0 <= mode <= 0o777:
        return [invalid_value(field, mode, MODE_RANGE)]
    return []


def secret(source: Object, field: str) -> Errors:
    errors = [] if source.get("secretName") else [required(f"{field}.secretName")]
    errors += _mode(source.get("defaultMode"), f"{field}.defaultMode")
    for i, item in enumerate(source.get("items") or []):
        errors += projected_file(item, f"{field}.items[{i}]")
    return errors


def config_map(source: Object, field: str) -> Errors:
    errors = [] if source.get("name") else [required(f"{field}.name")]
    errors += _mode(source.get("defaultMode"), f"{field}.defaultMode")
    for i, item in enumerate(source.get("items") or []):
        errors += projected_file(item, f"{field}.items[{i}]")
    return errors


def downward_file(item: Object, field: str) -> Errors:
    errors: Errors = []
    path = item.get("path") or ""
    if not path:
        errors.append(required(f"{field}.path"))
    else:
        errors += validate_local_path(path, f"{field}.path")
        if path.startswith(".."):
            errors.append(invalid_value(f"{field}.path", path, "must not start with '..'"))
    reference, resource = item.get("fieldRef"), item.get("resourceFieldRef")
    if reference is not None:
        errors += validate_field_reference(reference, f"{field}.fieldRef", VOLUME_FIELDS)
        if resource is not None:
            message = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(invalid_value(field, "resource", message))
    elif resource is not None:
        errors += validate_resource_reference(resource, f"{field}.resourceFieldRef", in_volume=True)
    else:
        errors.append(required(f"{field}.fieldRef", "one of fieldRef and resourceFieldRef is required"))
    return errors + _mode(item.get("mode"), f"{field}.mode")


def downward_api(source: Object, field: str) -> Errors:
    errors = _mode(source.get("defaultMode"), f"{field}.defaultMode")
    for i, item in enumerate(source.get("items") or []):
        errors += downward_file(item, f"{field}.items[{i}]" if i else f"{field}")
    return errors


def projected(source: Object, field: str) -> Errors:
    errors = _mode(source.get("defaultMode"), f"{field}.defaultMode")
    paths: set[str] = set()

    def path(value: str, at: str) -> None:
        if value:
            if value in paths:
                errors.append(invalid_value(field, value, "conflicting duplicate paths"))
            paths.add(value)

    for i, part in enumerate(source.get("sources") or []):
        at = f"{field}.sources[{i}]"
        count = 0
        for kind, value in part.items():
            if value is None:
                continue
            count += 1
            if count > 1:
                errors.append(
                    forbidden_field(
                        f"{field}.sources[{i}].{kind}", "may not specify more than 1 volume type per source"
                    )
                )
                break
            errors += _projection(kind, value, f"{at}.{kind}", path)
        if not count:
            errors.append(required(at, "must specify a volume type"))
    return errors


def _projection(kind: str, value: Object, at: str, path: Callable[[str, str], None]) -> Errors:
    errors: Errors = []
    if kind in ("secret", "configMap"):
        if not value.get("name"):
            errors.append(required(f"{at}.name"))
        for i, item in enumerate(value.get("items") or []):
            errors += projected_file(item, f"{at}.items[{i}]")
            path(item.get("path") or "", at)
    elif kind == "downwardAPI":
        for i, item in enumerate(value.get("items") or []):
            errors += downward_file(item, f"{at}.items[{i}]" if i else at)
            path(item.get("path") or "", at)
    elif kind == "serviceAccountToken":
        seconds = value.get("expirationSeconds")
        if seconds is not None and seconds < 600:
            errors.append(
                invalid_value(f"{at}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
            )
        elif seconds is not None and seconds > 2**32:
            errors.append(
                invalid_value(f"{at}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
            )
        if not value.get("path"):
            errors.append(required(f"{at}.path"))
        path(value.get("path") or "", at)
    elif kind == "clusterTrustBundle":
        errors += _trust_bundle(value, at)
        path(value.get("path") or "", at)
    elif kind == "podCertificate":
        errors += _pod_certificate(value, at)
        for name in ("credentialBundlePath", "keyPath", "certificateChainPath"):
            path(value.get(name) or "", at)
    return errors


def _trust_bundle(value: Object, at: str) -> Errors:
    errors: Errors = []
    name, signer = value.get("name"), value.get("signerName")
    if name is not None and signer is not None:
        errors.append(invalid_value(at, "", "only one of name and signerName may be used"))
    elif name is None and signer is None:
        errors.append(required(at, "either name or signerName must be specified"))
    elif name is not None:
        if value.get("labelSelector") is not None:
            message = "labelSelector cannot be used with name"
            errors.append(invalid_value(f"{at}.labelSelector", value["labelSelector"], message))
        if not name:
            errors.append(required(f"{at}.name", "must be a valid object name"))
    if not value.get("path"):
        errors.append(required(f"{at}.path"))
    else:
        errors += validate_local_path(value["path"], f"{at}.path")
    return errors


def _pod_certificate(value: Object, at: str) -> Errors:
    errors: Errors = []
    if not value.get("signerName"):
        errors.append(required(f"{at}.signerName"))
    types = ("ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096")
    if value.get("keyType") not in types:
        errors.append(not_supported(f"{at}.keyType", value.get("keyType") or "", types))
    seconds = value.get("maxExpirationSeconds")
    if seconds is not None and not 3600 <= seconds <= 91 * 86400:
        errors.append(
            invalid_value(f"{at}.maxExpirationSeconds", seconds, "must be between 3600 and 7862400, inclusive")
        )
    if not value.get("credentialBundlePath") and not value.get("keyPath") and not value.get("certificateChainPath"):
        message = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"
        errors.append(required(at, message))
    return errors


def claim(source: Object, field: str) -> Errors:
    return [] if source.get("claimName") else [required(f"{field}.claimName")]


def ephemeral(source: Object, field: str) -> Errors:
    template = source.get("volumeClaimTemplate")
    if template is None:
        return [required(f"{field}.volumeClaimTemplate")]
    from peavine.api.core.persistentvolumeclaim import validate_spec

    at = f"{field}.volumeClaimTemplate"
    errors = rules.validate_labels((template.get("metadata") or {}).get("labels"), f"{at}.metadata.labels")
    errors += rules.validate_annotations(
        (template.get("metadata") or {}).get("annotations"), f"{at}.metadata.annotations"
    )
    return errors + validate_spec(template.get("spec") or {}, f"{at}.spec")


def csi(source: Object, field: str) -> Errors:
    errors = driver_name(source.get("driver") or "", f"{field}.driver")
    reference = source.get("nodePublishSecretRef")
    if reference is not None and not reference.get("name"):
        errors.append(required(f"{field}.nodePublishSecretRef.name"))
    return errors


def driver_name(name: str, field: str) -> Errors:
    errors: Errors = [] if name else [required(field)]
    if len(name) > 63:
        errors.append(FieldError("TooLong", field, name, "may not be more than 63 bytes"))
    return errors + broken(field, name, rules.is_dns1123_subdomain(name.lower()))


def image(source: Object, field: str) -> Errors:
    errors: Errors = []
    reference = source.get("reference") or ""
    if not reference:
        errors.append(required(f"{field}.reference"))
    elif reference != reference.strip():
        errors.append(invalid_value(f"{field}.reference", reference, "must not have leading or trailing whitespace"))
    policy = source.get("pullPolicy") or ""
    if policy not in ("Always", "IfNotPresent", "Never"):
        if not policy:
            errors.append(required(f"{field}.pullPolicy"))
        else:
            errors.append(not_supported(f"{field}.pullPolicy", policy, ["Always", "IfNotPresent", "Never"]))
    return errors


def git_repo(source: Object, field: str) -> Errors:
    errors = [] if source.get("repository") else [required(f"{field}.repository")]
    return errors + (validate_local_path(source["directory"], f"{field}.directory") if source.get("directory") else [])


def rbd(source: Object, field: str) -> Errors:
    errors = [] if source.get("monitors") else [required(f"{field}.monitors")]
    return errors + ([] if source.get("image") else [required(f"{field}.image")])


def glusterfs(source: Object, field: str) -> Errors:
    return [required(f"{field}.{name}") for name in ("endpoints", "path") if not source.get(name)]


def azure_disk(source: Object, field: str) -> Errors:
    errors = [required(f"{field}.{n}") for n in ("diskName", "diskURI") if not source.get(n)]
    for name, choices in (
        ("cachingMode", ("None", "ReadOnly", "ReadWrite")),
        ("kind", ("Dedicated", "Managed", "Shared")),
    ):
        value = source.get(name)
        if value is not None and value not in choices:
            errors.append(not_supported(f"{field}.{name}", value, choices))
    return errors


def quobyte(source: Object, field: str) -> Errors:
    registry = source.get("registry") or ""
    errors: Errors = []
    if not registry:
        message = "must be a host:port pair or multiple pairs separated by commas"
        errors.append(required(f"{field}.registry", message))
    if not source.get("volume"):
        errors.append(required(f"{field}.volume"))
    return errors


# In upstream's order of checking.
SOURCES: dict[str, Callable[[Object, str], Errors]] = {
    "emptyDir": empty_dir,
    "hostPath": host_path,
    "gitRepo": git_repo,
    "gcePersistentDisk": lambda source, field: _partition(source, field, "pdName"),
    "awsElasticBlockStore": lambda source, field: _partition(source, field, "volumeID"),
    "secret": secret,
    "nfs": nfs,
    "iscsi": iscsi,
    "glusterfs": glusterfs,
    "flocker": _nothing,
    "persistentVolumeClaim": claim,
    "rbd": rbd,
    "cinder": _needs("volumeID"),
    "cephfs": _needs("monitors"),
    "quobyte": quobyte,
    "downwardAPI": downward_api,
    "fc": fc,
    "flexVolume": _needs("driver"),
    "configMap": config_map,
    "azureFile": _needs("secretName", "shareName"),
    "vsphereVolume": _needs("volumePath"),
    "photonPersistentDisk": _needs("pdID"),
    "portworxVolume": _needs("volumeID"),
    "azureDisk": azure_disk,
    "scaleIO": _needs("gateway", "system", "volumeName"),
    "storageos": _nothing,
    "projected": projected,
    "csi": csi,
    "ephemeral": ephemeral,
    "image": image,
}
