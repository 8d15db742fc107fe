"""One version of a custom resource as a `Kind`: schema, rules, columns and conversions are the hooks of that kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from peavine.api.kind import Kind, Scale, Subresource, content_changed
from peavine.apiserver.customresources.columns import Printer
from peavine.apiserver.customresources.conversion import Ask, Converter
from peavine.apiserver.customresources.jsonpath import find
from peavine.machinery.cel.rules import ABSENT, Rules, compile_rules, evaluate_rules
from peavine.machinery.decode import DecodeError, cannot_be_handled, decode_plain, strict_problems
from peavine.machinery.errors import FieldError
from peavine.machinery.schema import Schema, Type
from peavine.machinery.structural import (
    Structural,
    apply_defaults,
    prune,
    prune_nulls,
    type_of,
    validate,
    validate_lists,
)

Object = dict[str, Any]
Errors = list[FieldError]
under_way_max = 1000  # writes between their conversion and their validation


@dataclass(slots=True, eq=False)
class CustomKind(Kind):
    """A kind whose list may have a name of its own."""

    list_name: str = ""

    @property
    def list_kind(self) -> str:
        return self.list_name or self.kind + "List"


class VersionRules:
    """The hooks of one version. Objects are JSON as the client sent it, pruned and defaulted by the schema."""

    def __init__(self, definition: Object, version: Object, converter: Converter, *, reshape: bool) -> None:
        self._definition, self._version, self._converter = definition, version, converter
        self._schema = Structural((version.get("schema") or {}).get("openAPIV3Schema") or {"type": "object"})
        self._type: Type | None = None
        self._rules: Rules | None = None
        self._compiled = False
        self._printer: Printer | None = None
        self._has_status = "status" in (version.get("subresources") or {})
        # Of the version that a write came in, while its object is on its way: see `arrived`.
        self._incoming: dict[int, tuple[Object, VersionRules]] = {}
        self.FIELD_LABELS = {
            field["jsonPath"].strip("."): _reader(field["jsonPath"]) for field in version.get("selectableFields") or []
        }
        self.UNKNOWN_FIELD_LABEL = "field label not supported: {}"
        # The warning that every request in this version earns; "" for none.
        self.DEPRECATION = ""
        if version.get("deprecated"):
            spec = definition["spec"]
            usual = f"{spec['group']}/{version['name']} {spec['names']['kind']} is deprecated"
            self.DEPRECATION = version.get("deprecationWarning") or usual
        if reshape:
            self.from_storage = self._from_storage
            if converter.by_webhook:
                self.prefetch = self._prefetch
        elif converter.by_webhook:
            self.upgrade = self._upgrade

    @property
    def name(self) -> str:
        return str(self._version["name"])

    # --- reading what clients send

    def schema_type(self) -> Type:
        if self._type is None:
            self._type = type_of(self._schema)
        return self._type

    def openapi_schema(self) -> Object:
        return self._schema.schema

    def decode(self, doc: Object, validation: str, problems: list[str]) -> tuple[Object, list[str]]:
        """Metadata by its type, the rest pruned by the schema. Raises ApiError 400."""
        unknown: list[str] = []
        kind = self._definition["spec"]["names"]["kind"]
        meta = doc.get("metadata")
        if meta is not None:
            try:
                doc["metadata"], lost = decode_plain(meta, Schema.load().meta("ObjectMeta"))
            except DecodeError as error:
                raise cannot_be_handled(doc, kind, str(error)) from None
            unknown += [f"metadata.{path}" for path in lost]
        unknown += prune(doc, self._schema)
        if validation == "Ignore":
            return doc, []
        found = strict_problems(unknown, problems)
        if found and validation == "Strict":
            raise cannot_be_handled(doc, kind, "strict decoding error: " + ", ".join(found))
        return doc, found

    def default(self, obj: Object) -> None:
        prune_nulls(obj, self._schema)
        apply_defaults(obj, self._schema)

    # --- versions

    def to_storage(self, obj: Object) -> Object:
        """Called for versions other than the stored one; the stored version's rules are told which."""
        target = self._converter.storage
        converted = self._converter.convert(obj, self.name, target.name)
        target._expect(converted, self)
        return converted

    async def _prefetch(self, objects: Iterable[Object]) -> None:
        """Convert stored objects that are about to be read in this version, all at once and without blocking."""
        by_version: dict[str, list[Object]] = {}
        for obj in objects:
            by_version.setdefault(_version_of(obj), []).append(obj)
        for stored, some in by_version.items():
            await self._converter.prefetch(some, stored, self.name)

    def _upgrade(self, obj: Object) -> Object:
        """An object that was stored in another version than objects are today."""
        return self._converter.convert(obj, _version_of(obj), self.name)

    def _from_storage(self, obj: Object) -> Object:
        source = _version_of(obj) if self._converter.by_webhook else self._converter.storage.name
        converted = self._converter.convert(obj, source, self.name)
        prune(converted, self._schema)
        self.default(converted)
        return converted

    def _arrived(self, obj: Object) -> VersionRules:
        """The rules that an object on its way to the store must satisfy: those of the version it was sent in."""
        known = self._incoming.pop(id(obj), None)
        return known[1] if known is not None and not self._converter.by_webhook else self

    def _expect(self, obj: Object, rules: VersionRules) -> None:
        """Remember in which version an object was sent, until it is validated; of those refused before, a few stay."""
        while len(self._incoming) >= under_way_max:
            del self._incoming[next(iter(self._incoming))]
        self._incoming[id(obj)] = (obj, rules)

    # --- writing

    def changes_generation(self, new: Object, old: Object) -> bool:
        if self._has_status:
            return content_changed(new, old)
        skip = ("metadata", "apiVersion", "kind")
        return {k: v for k, v in new.items() if k not in skip} != {k: v for k, v in old.items() if k not in skip}

    def prepare_create(self, obj: Object) -> None:
        """A status that the schema gives by default is there although nobody may set one."""
        apply_defaults(obj, self._schema)

    def prepare_status_update(self, new: Object, old: Object) -> None:
        """Status alone changes, and of metadata what the server itself keeps."""
        status, meta = new.get("status"), new["metadata"]
        for name in [name for name in new if name not in ("apiVersion", "kind")]:
            del new[name]
        new.update({name: value for name, value in old.items() if name not in ("apiVersion", "kind", "status")})
        kept = dict(old["metadata"])
        for name in ("managedFields", "resourceVersion"):
            if name in meta:
                kept[name] = meta[name]
        new["metadata"] = kept
        if status is not None:
            new["status"] = status

    def validate_create(self, obj: Object) -> Errors:
        return self._arrived(obj)._validate(obj)

    def validate_update(self, new: Object, old: Object) -> Errors:
        return self._arrived(new)._validate(new, old)

    def validate_status_update(self, new: Object, old: Object) -> Errors:
        return self._arrived(new)._validate(new, old)

    def _validate(self, obj: Object, old: Object | None = None) -> Errors:
        earlier = {"old": old} if old is not None else {}
        errors: Errors = list(validate(obj, self._schema, "", **earlier))
        if old is None or not errors:
            errors += validate_lists(obj, self._schema)
        if not errors:
            errors += evaluate_rules(self._cel(), obj, ABSENT if old is None else old)
        return errors

    def _cel(self) -> Rules | None:
        if not self._compiled:
            self._rules, self._compiled = compile_rules(self._schema), True
        return self._rules

    # --- showing

    @property
    def COLUMNS(self) -> Any:
        return self._print().columns

    def row(self, obj: Object) -> list[Any]:
        return self._print().row(obj)

    def _print(self) -> Printer:
        if self._printer is None:
            self._printer = Printer(self._version.get("additionalPrinterColumns") or [])
        return self._printer


