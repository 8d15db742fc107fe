"""CustomResourceDefinition: a kind of the users' own. What is served of it is `apiserver.customresources`' work."""

from __future__ import annotations

import re
from typing import Any

from peavine.api.fields import one_of
from peavine.api.kind import spec_changed
from peavine.machinery import validation as rules
from peavine.machinery.cel.rules import GoValue, compile_rules
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, required
from peavine.machinery.meta import now
from peavine.machinery.structural import Structural, check_schema

Object = dict[str, Any]
Errors = list[FieldError]

SCOPES = ("Cluster", "Namespaced")
COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
APPROVAL = "api-approved.kubernetes.io"
selectable_fields_max = 8

changes_generation = spec_changed
# Its status is written on create: the versions that may be in the store.
KEEPS_STATUS_ON_CREATE = True
# What a deletion adds: the definition goes when its objects have gone.
FINALIZERS_ON_DELETE = (FINALIZER,)


# Defaults and preparation


def default(obj: Object) -> None:
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return
    names = spec.setdefault("names", {})
    kind = names.get("kind") or ""
    if kind and not names.get("singular"):
        names["singular"] = kind.lower()
    if kind and not names.get("listKind"):
        names["listKind"] = kind + "List"
    if spec.get("conversion") is None:
        spec["conversion"] = {"strategy": "None"}
    service = ((spec["conversion"].get("webhook") or {}).get("clientConfig") or {}).get("service")
    if service is not None and service.get("port") is None:
        service["port"] = 443


def prepare_create(obj: Object) -> None:
    obj["status"] = {"conditions": None, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": []}
    _store_storage_version(obj)


def prepare_update(new: Object, old: Object) -> None:
    _store_storage_version(new)


def prepare_status_update(new: Object, old: Object) -> None:
    new["spec"] = old.get("spec")
    meta, before = new["metadata"], old.get("metadata") or {}
    for name in ("labels", "annotations", "ownerReferences", "generation"):
        if name in before:
            meta[name] = before[name]
        else:
            meta.pop(name, None)


def prepare_delete(obj: Object) -> None:
    """The deletion begins: say that the objects go first."""
    status = obj.setdefault("status", {})
    conditions = [c for c in status.get("conditions") or [] if c.get("type") != "Terminating"]
    words = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
    condition = {"type": "Terminating", "status": "True", "lastTransitionTime": now()}
    status["conditions"] = [*conditions, {**condition, "reason": "InstanceDeletionPending", "message": words}]


def _store_storage_version(obj: Object) -> None:
    status = obj.setdefault("status", {})
    stored = status.get("storedVersions") or []
    for version in _versions(obj):
        if version.get("storage") and version.get("name") not in stored:
            stored = [*stored, version.get("name")]
    status["storedVersions"] = stored


def _versions(obj: Object) -> list[Object]:
    return (obj.get("spec") or {}).get("versions") or []


# Validation


def validate_name(name: str, prefix: bool) -> list[str]:
    return rules.is_dns1123_subdomain(name)


def validate_create(obj: Object) -> Errors:
    return _validate(obj, None)


def validate_update(new: Object, old: Object) -> Errors:
    errors = _validate(new, old)
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    names, before_names = spec.get("names") or {}, before.get("names") or {}
    if _is_established(old):
        errors += rules.validate_immutable(spec.get("scope"), before.get("scope"), "spec.scope")
        errors += rules.validate_immutable(names.get("kind"), before_names.get("kind"), "spec.names.kind")
    errors += rules.validate_immutable(spec.get("group"), before.get("group"), "spec.group")
    errors += rules.validate_immutable(names.get("plural"), before_names.get("plural"), "spec.names.plural")
    return errors


def validate_status_update(new: Object, old: Object) -> Errors:
    return _stored_versions(new)


def _is_established(obj: Object) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions)


