"""Those who hear of changes: each with its selectors and its renderer, found by what it asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from peavine.apiserver.cache.entries import Change, Entry

Matches = Callable[[Entry], bool]


class Sink(Protocol):
    """Where rendered frames go. `send` never blocks: a sink that cannot take more ends itself."""

    def send(self, frame: bytes) -> None: ...

    def end(self, reason: str) -> None:
        """No more frames will come: the cache was reset, or the server stops."""


class Renderer(Protocol):
    """Makes the frames of one form of answer; renderers with equal `form` make equal frames."""

    form: object

    def frame(self, type: str, entry: Entry, revision: int) -> bytes: ...

    def bookmark(self, revision: int, initial_end: bool = False) -> bytes: ...


class Watcher:
    """One watch request. `matches` None means everything (of its namespace)."""

    __slots__ = ("bookmarks", "matches", "namespace", "renderer", "sink", "told", "trigger")

    def __init__(
        self,
        sink: Sink,
        renderer: Renderer,
        *,
        namespace: str = "",
        matches: Matches | None = None,
        trigger: tuple[str, str] | None = None,
        bookmarks: bool = False,
    ) -> None:
        self.sink, self.renderer, self.namespace, self.matches = sink, renderer, namespace, matches
        # A field and the value it must have (`("spec.nodeName", "n1")`): the watcher is only asked about such objects.
        self.trigger = trigger
        self.bookmarks = bookmarks
        self.told = 0  # the newest revision the client has heard of

    def meaning(self, change: Change) -> tuple[str, Entry] | None:
        """What the change is to this watcher: an object may enter or leave what it selects. None: nothing."""
        matches = self.matches
        if matches is None:
            return change.type, change.entry
        is_in = change.type != "DELETED" and matches(change.entry)
        was_in = change.old is not None and matches(change.old)
        if is_in:
            return ("MODIFIED" if was_in else "ADDED"), change.entry
        if was_in and change.old is not None:
            return "DELETED", change.old
        return None

    def offer(self, change: Change) -> None:
        """Send what the change means to this watcher."""
        meant = self.meaning(change)
        if meant is None:
            return
        type, entry = meant
        frames = change.frames
        if frames is None:
            frames = change.frames = {}
        key = (self.renderer.form, type)
        frame = frames.get(key)
        if frame is None:
            frame = frames[key] = self.renderer.frame(type, entry, change.revision)
        self.told = change.revision
        self.sink.send(frame)

    def mark(self, revision: int) -> None:
        """Tell the client that it has heard of everything up to this revision."""
        self.told = revision
        self.sink.send(self.renderer.bookmark(revision))


class WatcherSet:
    """The watchers of one resource: those of everything, by namespace, and by the value of a field."""

    def __init__(self) -> None:
        self.all: dict[Watcher, None] = {}
        self.by_namespace: dict[str, dict[Watcher, None]] = {}
        self.by_trigger: dict[tuple[str, str], dict[Watcher, None]] = {}
        self.trigger_fields: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.all) + sum(map(len, self.by_namespace.values())) + sum(map(len, self.by_trigger.values()))

    def every(self) -> list[Watcher]:
        found = list(self.all)
        for group in (*self.by_namespace.values(), *self.by_trigger.values()):
            found += group
        return found

    def add(self, watcher: Watcher) -> None:
        if watcher.trigger is not None:
            self.by_trigger.setdefault(watcher.trigger, {})[watcher] = None
            field = watcher.trigger[0]
            self.trigger_fields[field] = self.trigger_fields.get(field, 0) + 1
        elif watcher.namespace:
            self.by_namespace.setdefault(watcher.namespace, {})[watcher] = None
        else:
            self.all[watcher] = None

    def remove(self, watcher: Watcher) -> None:
        self.all.pop(watcher, None)
        group = self.by_namespace.get(watcher.namespace)
        if group is not None and group.pop(watcher, 0) is None and not group:
            del self.by_namespace[watcher.namespace]
        if watcher.trigger is not None:
            group = self.by_trigger.get(watcher.trigger)
            if group is not None and group.pop(watcher, 0) is None:
                if not group:
                    del self.by_trigger[watcher.trigger]
                field = watcher.trigger[0]
                self.trigger_fields[field] -= 1
                if not self.trigger_fields[field]:
                    del self.trigger_fields[field]

    def offer(self, change: Change) -> None:
        for watcher in list(self.all):
            watcher.offer(change)
        if self.by_namespace:
            for watcher in list(self.by_namespace.get(change.entry.namespace, ())):
                watcher.offer(change)
        for field in list(self.trigger_fields):
            now = (field, field_value(change.entry, field))
            for watcher in list(self.by_trigger.get(now, ())):
                self._offer_in_namespace(watcher, change)
            if change.old is not None and (before := (field, field_value(change.old, field))) != now:
                for watcher in list(self.by_trigger.get(before, ())):
                    self._offer_in_namespace(watcher, change)
        change.frames = None

    @staticmethod
    def _offer_in_namespace(watcher: Watcher, change: Change) -> None:
        if not watcher.namespace or watcher.namespace == change.entry.namespace:
            watcher.offer(change)


def field_value(entry: Entry, field: str) -> str:
    """What a field selector sees of an entry; "" for what its kind does not have."""
    if field == "metadata.name":
        return entry.name
    if field == "metadata.namespace":
        return entry.namespace
    return entry.fields.get(field, "")
