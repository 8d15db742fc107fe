"""Objects, lists and events as bytes, in each form that a client may ask for.

The plain JSON form never looks inside an object: it joins stored bytes. Every other form decodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from peavine.api.kind import GENERIC_COLUMNS, Kind
from peavine.apiserver.cache import Entry, ResourceCache
from peavine.apiserver.cache.entries import dumps, open_object
from peavine.apiserver.endpoints.negotiation import CBOR, JSON, PLAIN, PROTOBUF, YAML, Output
from peavine.machinery.codecs import content
from peavine.machinery.names import group_version
from peavine.machinery.schema import Schema

Object = dict[str, Any]
# A large list is written, and compressed, in pieces of about this size.
PIECE_BYTES = 256 << 10


@lru_cache(maxsize=1024)
def _head(api_version: str, kind: str) -> bytes:
    return open_object(api_version, kind)


def encode(value: Any, output: Output) -> bytes:
    """Any API object in the media type of `output`."""
    if output is PLAIN:
        return dumps(value) + b"\n"
    return content.encode_object(value, output)


class Rendering:
    """How objects of one kind (in one version) look to one sort of client. Equal `form` means equal bytes."""

    def __init__(self, kind: Kind, cache: ResourceCache | None, output: Output, framing: str = "") -> None:
        """`cache` is what entries are loaded from; None for kinds that have none."""
        self.kind, self.output, self.framing = kind, output, framing
        self.cache: ResourceCache = cache  # type: ignore[assignment]
        self.head = _head(kind.api_version, kind.kind)
        # Another version with the same fields differs in its first bytes only.
        self.joins = (
            output.media_type == JSON
            and not output.kind
            and not output.pretty
            and (kind.hub is kind or kind.hook("from_storage") is None)
        )
        self.form: object = (kind.api_version, output, framing)

    # --- objects -------------------------------------------------------------------------------
    def load(self, entry: Entry, revision: int = 0) -> Object:
        return self.kind.from_storage(self.cache.form.load(entry, revision))

    def joined(self, entry: Entry, revision: int = 0) -> bytes:
        return b'%b"resourceVersion":"%d",%b' % (self.head, revision or entry.revision, entry.rest)

    def view(self, obj: Object) -> Object:
        """An object as this form shows it."""
        transform = self.output.kind
        if not transform:
            return obj
        if transform == "Table":
            return self.table([obj], obj["metadata"].get("resourceVersion", ""))
        return partial(obj, self.output.version)

    def object(self, entry: Entry, revision: int = 0) -> bytes:
        if self.joins:
            return self.joined(entry, revision) + b"\n"
        return self.dict(self.load(entry, revision))

    def dict(self, obj: Object) -> bytes:
        """The same for an object that is not in the cache (dry runs, deleted ones)."""
        ordered = {"kind": obj.pop("kind", self.kind.kind), "apiVersion": obj.pop("apiVersion", self.kind.api_version)}
        ordered.update(obj)
        return encode(self.view(ordered), self.output)

    # --- lists ---------------------------------------------------------------------------------
    def list_of(self, entries: Iterable[Entry], meta: Object, include_object: str = "Metadata") -> bytes:
        if self.joins:
            return b"".join(self.list_pieces(entries, meta))
        objects = [self.load(entry) for entry in entries]
        return encode(self.listed(objects, meta, include_object), self.output)

    def list_pieces(self, entries: Iterable[Entry], meta: Object) -> Iterator[bytes]:
        """The plain JSON of a list, in pieces of some size; only where `joins`."""
        kind = self.kind
        before = dumps({"kind": kind.list_kind, "apiVersion": kind.api_version, "metadata": meta})
        # Items of built-in kinds carry no type of their own; those of custom resources do.
        opened = b'{"metadata":{' if kind.definition else self.head
        separator, parts, size = b'%b,"items":[' % before[:-1], [], 0
        for entry in entries:
            parts.append(b'%b%b"resourceVersion":"%d",%b' % (separator, opened, entry.revision, entry.rest))
            separator = b","
            size += len(entry.rest)
            if size >= PIECE_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
        if separator != b",":
            parts.append(separator)
        parts.append(b"]}\n")
        yield b"".join(parts)

    def item(self, obj: Object) -> bytes:
        """An object as an item of a plain JSON list."""
        if self.kind.definition:
            obj = {k: v for k, v in obj.items() if k not in ("kind", "apiVersion")}
        return dumps(obj)

    def joined_list(self, items: list[bytes], meta: Object) -> bytes:
        """A plain JSON list of items that are bytes already."""
        before = dumps({"kind": self.kind.list_kind, "apiVersion": self.kind.api_version, "metadata": meta})
        return b'%b,"items":[%b]}\n' % (before[:-1], b",".join(items))

    def listed(self, objects: Sequence[Object], meta: Object, include_object: str = "Metadata") -> Object:
        kind, output = self.kind, self.output
        if output.kind == "Table":
            table = self.table(objects, "", include_object)
            table["metadata"] = meta
            return table
        if output.kind:
            items = [partial(obj, output.version) for obj in objects]
            version = group_version("meta.k8s.io", output.version)
            return {"kind": "PartialObjectMetadataList", "apiVersion": version, "metadata": meta, "items": items}
        if kind.definition and output.media_type != PROTOBUF:
            objects = [{k: v for k, v in obj.items() if k not in ("kind", "apiVersion")} for obj in objects]
        return {"kind": kind.list_kind, "apiVersion": kind.api_version, "metadata": meta, "items": objects}

    def table(self, objects: Sequence[Object], version: str, include_object: str = "Metadata") -> Object:
        rows = []
        for obj in objects:
            row: Object = {"cells": self.kind.row(obj)}
            conditions = row_conditions(self.kind, obj)
            if conditions:
                row["conditions"] = conditions
            if include_object == "Object":
                row["object"] = obj
            elif include_object == "None":
                row["object"] = None
            else:
                row["object"] = partial(obj, self.output.version)
            rows.append(row)
        return {
            "kind": "Table",
            "apiVersion": group_version("meta.k8s.io", self.output.version),
            "metadata": {"resourceVersion": version} if version else {},
            "columnDefinitions": [column.definition() for column in self.kind.columns],
            # Upstream's generic printer never makes the list that has no rows; those of kinds do.
            "rows": rows or (None if self.kind.columns is GENERIC_COLUMNS else []),
        }

    # --- events --------------------------------------------------------------------------------
    def frame(self, type: str, entry: Entry, revision: int) -> bytes:
        if self.joins:
            return self.framed(b'{"type":"%b","object":%b}\n' % (type.encode(), self.joined(entry, revision)))
        return self.event(type, self.view(self.load(entry, revision)))

    def event(self, type: str, obj: Object) -> bytes:
        if self.output.media_type == PROTOBUF:
            from peavine.machinery.codecs import protobuf

            return self.framed(protobuf.watch_frame(type, obj, Schema.load()))
        if self.output.media_type == CBOR:
            from peavine.machinery.codecs import cbor

            return self.framed(cbor.watch_event(type, obj, Schema.load()))
        event = {"type": type, "object": obj}
        if self.output.media_type == YAML:
            from peavine.machinery.codecs import yaml

            return self.framed(yaml.encode(event) + b"---\n")
        return self.framed(dumps(event) + b"\n")

    def bookmark(self, revision: int, initial_end: bool = False) -> bytes:
        meta: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
        if initial_end:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj: Object = {"kind": self.kind.kind, "apiVersion": self.kind.api_version, "metadata": meta}
        if self.output.kind == "Table":
            obj = self.table([], str(revision))
            if initial_end:
                obj["metadata"]["annotations"] = meta["annotations"]
        elif self.output.kind:
            obj = partial(obj, self.output.version)
        return self.event("BOOKMARK", obj)

    def framed(self, data: bytes) -> bytes:
        if self.framing == "chunked":
            return b"%x\r\n%b\r\n" % (len(data), data)
        if self.framing == "websocket":
            return websocket_frame(data, binary=self.output.media_type in (PROTOBUF, CBOR))
        return data


def websocket_frame(data: bytes, binary: bool = False) -> bytes:
    """One unmasked, final WebSocket frame (RFC 6455): what a server sends."""
    first = b"\x82" if binary else b"\x81"
    size = len(data)
    if size < 126:
        return first + bytes((size,)) + data
    if size < 1 << 16:
        return first + b"\x7e" + size.to_bytes(2, "big") + data
    return first + b"\x7f" + size.to_bytes(8, "big") + data


def partial(obj: Object, version: str = "v1") -> Object:
    """`PartialObjectMetadata` of an object."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": group_version("meta.k8s.io", version),
        "metadata": obj.get("metadata") or {},
    }


def row_conditions(kind: Kind, obj: Object) -> list[Object]:
    """Conditions of a Table row: pods and jobs that have run their course are marked, so that clients can hide them."""
    rule = kind.hook("row_conditions")
    return rule(obj) if rule else []