def _validate(obj: Object, old: Object | None) -> Errors:
    spec, meta = obj.get("spec") or {}, obj.get("metadata") or {}
    names, group = spec.get("names") or {}, spec.get("group") or ""
    errors: Errors = []
    if old is None and meta.get("name") and meta["name"] != f"{names.get('plural') or ''}.{group}":
        errors.append(invalid_value("metadata.name", meta["name"], 'must be spec.names.plural+"."+spec.group'))
    errors += _spec(spec, old)
    errors += _stored_versions(obj)
    errors += _approval(group, meta, old)
    return errors


def _spec(spec: Object, old: Object | None) -> Errors:
    errors: Errors = []
    group, versions, names = spec.get("group") or "", spec.get("versions") or [], spec.get("names") or {}
    if not group:
        errors.append(required("spec.group"))
    else:
        problems = rules.is_dns1123_subdomain(group)
        if problems:
            errors.append(invalid_value("spec.group", group, ",".join(problems)))
        elif "." not in group:
            errors.append(invalid_value("spec.group", group, "should be a domain with at least one dot"))
    errors += one_of("spec.scope", spec.get("scope"), SCOPES)
    hoisted = len(versions) == 1 or (len(versions) > 1 and all(_same(v, versions[0]) for v in versions))
    if not any((v.get("schema") or {}).get("openAPIV3Schema") for v in versions) or not hoisted:
        for place, version in enumerate(versions):
            if (version.get("schema") or {}).get("openAPIV3Schema") is None:
                at = f"spec.versions[{place}].schema.openAPIV3Schema"
                errors.append(required(at, "schemas are required"))
    known = [(version.get("schema") or {}).get("openAPIV3Schema") for version in _versions(old or {})]
    for place, version in enumerate(versions):
        problems = rules.is_dns1035_label(version.get("name") or "")
        if problems:
            errors.append(invalid_value(f"spec.versions[{place}].name", version.get("name") or "", ",".join(problems)))
        if not hoisted:
            errors += _version(version, f"spec.versions[{place}]", "schema.openAPIV3Schema", known)
    shown = "[]apiextensions.CustomResourceDefinitionVersion(nil)" if not versions else None
    if len({v.get("name") for v in versions}) != len(versions):
        errors.append(invalid_value("spec.versions", versions, "must contain unique version names"))
    if sum(bool(v.get("storage")) for v in versions) != 1:
        detail = "must have exactly one version marked as storage version"
        errors.append(
            GoValue("spec.versions", shown, detail) if shown else invalid_value("spec.versions", versions, detail)
        )
    if versions and (problems := rules.is_dns1035_label(versions[0].get("name") or "")):
        errors.append(invalid_value("spec.version", versions[0].get("name") or "", ",".join(problems)))
    errors += _names(names)
    if hoisted:
        errors += _version(versions[0], "spec", "validation.openAPIV3Schema", known)
    if spec.get("preserveUnknownFields"):
        detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in "
        detail += "spec.versions[*].schema instead"
        errors.append(invalid_value("spec.preserveUnknownFields", True, detail))
    return errors + _conversion(spec.get("conversion") or {})


_PER_VERSION = ("schema", "subresources", "additionalPrinterColumns", "selectableFields")


def _same(a: Object, b: Object) -> bool:
    return all(a.get(name) == b.get(name) for name in _PER_VERSION)


def _names(names: Object) -> Errors:
    errors: Errors = [
        required(f"spec.names.{name}") for name in ("plural", "singular", "kind", "listKind") if not names.get(name)
    ]
    for name in ("plural", "singular"):
        if names.get(name) and (problems := rules.is_dns1035_label(names[name])):
            errors.append(invalid_value(f"spec.names.{name}", names[name], ",".join(problems)))
    for name in ("kind", "listKind"):
        if names.get(name) and (problems := rules.is_dns1035_label(names[name].lower())):
            detail = "may have mixed case, but should otherwise match: " + ",".join(problems)
            errors.append(invalid_value(f"spec.names.{name}", names[name], detail))
    for name in ("shortNames", "categories"):
        if name == "categories" and names.get("kind") and names.get("kind") == names.get("listKind"):
            detail = "kind and listKind may not be the same"
            errors.append(invalid_value("spec.names.listKind", names["listKind"], detail))
        for place, value in enumerate(names.get(name) or []):
            if problems := rules.is_dns1035_label(value):
                errors.append(invalid_value(f"spec.names.{name}[{place}]", value, ",".join(problems)))
    return errors


