"""The types of the API as data: which fields an object has, of which type, and how lists and maps merge.

The definitions come from the package `kubernetes-validate` (one JSON document of 1.8 MB a Kubernetes version). It is
read once: a compact index, one line a definition and without the prose, is kept in the user's cache directory, and a
process reads that (about 0.5 MB) and builds a `Type` only when somebody asks for it. What that document lacks (protobuf
numbers, Go pointers, `omitempty`) stands in `facts.txt` beside this module; see `docs/machinery.md`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import orjson

from peavine.machinery.facts import FieldFact, facts_path, load_facts
from peavine.machinery.names import GVK

DEFAULT_VERSION = "1.37"
_FORMAT = 5  # of the compact index; a change makes old caches void

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."

# Definitions whose JSON form is not that of an object with fields.
_SPECIAL_KINDS = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
    META + "Time": "time",
    META + "MicroTime": "micro-time",
    META + "FieldsV1": "any",
    META + "Patch": "any",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "any",
    _EXTENSIONS + "JSON": "any",
    _EXTENSIONS + "JSONSchemaPropsOrArray": "any",
    _EXTENSIONS + "JSONSchemaPropsOrBool": "any",
    _EXTENSIONS + "JSONSchemaPropsOrStringArray": "any",
}
_SCALARS = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean"}


class Field:
    """One field of an object type. `pointer`, `omitempty`, `go_type` and `number` (a path of protobuf field numbers,
    empty if unknown) are facts of the Go type; `default` is what a list key takes when absent. A `disabled` field is
    known, and dropped when an object is decoded: its feature gate is off.
    """

    __slots__ = ("default", "disabled", "go_type", "name", "number", "omitempty", "pointer", "required", "type")

    def __init__(
        self, name: str, type: Type, *, required: bool = False, fact: FieldFact | None = None, disabled: bool = False
    ) -> None:
        self.name, self.type, self.required, self.disabled = name, type, required, disabled
        if fact is None:  # unknown: an optional field is taken for a pointer, so that nothing a client sent is dropped
            struct = name in ("metadata", "spec", "status")
            fact = FieldFact(pointer=not required and not struct, omitempty=not required)
        self.number, self.pointer, self.omitempty, self.go_type, self.default = fact

    def __repr__(self) -> str:
        return f"Field({self.name}: {self.type.kind})"


class Type:
    """A type of the API: an object with fields, a list, a map or a scalar.

    `kind` is one of object, list, map, string, bytes (base64), integer, number, boolean, quantity, time, micro-time,
    int-or-string, any. `items` is the element type of a list or map. A field may refine a named type (its own
    `map_type` or patch strategy); the refined copy keeps `name`. Types are immutable once built, and may be cyclic.
    """

    def __init__(
        self,
        kind: str,
        name: str = "",
        *,
        fields: dict[str, Field] | None = None,
        items: Type | None = None,
        bits: int = 64,
        list_type: str | None = None,
        list_map_keys: tuple[str, ...] = (),
        map_type: str | None = None,
        patch_strategy: str | None = None,
        patch_merge_key: str | None = None,
        required: tuple[str, ...] = (),
        nullable: bool = False,
        preserve_unknown: bool = False,
        default: Any = None,
    ) -> None:
        self.kind, self.name, self.bits = kind, name, bits
        self.list_type, self.list_map_keys, self.map_type = list_type, list_map_keys, map_type
        self.patch_strategy, self.patch_merge_key = patch_strategy, patch_merge_key
        self.required, self.nullable, self.preserve_unknown, self.default = (
            required,
            nullable,
            preserve_unknown,
            default,
        )
        self.gvks: tuple[GVK, ...] = ()
        self._schema: Schema | None = None
        self._compact: Any = None
        if fields is not None:
            self.__dict__["fields"] = fields
        if items is not None:
            self.__dict__["items"] = items

    def __repr__(self) -> str:
        return f"Type({self.kind}{' ' + self.name if self.name else ''})"

    @cached_property
    def fields(self) -> dict[str, Field]:
        """The fields of an object type by JSON name; empty for every other kind."""
        if self._schema is None or self.kind != "object":
            return {}
        return self._schema._fields(self)

    @cached_property
    def items(self) -> Type | None:
        """The element type of a list or map; None for every other kind."""
        if self._schema is None or self._compact is None or self.kind not in ("list", "map"):
            return None
        return self._schema._type(self._compact["i"])

    @property
    def short_name(self) -> str:
        """`Pod` of `io.k8s.api.core.v1.Pod`: the name of the Go type."""
        return self.name.rpartition(".")[2]

    @property
    def description(self) -> str:
        """The prose of the definition, from the full document: slow, for `explain` and OpenAPI only."""
        return self._prose().get("description", "")

    def field_description(self, field: str) -> str:
        return self._prose().get("properties", {}).get(field, {}).get("description", "")

    def _prose(self) -> dict[str, Any]:
        return self._schema.document().get(self.name, {}) if self._schema and self.name else {}


class Schema:
    """All types of one Kubernetes version. Use `Schema.load()`; it is made once a process and version."""

    def __init__(self, version: str, names: dict[str, tuple[int, int]], gvks: dict[GVK, str], lines: bytes) -> None:
        self.version = version
        self._names, self._gvks, self._lines = names, gvks, lines
        self._disabled: Mapping[str, frozenset[str]] = {}
        self._types: dict[str, Type] = {}
        self._document: dict[str, Any] | None = None

    @staticmethod
    def load(version: str = DEFAULT_VERSION) -> Schema:
        """Raises LookupError for a version that the package lacks."""
        return _load(version)

    def without(self, disabled: Mapping[str, frozenset[str]]) -> Schema:
        """The same types, in which these fields (by the full name of their definition) are `disabled`."""
        schema = Schema(self.version, self._names, self._gvks, self._lines)
        schema._disabled = disabled
        return schema

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def definition(self, name: str) -> Type:
        """The type of a definition's full name (`io.k8s.api.core.v1.Pod`). Raises KeyError."""
        found = self._types.get(name)
        if found is None:
            start, end = self._names[name]
            compact = orjson.loads(self._lines[start:end])
            found = Type(
                _SPECIAL_KINDS.get(name, "object"),
                name,
                map_type=compact.get("m"),
                required=tuple(compact.get("r", ())),
            )
            found.gvks = tuple(GVK(*gvk) for gvk in compact.get("g", ()))
            found._schema, found._compact = self, compact
            self._types[name] = found
        return found

    def for_kind(self, gvk: GVK) -> Type | None:
        """The type of objects of that kind, lists included (`PodList`)."""
        name = self._gvks.get(gvk)
        return self.definition(name) if name else None

    def kinds(self) -> list[GVK]:
        return list(self._gvks)

    def meta(self, name: str) -> Type:
        """A type of `meta/v1` by its short name: `ObjectMeta`, `DeleteOptions`, `LabelSelector`."""
        return self.definition(META + name)

    def document(self) -> dict[str, Any]:
        """The definitions as published, prose included. Not kept: 15 MB while the caller holds it."""
        return orjson.loads(_source(self.version).read_bytes())["$defs"]

    def _fields(self, type: Type) -> dict[str, Field]:
        required, disabled = set(type.required), self._disabled.get(type.name, frozenset())
        fields = {}
        for name, (compact, fact) in type._compact.get("p", {}).items():
            known = FieldFact(tuple(fact[0]), bool(fact[1]), bool(fact[2]), *fact[3:]) if fact else None
            fields[name] = Field(
                name, self._type(compact), required=name in required, fact=known, disabled=name in disabled
            )
        return fields

    def _type(self, compact: Any) -> Type:
        if isinstance(compact, str):
            return self.definition(compact[1:]) if compact[0] == "@" else _scalar(compact)
        if compact["t"][0] == "@":
            named = self.definition(compact["t"][1:])
            type = Type(named.kind, named.name, required=named.required, map_type=compact.get("m", named.map_type))
            type.gvks, type._compact = named.gvks, named._compact
        else:
            type = Type(compact["t"], map_type=compact.get("m"), list_type=compact.get("l"))
            type.list_map_keys, type._compact = tuple(compact.get("k", ())), compact
        type.patch_strategy, type.patch_merge_key = compact.get("s"), compact.get("mk")
        type._schema = self
        return type