def _version_of(obj: Object) -> str:
    return str(obj["apiVersion"]).rpartition("/")[2]


def _reader(path: str) -> Callable[[Object], str]:
    def read(obj: Object) -> str:
        found = find(obj, path)
        if not found:
            return ""
        return str(found[0]).lower() if isinstance(found[0], bool) else str(found[0])

    return read


def kinds_of(definition: Object, ask: Ask) -> list[Kind]:
    """The served versions of an established definition, all with one hub: the stored version."""
    spec = definition["spec"]
    versions = spec["versions"]
    storage = next(version for version in versions if version.get("storage"))
    converter = Converter(definition, ask)
    # A definition that has changed since its objects were written shows them by its schema of today.
    changed = (definition["metadata"].get("generation") or 1) > 1
    hub_rules = VersionRules(definition, storage, converter, reshape=False)
    converter.storage = hub_rules
    hub = _kind(definition, storage, hub_rules)
    kinds: list[Kind] = []
    for version in versions:
        if not version.get("served"):
            continue
        if version is storage and not changed:
            kinds.append(hub)
            continue
        kind = _kind(definition, version, VersionRules(definition, version, converter, reshape=True))
        kind.hub = hub
        kinds.append(kind)
    return kinds


def _kind(definition: Object, version: Object, rules: VersionRules) -> Kind:
    spec = definition["spec"]
    group, storage = spec["group"], next(v["name"] for v in spec["versions"] if v.get("storage"))
    names = definition["status"].get("acceptedNames") or spec["names"]
    own = version.get("subresources") or {}
    subresources: dict[str, Subresource] = {}
    scale = None
    if own.get("status") is not None:
        subresources["status"] = Subresource("status", names["kind"])
    if own.get("scale"):
        subresources["scale"] = Subresource("scale", "Scale", group="autoscaling", version="v1")
        paths = own["scale"]
        scale = Scale(paths["specReplicasPath"], paths["statusReplicasPath"], paths.get("labelSelectorPath") or "")
    return CustomKind(
        group,
        version["name"],
        names["kind"],
        names["plural"],
        spec["scope"] == "Namespaced",
        singular=names.get("singular") or "",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=subresources,
        scale=scale,
        storage_prefix=f"/registry/{group}/{names['plural']}",
        storage=(group, storage, names["kind"]),
        generation=True,
        allow_unconditional_update=False,
        hooks=rules,
        list_name=names.get("listKind") or "",
    )
