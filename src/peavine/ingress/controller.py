"""Ingresses and Gateways to HAProxy: endpoint changes go in at run time, new certificates too, everything else by a
hitless reload.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import scope
from peavine.client.events import EventRecorder
from peavine.client.informer import InformerFactory
from peavine.ingress import config
from peavine.ingress.config import Slots
from peavine.ingress.gateways.source import Gateways
from peavine.ingress.haproxy import HAProxy, HAProxyError
from peavine.ingress.ingresses import classes_of, is_ours, read_ingresses
from peavine.ingress.model import NOT_FOUND, Backend, Choice, Key, Problem, Routes, Routing, Server, servers_of
from peavine.ingress.settings import Settings
from peavine.ingress.statuses import StatusWriter, Target

log = logging.getLogger(__name__)

Object = dict[str, Any]

# Changes that come together are loaded together: a reload costs a process.
gather_seconds = 0.05
REFUSED = "Refused"
_SECRET_KEYS = ("tls.crt", "tls.key", "auth")


@dataclass(slots=True)
class Counts:
    reloads: int = 0
    runtime_changes: int = 0
    refused: int = 0


class Controller:
    """Runs until cancelled, or until HAProxy ends (then it raises HAProxyError)."""

    def __init__(
        self,
        informers: InformerFactory,
        haproxy: HAProxy,
        settings: Settings,
        publish: Sequence[str] = (),
        *,
        gateway_api: bool = False,
        recorder: EventRecorder | None = None,
        clock: Clock = REAL,
    ) -> None:
        self.ready = False
        self.idle = asyncio.Event()
        """Set while every change that arrived is in force."""
        self.counts = Counts()
        self._informers, self._haproxy, self._settings = informers, haproxy, settings
        self._publish = [{"ip": ip} for ip in publish]
        self._recorder = recorder
        self._clock = clock
        self._wake = asyncio.Event()
        self._structure = True
        self._services_moved: set[Key] = set()
        self._routing = Routing()
        self._asked: Any = None
        self._slots: Slots = {}
        self._by_service: dict[Key, list[str]] = defaultdict(list)
        self._told: dict[Key, frozenset[Problem]] = {}
        self._generation = 0
        self._run_dir = Path(settings.run_dir)
        self._ingresses = informers.informer("networking.k8s.io/v1", "ingresses")
        self._classes = informers.informer("networking.k8s.io/v1", "ingressclasses")
        self._services = informers.informer("v1", "services")
        self._secrets = informers.informer("v1", "secrets", transform=_slim_secret)
        self._slices = informers.informer("discovery.k8s.io/v1", "endpointslices", transform=_slim_slice)
        self._slices.add_index("service", lambda obj: [obj["service"]] if obj["service"][1] else [])
        for informer in (self._ingresses, self._classes, self._services, self._secrets):
            informer.add_handler(self._changed, self._updated, self._changed)
        self._slices.add_handler(self._moved, self._moved_from, self._moved)
        self._all = [self._ingresses, self._classes, self._services, self._secrets, self._slices]
        self.statuses = StatusWriter(informers.client, self._restructure, clock)
        self._gateways = None
        if gateway_api:
            self._gateways = Gateways(informers, settings, publish, self._restructure, self.statuses, clock)
        if self._gateways is not None:
            self._all += self._gateways.all

    def _changed(self, _: Object) -> None:
        self._restructure()

    def _restructure(self) -> None:
        self._structure = True
        self._wake.set()

    def _updated(self, old: Object, new: Object) -> None:
        # Our own status writes, and others', change no route.
        if _without_status(old) != _without_status(new):
            self._changed(new)

    def _moved(self, piece: Object) -> None:
        self._services_moved.add(piece["service"])
        self._wake.set()

    def _moved_from(self, old: Object, new: Object) -> None:
        self._moved(old)
        self._moved(new)

    async def run(self) -> None:
        try:
            async with scope() as tasks:
                tasks.start(self._informers.run(), name="informers")
                tasks.start(self.statuses.run(), name="statuses")
                for informer in self._all:
                    await informer.synced.wait()
                (self._run_dir / "certs").mkdir(parents=True, exist_ok=True, mode=0o700)
                await self._sync_for_ever()
        finally:
            await self._haproxy.stop()

    async def _sync_for_ever(self) -> None:
        backoff = Backoff(first=0.2, most=10.0)
        async with scope() as tasks:
            watched = False
            while True:
                self._wake.clear()
                try:
                    await self._sync()
                    backoff.forget()
                except (HAProxyError, OSError) as error:
                    if not self._haproxy.running:
                        raise
                    self._structure = True
                    delay = backoff.next()
                    log.error("again in %.1f s: %s", delay, error)
                    await self._clock.sleep(delay)
                    continue
                if not watched:
                    watched = True
                    tasks.start(self._end_with_haproxy(), name="haproxy")
                self.ready = True
                if not self._wake.is_set():
                    self.idle.set()
                await self._wake.wait()
                self.idle.clear()
                await self._clock.sleep(gather_seconds)

    async def _end_with_haproxy(self) -> None:
        await self._haproxy.ended()
        raise HAProxyError("HAProxy ended")

    async def _sync(self) -> None:
        structure, self._structure = self._structure, False
        moved, self._services_moved = self._services_moved, set()
        if structure:
            classes, default = classes_of(self._classes.list())
            ours = [i for i in self._ingresses.list() if is_ours(i, classes, default)]
            services = {_key(s): s for s in self._services.list()}
            secrets = {_key(s): s for s in self._secrets.list()}
            routing = read_ingresses(ours, services, secrets, self._settings)
            verdict = self._gateways.read(routing, services, secrets) if self._gateways else None
            await self._load(routing)
            self._report(ours)
            if self._gateways and verdict:
                self._gateways.report(verdict, self._routing)
        await self._move(moved)

    # structure
    async def _load(self, routing: Routing) -> None:
        if self._haproxy.running and routing.structure() == self._asked:
            await self._renew(routing)
            now = self._routing
            refused = [problem for problem in now.problems if problem.reason == REFUSED]
            now.certificates, now.claimed = routing.certificates, routing.claimed
            now.problems = routing.problems + refused
            return
        slots = {
            name: config.slots_for(self._servers(backend), self._slots.get(name, ()))
            for name, backend in routing.backends.items()
            if backend.service is not None
        }
        self._asked = await self._reload(routing, slots)

    async def _reload(self, routing: Routing, slots: Slots) -> Any:
        """The structure as it was asked for: `routing` loses what HAProxy refuses."""
        asked = None
        self._generation += 1
        folder = self._run_dir / f"generation-{self._generation}"
        folder.mkdir(mode=0o700, exist_ok=True)
        self._write_certificates(routing)
        candidate = self._run_dir / "haproxy.cfg.new"
        while True:
            rendered = config.render(routing, slots, self._settings, str(folder))
            for name, text in rendered.files.items():
                (folder / name).write_text(text)
            candidate.write_text(rendered.config)
            try:
                await self._haproxy.check(candidate)
                break
            except HAProxyError as error:
                guilty, choices = config.guilty(rendered.config, str(error))
                guilty &= routing.backends.keys()
                asked = asked or copy.deepcopy(routing.structure())
                if not guilty and not _drop_choices(routing, choices):
                    raise
                self._drop(routing, guilty, str(error))
        candidate.rename(self._haproxy.config)
        await self._haproxy.load()
        self.counts.reloads += 1
        log.info("loaded %d backends, %d frontends", len(routing.backends), len(routing.frontends))
        self._routing = routing
        self._slots = {name: slots[name] for name in routing.backends if name in slots}
        self._by_service.clear()
        for name, backend in routing.backends.items():
            if backend.service is not None:
                self._by_service[backend.service].append(name)
        for older in self._run_dir.glob("generation-*"):
            if older != folder:
                shutil.rmtree(older, ignore_errors=True)
        # What moved while the new worker started went nowhere.
        await self._move(set(self._by_service))
        return asked or routing.structure()

    def _drop(self, routing: Routing, names: set[str], complaint: str) -> None:
        """Leave out what HAProxy does not take: others' routes must not wait for it."""
        for name in names:
            routing.backends.pop(name)
            message = f"HAProxy refuses backend {name}: {complaint.strip()[:300]}"
            log.error("%s", message)
            for key in routing.owners.pop(name, ()):
                routing.problems.append(Problem(key, REFUSED, message))
        for face in routing.frontends.values():
            for routes in (face.routes, face.streams, face.terminated):
                if routes is not None:
                    _drop_from(routes, names)

    def _write_certificates(self, routing: Routing) -> None:
        folder = self._run_dir / "certs"
        for file, pem in routing.certificates.items():
            path = folder / file
            if not path.exists() or path.read_text() != pem:
                path.touch(mode=0o600)
                path.write_text(pem)
        for path in folder.glob("*.pem"):
            if path.name not in routing.certificates and path.name != "default.pem":
                path.unlink()

    async def _renew(self, routing: Routing) -> None:
        """Certificates with new contents: no reload."""
        for file, pem in routing.certificates.items():
            if self._routing.certificates.get(file) != pem:
                path = self._run_dir / "certs" / file
                # Blank lines end the payload.
                body = "\n".join(line for line in pem.splitlines() if line.strip())
                await self._haproxy.ask(f"set ssl cert {path} <<\n{body}\n")
                answer = await self._haproxy.ask(f"commit ssl cert {path}")
                if "Success" not in answer:
                    raise HAProxyError(answer.strip())
                path.write_text(pem)
                self.counts.runtime_changes += 1
                log.info("renewed certificate %s", file)

    # endpoints
    def _servers(self, backend: Backend) -> tuple[Server, ...]:
        return servers_of(self._slices.by_index("service", backend.service), backend.port)

    async def _move(self, services: set[Key]) -> None:
        commands: list[str] = []
        after: Slots = {}
        grown = False
        for service in services:
            for name in self._by_service.get(service, ()):
                slots = list(self._slots[name])
                wanted = self._servers(self._routing.backends[name])
                changes = changes_of(name, slots, wanted)
                if changes is None:
                    grown = True
                elif changes:
                    commands += changes
                    after[name] = slots
        if grown:
            slots_now = {
                name: config.slots_for(self._servers(b), self._slots[name])
                for name, b in self._routing.backends.items()
                if b.service is not None
            }
            await self._reload(self._routing, slots_now)
            return
        if commands:
            await self._haproxy.run(commands)
            self._slots.update(after)
            self.counts.runtime_changes += len(after)

    # reporting
    def _report(self, ours: list[Object]) -> None:
        problems: dict[Key, set[Problem]] = defaultdict(set)
        for problem in self._routing.problems:
            problems[problem.ingress].add(problem)
        self.counts.refused = len(problems)
        by_key = {_key(i): i for i in ours}
        for key, found in problems.items():
            fresh = found - self._told.get(key, frozenset())
            for problem in fresh:
                log.warning("ingress %s/%s: %s", *key, problem.message)
                if self._recorder is not None and key in by_key:
                    self._recorder.event(by_key[key], "Warning", problem.reason, problem.message)
        self._told = {key: frozenset(found) for key, found in problems.items()}
        if not self._publish:
            return
        claimed = set(self._routing.claimed)
        for key, ingress in by_key.items():
            wanted = self._publish if key in claimed else []
            have = ((ingress.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
            if have != wanted:
                body = {"status": {"loadBalancer": {"ingress": wanted or None}}}
                self.statuses.put(Target("networking.k8s.io/v1", "ingresses", *key), body)


def _drop_from(routes: Routes, names: set[str]) -> None:
    if routes.fallback in names:
        routes.fallback = NOT_FOUND
    for table in (routes.exact, routes.prefix):
        for place in [p for p, name in table.items() if name in names]:
            del table[place]
    for group, choices in routes.groups.items():
        left = [Choice(c.conditions, tuple(b for b in c.backends if b[0] not in names)) for c in choices]
        routes.groups[group] = tuple(c for c in left if c.backends)


def _drop_choices(routing: Routing, lines: list[str]) -> bool:
    """Leave out the possibilities that these lines of a configuration stand for; False if there are none."""
    found = False
    for face in routing.frontends.values():
        for routes in (face.routes, face.streams, face.terminated):
            for group, choices in (routes.groups if routes is not None else {}).items():
                mine = [line for line in lines if f" {group} " in line]
                bad = {c for c in choices for line in mine if c.conditions and " ".join(c.conditions) in line}
                if routes is not None and bad:
                    log.error("HAProxy refuses the conditions of %s", mine)
                    routes.groups[group] = tuple(c for c in choices if c not in bad)
                    found = True
    return found


def changes_of(backend: str, slots: list[Server | None], wanted: Sequence[Server]) -> list[str] | None:
    """The runtime commands that put `wanted` into `slots` (which is changed); None if there are not enough."""
    commands: list[str] = []
    missing = [server for server in wanted if server not in slots]

    def fill() -> None:
        for number, server in enumerate(slots):
            if server is None and missing:
                slots[number] = new = missing.pop(0)
                where = f"{backend}/s{number}"
                commands.append(f"set server {where} addr {new.address} port {new.port}")
                commands.append(f"set server {where} state ready")

    # First the new ones: requests arrive between two commands, and there must always be a server.
    fill()
    for number, server in enumerate(slots):
        if server is not None and server not in wanted:
            # Maintenance lets running requests finish and sends no new ones.
            commands.append(f"set server {backend}/s{number} state maint")
            slots[number] = None
    fill()
    if missing:
        return None
    return commands


def _key(obj: Object) -> Key:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _without_status(obj: Object) -> Object:
    meta = obj["metadata"]
    return {
        **obj,
        "status": None,
        "metadata": {**meta, "resourceVersion": None, "managedFields": None, "generation": None},
    }


def _slim_secret(secret: Object) -> Object:
    data = secret.get("data") or {}
    return {
        "kind": "Secret",
        "metadata": {k: secret["metadata"].get(k) for k in ("name", "namespace", "uid", "resourceVersion")},
        "data": {k: data[k] for k in _SECRET_KEYS if k in data},
    }


def _slim_slice(piece: Object) -> Object:
    meta = piece["metadata"]
    return {
        "metadata": {k: meta.get(k) for k in ("name", "namespace", "uid", "resourceVersion")},
        "service": (meta["namespace"], (meta.get("labels") or {}).get("kubernetes.io/service-name", "")),
        "addressType": piece.get("addressType"),
        "endpoints": piece.get("endpoints"),
        "ports": piece.get("ports"),
    }