@cache
def _scalar(code: str) -> Type:
    kind, _, bits = code.partition(":")
    return Type(kind, bits=int(bits or 64))


def _source(version: str) -> Path:
    import importlib.util

    spec = importlib.util.find_spec("kubernetes_validate")  # found, not imported: the package itself is heavy
    if spec is None or not spec.origin:
        raise LookupError("the package kubernetes-validate is not installed")
    path = Path(spec.origin).parent / "kubernetes-json-schema" / f"v{version}.0-local" / "_definitions.json"
    if not path.exists():
        raise LookupError(f"kubernetes-validate has no definitions of Kubernetes {version}")
    return path


def cache_directory() -> Path:
    """Where derived data is kept: `$XDG_CACHE_HOME/peavine`, else `~/.cache/peavine`. Safe to delete."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "peavine"


@cache
def _load(version: str) -> Schema:
    source = _source(version)
    stamps = [(path.stat().st_size, path.stat().st_mtime_ns) for path in (source, facts_path())]
    stamp = "-".join(f"{size}-{changed}" for size, changed in stamps)
    path = None
    with contextlib.suppress(OSError, RuntimeError):  # no home directory: do without the cache
        path = cache_directory() / f"schema-{version}-{_FORMAT}.jsonl"
        header, _, lines = path.read_bytes().partition(b"\n")
        with contextlib.suppress(ValueError, KeyError, TypeError):  # a torn or foreign file is made anew
            head = orjson.loads(header)
            if head["stamp"] == stamp and head["bytes"] == len(lines):
                return _from_index(version, head, lines)
    head, lines = _build_index(orjson.loads(source.read_bytes())["$defs"], stamp)
    if path:
        _save(path, orjson.dumps(head) + b"\n" + lines)
    return _from_index(version, head, lines)


def _from_index(version: str, head: dict[str, Any], lines: bytes) -> Schema:
    gvks = {GVK(*gvk): name for *gvk, name in head["gvks"]}
    return Schema(version, {name: (start, end) for name, start, end in head["names"]}, gvks, lines)


def _save(path: Path, data: bytes) -> None:
    with contextlib.suppress(OSError):  # a read-only home only costs the time to build the index at each start
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)


def _build_index(definitions: dict[str, Any], stamp: str) -> tuple[dict[str, Any], bytes]:
    facts = load_facts()
    names: list[tuple[str, int, int]] = []
    gvks: list[tuple[str, str, str, str]] = []
    chunks: list[bytes] = []
    offset = 0
    for name, definition in definitions.items():
        of_type = facts.get(name, {})
        fields = {}
        for field, schema in sorted(
            definition.get("properties", {}).items(), key=lambda item: _go_order(item[0], of_type)
        ):
            fact = of_type.get(field)
            fields[field] = (_compact(schema), fact.compact() if fact else None)
        entry: dict[str, Any] = {"p": fields} if fields else {}
        if definition.get("required"):
            entry["r"] = definition["required"]
        if "x-kubernetes-map-type" in definition:
            entry["m"] = definition["x-kubernetes-map-type"]
        kinds = [(k["group"], k["version"], k["kind"]) for k in definition.get("x-kubernetes-group-version-kind", ())]
        if kinds:
            entry["g"] = kinds
        if len(kinds) == 1:  # DeleteOptions and WatchEvent carry every group; they are found by name
            gvks.append((*kinds[0], name))
        chunk = orjson.dumps(entry)
        names.append((name, offset, offset + len(chunk)))
        chunks.append(chunk + b"\n")
        offset += len(chunk) + 1
    lines = b"".join(chunks)
    return {"stamp": stamp, "bytes": len(lines), "names": names, "gvks": gvks}, lines


def _go_order(field: str, facts: dict[str, FieldFact]) -> tuple[int, int | str]:
    """Where a field stands in the Go struct: kind and apiVersion first, fields without facts last, by name."""
    if field not in facts:
        return (0, 0 if field == "kind" else 1) if field in ("kind", "apiVersion") else (2, field)
    return (1, list(facts).index(field))


def _compact(schema: dict[str, Any]) -> Any:
    """A property's schema in short: a code (`integer:32`, `@definition`), or an object where it says more."""
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        kind = kind[0]
    if "$ref" in schema:
        code = "@" + schema["$ref"].removeprefix("#/$defs/")
    elif kind == "array":
        code = "list"
    elif kind == "object":
        code = "map"
    elif schema.get("format") == "byte":
        code = "bytes"
    else:
        code = _SCALARS.get(kind, "any") + (":32" if schema.get("format") == "int32" else "")
    more: dict[str, Any] = {}
    if code == "list":
        more["i"] = _compact(schema["items"])
    elif code == "map":
        more["i"] = _compact(schema.get("additionalProperties", {}))
    for key, short in (
        ("x-kubernetes-list-type", "l"),
        ("x-kubernetes-list-map-keys", "k"),
        ("x-kubernetes-map-type", "m"),
        ("x-kubernetes-patch-strategy", "s"),
        ("x-kubernetes-patch-merge-key", "mk"),
    ):
        if key in schema:
            more[short] = schema[key]
    return {"t": code, **more} if more else code
