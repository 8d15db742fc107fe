"""The history of a cluster in one file: what `peavine record` writes and `peavine replay` reads.

gzip of JSON lines. The first line says what the file is; each other line is one revision of one object:

    {"time": UNIX SECONDS, "type": "ADDED|MODIFIED|DELETED", "resource": "apps/v1/deployments", "revision": 7,
     "object": {...}}

Objects that were there when the recording began come first, as ADDED. Lines are in order of arrival; `read` sorts them
by revision. A file whose end was torn off is good up to there.
"""

from __future__ import annotations

import gzip
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from peavine.api.catalogue import CATALOGUE
from peavine.machinery.names import split_group_version
from peavine.store.interface import Event, KeyValue
from peavine.store.memory import MemoryStore

FORMAT = "peavine recording 1"
READ_BYTES = 1 << 16
SHOWN_FIELDS_MAX = 8
SHOWN_CHARACTERS_MAX = 60
NOISE = ("resourceVersion", "managedFields", "generation")

Object = dict[str, Any]


class Change(NamedTuple):
    """One revision of one object. `resource` is group/version/plural (core: v1/pods)."""

    time: float
    type: str
    resource: str
    revision: int
    object: Object

    @property
    def name(self) -> str:
        """namespace/name, or the name alone."""
        meta = self.object["metadata"]
        return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])


class Writer:
    """Appends to a new file that only its owner can read; `flush` makes what was written readable."""

    def __init__(self, path: Path, about: Object) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._under = os.fdopen(handle, "wb")
        self._file = gzip.GzipFile(fileobj=self._under, mode="wb", compresslevel=6)
        self.count = 0
        self._line({"format": FORMAT, "time": time.time(), **about})
        self.flush()

    def _line(self, entry: Object) -> None:
        self._file.write(orjson.dumps(entry) + b"\n")

    def write(self, change: Change) -> None:
        self._line(change._asdict())
        self.count += 1

    def flush(self) -> None:
        self._file.flush(zlib.Z_SYNC_FLUSH)
        self._under.flush()

    def close(self) -> None:
        self._file.close()
        self._under.close()


def read(path: Path) -> tuple[Object, list[Change]]:
    """The file's first line, and its changes by revision, each once. Raises ValueError for another kind of file."""
    lines = _lines(path)
    try:
        about = orjson.loads(next(lines, b""))
    except (orjson.JSONDecodeError, zlib.error) as error:
        raise ValueError(f"{path} is not a recording: {error}") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(f"{path} is not a recording of a format that is known here")
    found: dict[tuple[int, str, str, str], Change] = {}
    for line in lines:
        change = Change(**orjson.loads(line))
        found.setdefault((change.revision, change.resource, change.name, change.type), change)
    return about, sorted(found.values(), key=lambda change: change.revision)


def _lines(path: Path) -> Iterator[bytes]:
    """The whole lines that can be unpacked."""
    unpacker, rest = zlib.decompressobj(zlib.MAX_WBITS | 16), b""
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            *lines, rest = (rest + unpacker.decompress(piece)).split(b"\n")
            yield from lines


def until(changes: Iterable[Change], revision: int | None = None, moment: float | None = None) -> list[Change]:
    """The changes up to a revision or a time, both inclusive."""
    return [
        change
        for change in changes
        if (revision is None or change.revision <= revision) and (moment is None or change.time <= moment)
    ]


class RecordedStore(MemoryStore):
    """A store that holds recorded changes at their own revisions: old ones can be read and watched from."""

    @classmethod
    def of(cls, changes: Iterable[Change]) -> RecordedStore:
        store = cls()
        for change in changes:
            store.recall(change)
        return store

    def recall(self, change: Change) -> None:
        key, revision = _key(change), max(change.revision, self._revision)
        current = self._current(key)
        if change.type == "DELETED":
            if current is not None:
                self._record(Event("DELETE", KeyValue(key, b"", 0, revision, 0), current))
            return
        meta = {k: v for k, v in change.object["metadata"].items() if k not in ("resourceVersion", "selfLink")}
        ordered = {"kind": change.object["kind"], "apiVersion": change.object["apiVersion"], "metadata": meta}
        value = orjson.dumps({**ordered, **{k: v for k, v in change.object.items() if k not in ordered}})
        created, version = (current.create_revision, current.version + 1) if current else (revision, 1)
        self._record(Event("PUT", KeyValue(key, value, created, revision, version), current))


def _key(change: Change) -> str:
    group_version, _, plural = change.resource.rpartition("/")
    group, version = split_group_version(group_version)
    known = CATALOGUE.resource(group, version, plural)
    meta = change.object["metadata"]
    if known is not None:
        return known.hub.key(meta.get("namespace"), meta["name"])
    return f"/registry/{group}/{plural}/{change.name}" if group else f"/registry/{plural}/{change.name}"


def describe(changes: Iterable[Change]) -> Iterator[str]:
    """A line for each change: when, what, and which fields became what."""
    before: dict[tuple[str, str], Object] = {}
    for change in changes:
        key = (change.resource, change.name)
        old = before.get(key)
        words = ""
        if change.type == "DELETED":
            before.pop(key, None)
        else:
            before[key] = change.object
            if old is not None:
                words = _shortened(list(_differences("", old, change.object)))
        when = time.strftime("%H:%M:%S", time.gmtime(change.time)) + f".{int(change.time % 1 * 1000):03}"
        yield f"{change.revision:>8} {when} {change.type:8} {change.resource} {change.name}{words}"


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(n for n in new if n not in old)]:
            if name not in NOISE:
                yield from _differences(f"{path}.{name}" if path else name, old.get(name), new.get(name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}[{i}]", one, other)
    else:
        yield f"{path}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode() if value is not None else "nothing"
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "..."


def _shortened(differences: list[str]) -> str:
    more = len(differences) - SHOWN_FIELDS_MAX
    shown = differences[:SHOWN_FIELDS_MAX] + ([f"and {more} more"] if more > 0 else [])
    return "".join(f"\n{'':22}{line}" for line in shown)