def _version(version: Object, path: str, schema_path: str, known: list[Object | None]) -> Errors:
    """What stands in a version, or, where all versions say the same, at the top as upstream's internal form has it.

    The rules of a schema in `known`, which was accepted before, are not looked at again.
    """
    errors: Errors = []
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    subresources = version.get("subresources") or {}
    if schema is not None:
        at = f"{path}.{schema_path}"
        found = check_schema(schema, at)
        errors += found
        if not found and schema not in known:
            compiled = compile_rules(Structural(schema), at)
            errors += compiled.problems if compiled is not None else []
    errors += _scale(subresources.get("scale"), f"{path}.subresources.scale")
    for place, column in enumerate(version.get("additionalPrinterColumns") or []):
        errors += _column(column, f"{path}.additionalPrinterColumns[{place}]")
    return errors + _selectable(version, schema or {}, path)


def _scale(scale: Object | None, path: str) -> Errors:
    if scale is None:
        return []
    errors: Errors = []
    for name, root in (("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")):
        value = scale.get(name) or ""
        if not value:
            errors.append(required(f"{path}.{name}"))
        elif not value.startswith(root + "."):
            errors.append(invalid_value(f"{path}.{name}", value, f"should be a json path under {root}"))
    selector = scale.get("labelSelectorPath") or ""
    if selector and not selector.startswith((".spec.", ".status.")):
        detail = "should be a json path under either .status or .spec"
        errors.append(invalid_value(f"{path}.labelSelectorPath", selector, detail))
    return errors


def _column(column: Object, path: str) -> Errors:
    errors: Errors = []
    if not column.get("name"):
        errors.append(required(f"{path}.name"))
    kind, shape, json_path = column.get("type") or "", column.get("format") or "", column.get("jsonPath") or ""
    if not kind:
        errors.append(required(f"{path}.type", f"must be one of {','.join(COLUMN_TYPES)}"))
    elif kind not in COLUMN_TYPES:
        errors.append(invalid_value(f"{path}.type", kind, f"must be one of {','.join(COLUMN_TYPES)}"))
    if shape and shape not in COLUMN_FORMATS:
        errors.append(invalid_value(f"{path}.format", shape, f"must be one of {','.join(COLUMN_FORMATS)}"))
    if not json_path:
        errors.append(required(f"{path}.JSONPath"))
    elif not json_path.startswith(".") and not json_path.startswith("["):
        errors.append(invalid_value(f"{path}.JSONPath", json_path, "is an invalid path: must start with a dot"))
    return errors


_SIMPLE_PATH = re.compile(r"^(\.[A-Za-z_][A-Za-z0-9_-]*)+$")


