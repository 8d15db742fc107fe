"""Secret: what each type must hold, at most 1 MiB, and content that may be sealed."""

from __future__ import annotations

import base64
import json
from typing import Any

from peavine.api.core.configmap import SIZE_MAX, decoded_size
from peavine.api.fields import broken, immutable
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, required, too_long

Object = dict[str, Any]

OPAQUE, TOKEN = "Opaque", "kubernetes.io/service-account-token"
DOCKERCFG, DOCKERCONFIGJSON = "kubernetes.io/dockercfg", "kubernetes.io/dockerconfigjson"
BASIC_AUTH, SSH_AUTH, TLS = "kubernetes.io/basic-auth", "kubernetes.io/ssh-auth", "kubernetes.io/tls"
ACCOUNT_NAME = "kubernetes.io/service-account.name"

COLUMNS = (
    NAME,
    Column("Type", description="@core.v1.Secret.type"),
    Column("Data", description="@core.v1.Secret.data"),
    AGE,
)
FIELD_LABELS = {"type": lambda obj: obj.get("type") or ""}
UNKNOWN_FIELD_LABEL = "field label not supported: {}"


def row(obj: Object) -> list[Any]:
    return [name(obj), obj.get("type") or "", len(obj.get("data") or {}), object_age(obj)]


def default(obj: Object) -> None:
    texts = obj.pop("stringData", None)
    if texts:
        data = obj["data"] = dict(obj.get("data") or {})
        data.update({key: base64.b64encode((text or "").encode()).decode() for key, text in texts.items()})
    obj["type"] = obj.get("type") or OPAQUE


def prepare_update(new: Object, old: Object) -> None:
    if new.get("immutable") is None:
        new.pop("immutable", None)
    if not new.get("type"):
        new["type"] = old.get("type")


def validate_create(obj: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    data = obj.get("data") or {}
    size = 0
    for key, value in data.items():
        errors += broken(f"data[{key}]", key, rules.is_config_map_key(key))
        size += decoded_size(value)
    if size > SIZE_MAX:
        errors.append(too_long("data", SIZE_MAX))
    type = obj.get("type")
    if type == TOKEN:
        if not ((obj.get("metadata") or {}).get("annotations") or {}).get(ACCOUNT_NAME):
            errors.append(required(f"metadata.annotations[{ACCOUNT_NAME}]"))
    elif type in (DOCKERCFG, DOCKERCONFIGJSON):
        errors += _docker(data, ".dockercfg" if type == DOCKERCFG else ".dockerconfigjson")
    elif type == BASIC_AUTH:
        if "username" not in data and "password" not in data:
            errors += [required("data[%s][username]"), required("data[%s][password]")]
    elif type == SSH_AUTH:
        if not data.get("ssh-privatekey"):
            errors.append(required("data[%s][ssh-privatekey]"))
    elif type == TLS:
        errors += [required(f"data[{key}]") for key in ("tls.crt", "tls.key") if key not in data]
    return errors


def _docker(data: Object, key: str) -> list[FieldError]:
    if key not in data:
        return [required(f"data[{key}]")]
    text = base64.b64decode(data[key] or "")
    try:
        if not isinstance(json.loads(text), dict):
            return [invalid_value(f"data[{key}]", "<secret contents redacted>", "json: cannot unmarshal value")]
    except ValueError as error:
        words = "unexpected end of JSON input" if not text.strip() else f"invalid JSON: {error}"
        return [invalid_value(f"data[{key}]", "<secret contents redacted>", words)]
    return []


def validate_update(new: Object, old: Object) -> list[FieldError]:
    errors = immutable("type", new.get("type"), old.get("type"))
    if old.get("immutable"):
        if not new.get("immutable"):
            errors.append(forbidden_field("immutable", "field is immutable when `immutable` is set"))
        if (new.get("data") or {}) != (old.get("data") or {}):
            errors.append(forbidden_field("data", "field is immutable when `immutable` is set"))
    return errors + validate_create(new)


def warnings(obj: Object, old: Object | None) -> list[str]:
    """A TLS secret that cannot work."""
    if obj.get("type") != TLS:
        return []
    data = obj.get("data") or {}
    if not data.get("tls.crt") or not data.get("tls.key"):
        return ["tls: failed to find any PEM data in certificate input"]
    return []
