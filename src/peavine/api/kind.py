"""What the server must know of one kind in one version: its names, its verbs, its storage key, and its rules.

A `Kind` is a small record; its rules (defaults, preparation, validation, columns, ...) live in the module that
`module` names and are imported when first used, so a process that never meets RBAC never pays for it.

The life of an object through a `Kind`, as the registry calls it:

    kind.default(obj)                       # in the version of the request
    hub = kind.hub; kind.to_storage(obj)    # to the version that is stored; a no-op for nearly all kinds
    hub.prepare_create(obj)                 # drops what the user may not set, sets generation 1
    hub.validate_create(obj)                # -> field errors, metadata included
    hub.warnings(obj)                       # -> Warning header texts
    hub.canonicalize(obj)                   # last normalisation before the object is stored
    kind.from_storage(obj)                  # back to the version of the request

Update is the same with `prepare_update(new, old)` and `validate_update(new, old)`; subresources name themselves in
the last argument. All hooks change the object in place and may assume that it was decoded against its schema (types are
right, unknown fields gone); none may assume that a required field is there.

A module of a kind defines any of: `default(obj)`, `prepare_create(obj)`, `prepare_update(new, old)`,
`prepare_SUB_update(new, old)`, `validate_create(obj)`, `validate_update(new, old)`, `validate_SUB_update(new, old)`,
`warnings(obj, old)`, `DEPRECATION`, `canonicalize(obj)`, `COLUMNS`, `row(obj)`, `FIELD_LABELS`, `to_storage(obj)`,
`from_storage(obj)`, `validate_name(name, prefix)`, `stamp_user(obj, name, uid, groups, extra)`
(the registry calls it after `prepare_create` with the user of the request). What it does not define behaves as is usual
for kinds.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from peavine.machinery.errors import FieldError
from peavine.machinery.names import GVK, GVR, group_version

Object = dict[str, Any]

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
NOTHING = SimpleNamespace()


@dataclass(frozen=True, slots=True)
class Subresource:
    """One subresource as discovery shows it. `group` and `version` are empty where it speaks the parent's own kind."""

    name: str
    kind: str
    verbs: tuple[str, ...] = ("get", "patch", "update")
    group: str = ""
    version: str = ""

    @property
    def connects(self) -> bool:
        """Whether requests are passed on as a stream or proxied, and not as objects of an API kind."""
        return self.kind.endswith("Options") or self.name == "log"