def _selectable(version: Object, schema: Object, path: str) -> Errors:
    errors: Errors = []
    fields = version.get("selectableFields") or []
    if len(fields) > selectable_fields_max:
        detail = f"must have at most {selectable_fields_max} items"
        errors.append(FieldError("TooMany", f"{path}.selectableFields", len(fields), detail))
    seen: set[str] = set()
    for place, field in enumerate(fields):
        at, json_path = f"{path}.selectableFields[{place}].jsonPath", field.get("jsonPath") or ""
        if not json_path:
            errors.append(required(at))
        elif not _SIMPLE_PATH.match(json_path):
            errors.append(invalid_value(at, json_path, "is an invalid path: only simple field paths are supported"))
        elif json_path.startswith(".metadata"):
            errors.append(invalid_value(at, json_path, "must not point to fields in metadata"))
        elif json_path in seen:
            errors.append(FieldError("Duplicate", f"{path}.selectableFields[{place}]", json_path))
        else:
            found: Object | None = schema
            for name in json_path.strip(".").split("."):
                found = ((found or {}).get("properties") or {}).get(name)
            if found is None:
                errors.append(invalid_value(at, json_path, "is an invalid path: does not refer to a valid field"))
            elif found.get("type") not in ("string", "integer", "boolean"):
                detail = "must point to a field of type string, boolean or integer. Enum string fields and strings "
                errors.append(invalid_value(at, json_path, detail + "with formats are allowed."))
        seen.add(json_path)
    return errors


def _conversion(conversion: Object) -> Errors:
    strategy, webhook = conversion.get("strategy"), conversion.get("webhook")
    errors = one_of("spec.conversion.strategy", strategy, ("None", "Webhook"))
    if strategy == "Webhook":
        client = (webhook or {}).get("clientConfig")
        if client is None:
            detail = "required when strategy is set to Webhook"
            errors.append(required("spec.conversion.webhookClientConfig", detail))
        elif (client.get("url") is None) == (client.get("service") is None):
            detail = "exactly one of url or service is required"
            errors.append(required("spec.conversion.webhookClientConfig", detail))
        accepted = (webhook or {}).get("conversionReviewVersions") or []
        if not accepted:
            errors.append(required("spec.conversion.conversionReviewVersions"))
        elif "v1" not in accepted and "v1beta1" not in accepted:
            detail = "must include at least one of v1, v1beta1"
            errors.append(invalid_value("spec.conversion.conversionReviewVersions", accepted, detail))
    elif webhook is not None and strategy:
        detail = "should not be set when strategy is not set to Webhook"
        errors.append(forbidden_field("spec.conversion.webhookClientConfig", detail))
    return errors


def _stored_versions(obj: Object) -> Errors:
    status = obj.get("status") or {}
    stored = status.get("storedVersions") or []
    if not stored:
        detail = "must have at least one stored version"
        return [GoValue("status.storedVersions", "[]string(nil)", detail)]
    errors: Errors = []
    known = {version.get("name"): version for version in _versions(obj)}
    for place, name in enumerate(stored):
        if name not in known:
            detail = (
                f"missing from spec.versions; {name} was previously a storage version, and must remain in "
                "spec.versions until a storage migration ensures no data remains persisted in "
                f"{name} and removes {name} from status.storedVersions"
            )
            errors.append(invalid_value(f"status.storedVersions[{place}]", name, detail))
    storage = next((v.get("name") for v in _versions(obj) if v.get("storage")), None)
    if storage is not None and storage not in stored:
        errors.append(invalid_value("status.storedVersions", stored, f"must have the storage version {storage}"))
    return errors


def _approval(group: str, meta: Object, old: Object | None) -> Errors:
    """Groups of the Kubernetes project need its word."""
    if not (group.endswith(".k8s.io") or group.endswith(".kubernetes.io")):
        return []
    found = (meta.get("annotations") or {}).get(APPROVAL) or ""
    if old is not None and found == ((old.get("metadata") or {}).get("annotations") or {}).get(APPROVAL, ""):
        return []
    more = "see https://github.com/kubernetes/enhancements/pull/1111"
    if not found:
        detail = f'protected groups must have approval annotation "{APPROVAL}", {more}'
        return [required(f"metadata.annotations[{APPROVAL}]", detail)]
    if found.startswith("unapproved") or found.startswith(("https://", "http://")):
        return []
    detail = f'protected groups must have approval annotation "{APPROVAL}" with either a URL or a reason starting with '
    return [invalid_value(f"metadata.annotations[{APPROVAL}]", found, detail + f'"unapproved", {more}')]
