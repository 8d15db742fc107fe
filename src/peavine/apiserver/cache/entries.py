"""One object as the cache holds it: its bytes cut where the revision is spliced in, and what selectors ask about it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import orjson

from peavine.machinery.names import group_version

Object = dict[str, Any]
Fields = Mapping[str, Callable[[Object], str]]
NO_LABELS: dict[str, str] = {}


class Entry:
    """An object at one revision; never changed once made.

    `rest` is its JSON from behind `"metadata":{` on, so that every answer is `head + revision + rest` and nobody has to
    parse or copy more than that.
    """

    __slots__ = ("fields", "labels", "name", "namespace", "obj", "rest", "revision", "stored")

    def __init__(
        self, namespace: str, name: str, revision: int, rest: bytes, labels: dict[str, str], fields: dict[str, str]
    ) -> None:
        self.namespace, self.name, self.revision, self.rest = namespace, name, revision, rest
        self.labels, self.fields = labels, fields
        self.stored = ""  # its apiVersion, where that is not the one that its form writes
        self.obj: Object | None = None  # decoded, for a while, where code inside the process asked for it

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class Change:
    """One event: what happened at `revision`, with the object after (or the deleted one) and before.

    `frames` holds what was rendered for watchers while the event is handed out: rendered once, shared, then dropped.
    """

    __slots__ = ("entry", "frames", "old", "revision", "type")

    def __init__(self, type: str, revision: int, entry: Entry, old: Entry | None) -> None:
        self.type, self.revision, self.entry, self.old = type, revision, entry, old
        self.frames: dict[Any, bytes] | None = None


class Form:
    """How the objects of one resource look in the store: `{"kind":K,"apiVersion":V,"metadata":{...}...}`."""

    def __init__(
        self, group: str, version: str, kind: str, fields: Callable[[], Fields], *, converts: bool = False
    ) -> None:
        """`fields` gives the kind's field labels; asked with the first object (a kind without any is not imported).

        With `converts`, objects that were stored in another version keep it: somebody must convert them. Else versions
        differ in their name only.
        """
        self.api_version, self.kind, self.converts = group_version(group, version), kind, converts
        self.head = open_object(self.api_version, kind)
        self._ask_fields = fields
        # What a writer in this process has just encoded, by the identity of the bytes, while it waits for its write:
        # they are not decoded when they come back from the store. Not to be changed.
        self.foreseen: dict[int, tuple[bytes, Object]] = {}

    def same(self, other: Form) -> bool:
        """Whether entries of this form are as the other would have made them."""
        own = (self.head, self.converts, set(self.fields))
        return own == (other.head, other.converts, set(other.fields))

    @cached_property
    def fields(self) -> Fields:
        """Field labels beyond name and namespace, read once when an object is loaded."""
        return {k: v for k, v in self._ask_fields().items() if k not in ("metadata.name", "metadata.namespace")}

    def encode(self, obj: Object, api_version: str = "") -> bytes:
        """The stored bytes of an object: type first, then metadata, without a resource version."""
        meta = obj.get("metadata") or {}
        if "resourceVersion" in meta or "selfLink" in meta:
            meta = {k: v for k, v in meta.items() if k not in ("resourceVersion", "selfLink")}
        ordered = {"kind": self.kind, "apiVersion": api_version or self.api_version, "metadata": meta}
        for name, value in obj.items():
            if name not in ordered:
                ordered[name] = value
        return dumps(ordered)

    def entry(self, namespace: str, name: str, revision: int, value: bytes) -> Entry:
        """Load stored bytes; those that another server wrote in another order or version are brought to this form."""
        return self.decoded(namespace, name, revision, value)[0]

    def decoded(self, namespace: str, name: str, revision: int, value: bytes) -> tuple[Entry, Object]:
        """The same, and the object that had to be decoded for it (without its resource version)."""
        made = self.foreseen.get(id(value)) if self.foreseen else None
        obj = made[1] if made is not None and made[0] is value else orjson.loads(value)
        head, stored = self.head, ""
        if not value.startswith(head):
            if self.converts and obj["apiVersion"] != self.api_version:
                stored = obj["apiVersion"]
                head = open_object(stored, self.kind)
            value = self.encode(obj, stored)
        labels = obj["metadata"].get("labels") or NO_LABELS
        if labels:
            labels = {sys.intern(k): sys.intern(v) for k, v in labels.items()}
        fields = {label: read(obj) for label, read in self.fields.items()} if self.fields else NO_LABELS
        entry = Entry(sys.intern(namespace), name, revision, value[len(head) :], labels, fields)
        entry.stored = stored
        return entry, obj

    def load(self, entry: Entry, revision: int = 0) -> Object:
        """The object as a dict, with its resource version; a new one at every call."""
        head = open_object(entry.stored, self.kind) if entry.stored else self.head
        return orjson.loads(b'%b"resourceVersion":"%d",%b' % (head, revision or entry.revision, entry.rest))


def open_object(api_version: str, kind: str) -> bytes:
    """The first bytes of an object of a kind, up to and with `"metadata":{`."""
    return dumps({"kind": kind, "apiVersion": api_version, "metadata": {}})[:-2]


def dumps(obj: Any) -> bytes:
    """JSON as the API writes it. Integers past 64 bits, which orjson refuses, go through the standard library."""
    try:
        return orjson.dumps(obj)
    except TypeError:
        import json

        return json.dumps(obj, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
