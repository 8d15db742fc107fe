"""Watches everything that an API server has, and writes down every revision."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import Scope, scope
from peavine.client import Client
from peavine.client.transport import Unreachable
from peavine.machinery.errors import ApiError
from peavine.testing.recording import Change, Writer

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
# The same objects under two names: one is enough.
TWINS = ("events.k8s.io/v1/events",)
DEFINITIONS = "apiextensions.k8s.io/v1/customresourcedefinitions"
NEVER_WATCHED = ("metrics.k8s.io",)

Object = dict[str, Any]


class Recorder:
    """`run()` records until cancelled. Values of Secrets are left out unless `secrets`."""

    def __init__(self, client: Client, writer: Writer, *, secrets: bool = False, clock: Clock = REAL) -> None:
        self._client, self._writer, self._secrets, self._clock = client, writer, secrets, clock
        self._watched: set[str] = set()
        self._discover = asyncio.Event()
        self.started = asyncio.Event()  # every kind has been listed once
        self._listing = 0

    async def run(self) -> None:
        async with scope() as tasks:
            tasks.start(self._flush(), name="flush")
            while True:
                self._discover.clear()
                for resource, kind in await self._resources():
                    if resource not in self._watched:
                        self._watched.add(resource)
                        self._follow(tasks, resource, kind)
                await self._discover.wait()
                await self._clock.sleep(0.5)  # a new definition takes a moment to be served

    def _follow(self, tasks: Scope, resource: str, kind: str) -> None:
        self._listing += 1
        tasks.start(Follower(self, resource, kind).run(), name=resource)

    def listed(self) -> None:
        self._listing -= 1
        if self._listing == 0:
            self.started.set()

    async def _flush(self) -> None:
        written = 0
        while True:
            await self._clock.sleep(FLUSH_SECONDS)
            if self._writer.count != written:
                written = self._writer.count
                self._writer.flush()

    async def _resources(self) -> list[tuple[str, str]]:
        """(group/version/plural, kind) of all that can be listed and watched, in each group's preferred version."""
        versions = ["v1"]
        versions += [g["preferredVersion"]["groupVersion"] for g in (await self._client.json("GET", "/apis"))["groups"]]
        found = []
        for version in versions:
            if version.partition("/")[0] in NEVER_WATCHED:
                continue
            try:
                path = f"/apis/{version}" if "/" in version else f"/api/{version}"
                listed = (await self._client.json("GET", path))["resources"]
            except ApiError as error:  # a group whose own server is down; the rest is worth having
                log.warning("cannot see what is in %s: %s", version, error)
                continue
            for entry in listed:
                resource = f"{version}/{entry['name']}"
                if {"list", "watch"} <= set(entry["verbs"]) and "/" not in entry["name"] and resource not in TWINS:
                    found.append((resource, entry["kind"]))
        return found

    def note(self, type: str, resource: str, kind: str, obj: Object, revision: int = 0) -> None:
        obj.setdefault("kind", kind)
        obj.setdefault("apiVersion", resource.rpartition("/")[0])
        if resource == "v1/secrets" and not self._secrets:
            obj = {**obj, "data": dict.fromkeys(obj.get("data") or {}, "")}
        if resource == DEFINITIONS:
            self._discover.set()
        revision = revision or int(obj["metadata"]["resourceVersion"])
        self._writer.write(Change(self._clock.time(), type, resource, revision, obj))

    def resource_of(self, resource: str) -> Any:
        version, _, plural = resource.rpartition("/")
        return self._client.resource(version, plural)


class Follower:
    """Keeps up with one resource: list, watch, and after a gap list again and note what was missed."""

    def __init__(self, recorder: Recorder, resource: str, kind: str) -> None:
        self._recorder, self._name, self._kind = recorder, resource, kind
        self._resource = recorder.resource_of(resource)
        self._known: dict[tuple[str, str], Object] = {}
        self._listed = False

    async def run(self) -> None:
        backoff = Backoff(first=0.2, most=30.0, jitter=0.2)
        version = ""
        while True:
            try:
                version = version or await self._list()
                async for type_, obj in self._resource.watch(resource_version=version):
                    backoff.forget()
                    version = obj["metadata"]["resourceVersion"]
                    if type_ != "BOOKMARK":
                        self._take(type_, obj)
                continue
            except ApiError as error:
                version = ""
                log.info("%s: %s", self._name, error)
            except Unreachable as error:
                log.warning("%s: %s", self._name, error)
            finally:
                if not self._listed:
                    self._listed = True
                    self._recorder.listed()
            await self._recorder._clock.sleep(backoff.next())

    async def _list(self) -> str:
        answer = await self._resource.list()
        revision = answer["metadata"]["resourceVersion"]
        now = {_key(obj): obj for obj in answer["items"]}
        for key, obj in list(self._known.items()):
            if key not in now:
                self._known.pop(key)
                self._recorder.note("DELETED", self._name, self._kind, obj, int(revision))
        for type_, obj in self._news(now):
            self._take(type_, obj)
        if not self._listed:
            self._listed = True
            self._recorder.listed()
        return str(revision)

    def _news(self, now: dict[tuple[str, str], Object]) -> Iterator[tuple[str, Object]]:
        for key, obj in now.items():
            known = self._known.get(key)
            if known is None:
                yield "ADDED", obj
            elif known["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
                yield "MODIFIED", obj

    def _take(self, type_: str, obj: Object) -> None:
        meta = obj["metadata"]
        if type_ == "DELETED":
            self._known.pop(_key(obj), None)
        else:
            names = ("name", "namespace", "uid", "resourceVersion")
            self._known[_key(obj)] = {"metadata": {k: meta[k] for k in names if k in meta}}
        self._recorder.note(type_, self._name, self._kind, obj)


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