@dataclass(frozen=True, slots=True)
class Scale:
    """Where the scale subresource of a kind finds its numbers, as dotted paths."""

    spec_replicas: str = ".spec.replicas"
    status_replicas: str = ".status.replicas"
    selector: str = ".spec.selector"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a Table. Priority 0 is always shown, higher ones with `-o wide`.

    A description `@Type.field` stands for that field's description in the schema, for example
    `@apps.v1.DeploymentSpec.replicas`; it is looked up when the definition is asked for.
    """

    name: str
    type: str = "string"
    description: str = ""
    priority: int = 0
    format: str = ""

    def text(self) -> str:
        return _descriptions()[self.description[1:]] if self.description[:1] == "@" else self.description

    def definition(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.text(),
            "priority": self.priority,
        }


@dataclass(slots=True, eq=False)
class Kind:
    """One kind of one group and version. Built-ins come from `catalogue`; custom resources bring their own `hooks`."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS
    subresources: Mapping[str, Subresource] = field(default_factory=dict)
    scale: Scale | None = None
    definition: str = ""  # the name of the type in the schema
    storage_prefix: str = ""  # such as /registry/pods; "" for what is never stored
    storage: tuple[str, str, str] = ("", "", "")  # group, version and kind of the stored form
    virtual: bool = False  # answered by code, never stored (reviews, bindings)
    generation: bool = False  # metadata.generation counts changes of the spec
    name_rule: str = "dns1123_subdomain"
    allow_create_on_update: bool = False
    allow_unconditional_update: bool = True
    graceful: bool = False  # deletion may wait for a grace period (pods)
    module: str = ""
    hooks: Any = None
    hub: Kind = None  # type: ignore[assignment]  # the kind of the stored form; itself for nearly all

    def __post_init__(self) -> None:
        self.singular = self.singular or self.kind.lower()
        if not self.storage[2]:
            self.storage = (self.group, self.version, self.kind)
        if self.hub is None:
            self.hub = self

    def __repr__(self) -> str:
        return f"Kind({self.api_version} {self.kind})"

    # Names

    @property
    def api_version(self) -> str:
        return group_version(self.group, self.version)

    @property
    def gvk(self) -> GVK:
        return GVK(self.group, self.version, self.kind)

    @property
    def gvr(self) -> GVR:
        return GVR(self.group, self.version, self.plural)

    @property
    def list_kind(self) -> str:
        return self.kind + "List"

    @property
    def storage_version_hash(self) -> str:
        """What discovery shows so that clients notice a change of the stored version. "" for what is not stored."""
        if self.virtual or not self.storage_prefix:
            return ""
        return base64.b64encode(hashlib.sha256("/".join(self.storage).encode()).digest()[:8]).decode()

    def key(self, namespace: str | None, name: str) -> str:
        """The storage key of one object, as upstream lays out etcd."""
        if self.namespaced:
            return f"{self.storage_prefix}/{namespace}/{name}"
        return f"{self.storage_prefix}/{name}"

    def prefix(self, namespace: str | None = None) -> str:
        """The storage prefix of all objects, or of those of one namespace. Ends in a slash."""
        if self.namespaced and namespace:
            return f"{self.storage_prefix}/{namespace}/"
        return self.storage_prefix + "/"

    # Rules

    def _hooks(self) -> Any:
        if self.hooks is None:
            self.hooks = _load(self.module)
        return self.hooks

    def hook(self, name: str) -> Callable[..., Any] | None:
        """The kind's own rule of that name, or None where it has none."""
        return getattr(self._hooks(), name, None)

    def default(self, obj: Object) -> None:
        """Fill in what the user left out."""
        if rule := self.hook("default"):
            rule(obj)

    def to_storage(self, obj: Object) -> Object:
        """The stored form of an object of this version. May return the object itself, changed."""
        if self.hub is self:
            return obj
        if rule := self.hook("to_storage"):
            obj = rule(obj)
        obj["apiVersion"], obj["kind"] = self.hub.api_version, self.hub.kind
        return obj

    def from_storage(self, obj: Object) -> Object:
        """The form of this version of a stored object. May return the object itself, changed."""
        if self.hub is self:
            return obj
        if rule := self.hook("from_storage"):
            obj = rule(obj)
        obj["apiVersion"], obj["kind"] = self.api_version, self.kind
        return obj

    def prepare_create(self, obj: Object) -> None:
        """Drop what may not be set on create (status), set what the server owns (generation)."""
        rule = self.hook("prepare_create")
        if "status" in self.subresources and not getattr(self._hooks(), "KEEPS_STATUS_ON_CREATE", False):
            self._empty_status(obj)
        meta = obj.setdefault("metadata", {})
        if self.generation:
            meta["generation"] = 1
        else:
            meta.pop("generation", None)
        if rule:
            rule(obj)

    def _empty_status(self, obj: Object) -> None:
        """The status as Go writes one that was never set: absent, empty, or with its zeros."""
        obj.pop("status", None)
        empty = _zero(self.definition).get("status") if self.definition else None
        if empty is not None:
            obj["status"] = copy.deepcopy(empty)

    def prepare_update(self, new: Object, old: Object, subresource: str = "") -> None:
        """Keep of `old` what this request may not change, and count up the generation where the spec changed."""
        meta, old_meta = new.setdefault("metadata", {}), old.get("metadata") or {}
        if subresource:
            if rule := self.hook(f"prepare_{subresource}_update"):
                rule(new, old)
            elif subresource == "status":
                keep_all_but_status(new, old)
            grown = getattr(self._hooks(), "COUNTS_GENERATION_IN_SUBRESOURCES", False) and subresource != "status"
            if not grown:
                _keep(meta, old_meta, "generation")
            return
        if "status" in self.subresources:
            _keep(new, old, "status")
        if rule := self.hook("prepare_update"):
            rule(new, old)
        if self.generation:
            generation_rule = self.hook("changes_generation") or spec_changed
            generation = old_meta.get("generation") or 0
            if generation_rule(new, old):
                meta["generation"] = generation + 1
            elif generation:
                meta["generation"] = generation
            else:
                meta.pop("generation", None)
        else:
            _keep(meta, old_meta, "generation")

    def validate_create(self, obj: Object) -> list[FieldError]:
        """Everything wrong with a new object, its metadata first."""
        errors = self.validate_metadata(obj)
        if rule := self.hook("validate_create"):
            errors += rule(obj)
        return errors

    def validate_update(self, new: Object, old: Object, subresource: str = "") -> list[FieldError]:
        """Everything wrong with a change. Metadata's own update rules come first."""
        from peavine.machinery.meta import validate_metadata_update

        errors = list(validate_metadata_update(new.get("metadata") or {}, old.get("metadata") or {}))
        name = f"validate_{subresource}_update" if subresource else "validate_update"
        if rule := self.hook(name):
            errors += rule(new, old)
        elif not subresource and (rule := self.hook("validate_create")):
            errors += rule(new)
        if errors:
            from peavine.api.strict_ip import without_kept

            errors = without_kept(errors, old)
        return errors

    def validate_metadata(self, obj: Object) -> list[FieldError]:
        """The rules of `metadata` that hold for every kind, with this kind's rule for names."""
        from peavine.machinery.meta import validate_metadata

        if own := self.hook("validate_metadata"):
            return list(own(obj))
        rule: Any = self.hook("validate_name") or self.name_rule
        return list(validate_metadata(obj.get("metadata") or {}, namespaced=self.namespaced, name_rule=rule))

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:
        """Texts for the Warning header: deprecated fields, duplicates, and what will surprise."""
        rule = self.hook("warnings")
        return rule(obj, old) if rule else []

    def canonicalize(self, obj: Object) -> None:
        """The last change before the object is stored; validation has passed."""
        if rule := self.hook("canonicalize"):
            rule(obj)

    # Views

    @property
    def columns(self) -> Iterable[Column]:
        """The columns of this kind's Table; two generic ones where the kind has none of its own."""
        return getattr(self._hooks(), "COLUMNS", GENERIC_COLUMNS)

    def row(self, obj: Object) -> list[Any]:
        """The cells of one object, one a column."""
        rule = self.hook("row")
        return rule(obj) if rule else generic_row(obj)

    @property
    def field_labels(self) -> Mapping[str, Callable[[Object], str]]:
        """Field selector label -> how to read it from an object. Name and namespace always work."""
        own = getattr(self._hooks(), "FIELD_LABELS", {})
        base = {"metadata.name": _name}
        if self.namespaced or self.kind == "Namespace":
            base["metadata.namespace"] = _namespace
        return {**base, **own}

    def unknown_field_label(self, label: str) -> str:
        """The words of the 400 that answers a field selector which this kind does not know."""
        template = getattr(self._hooks(), "UNKNOWN_FIELD_LABEL", "")
        if template:
            return template.format(label)
        return f'"{label}" is not a known field selector: only "metadata.name", "metadata.namespace"'


@cache
def _zero(definition: str) -> Object:
    """An object of a type as decoding nothing makes it."""
    from peavine.machinery.decode import decode
    from peavine.machinery.schema import Schema

    return decode({}, Schema.load().definition(definition))[0]


@cache
def _descriptions() -> dict[str, str]:
    """The schema's prose for the fields that columns name; `tests/api/test_kinds.py` keeps the copy true."""
    return json.loads(Path(__file__).with_name("descriptions.json").read_bytes())  # type: ignore[no-any-return]


def _load(module: str) -> Any:
    """The module of a kind's rules, or nothing for a kind that has no rules of its own."""
    try:
        return importlib.import_module(module) if module else NOTHING
    except ModuleNotFoundError as error:
        if error.name and (module + ".").startswith(error.name + "."):
            return NOTHING
        raise


def _keep(new: Object, old: Mapping[str, Any], name: str) -> None:
    """Make `new[name]` what it is in `old`: the value, or absent."""
    if name in old:
        new[name] = old[name]
    else:
        new.pop(name, None)


keep = _keep


def keep_all_but_status(new: Object, old: Object) -> None:
    """A status update changes `status` and metadata, nothing else."""
    for name in list(new):
        if name not in ("apiVersion", "kind", "metadata", "status") and name not in old:
            del new[name]
    for name, value in old.items():
        if name not in ("apiVersion", "kind", "metadata", "status"):
            new[name] = value


def spec_changed(new: Object, old: Object) -> bool:
    return (new.get("spec") or {}) != (old.get("spec") or {})


def content_changed(new: Object, old: Object) -> bool:
    """Whether anything but metadata and status differs: the generation rule of kinds without a spec."""
    skip = ("metadata", "status", "apiVersion", "kind")
    return {k: v for k, v in new.items() if k not in skip} != {k: v for k, v in old.items() if k not in skip}


def _name(obj: Object) -> str:
    return (obj.get("metadata") or {}).get("name") or ""


def _namespace(obj: Object) -> str:
    return (obj.get("metadata") or {}).get("namespace") or ""


NAME = Column(
    "Name",
    format="name",
    description=(
        "Name must be unique within a namespace. Is required when creating resources, although some resources may "
        "allow a client to request the generation of an appropriate name automatically. Name is primarily intended for "
        "creation idempotence and configuration definition. Cannot be updated. More info: "
        "https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"
    ),
)
CREATED = (
    "CreationTimestamp is a timestamp representing the server time when this object was created. It is not "
    "guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is "
    "represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)
AGE = Column("Age", description=CREATED)
GENERIC_COLUMNS = (NAME, Column("Created At", type="date", description=CREATED))


def generic_row(obj: Object) -> list[Any]:
    meta = obj.get("metadata") or {}
    return [meta.get("name") or "", meta.get("creationTimestamp")]
