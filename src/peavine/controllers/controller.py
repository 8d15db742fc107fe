"""The one loop of all controllers: informers enqueue keys, workers reconcile them, failures come again later.

A controller is level-triggered: `reconcile(key)` looks at the caches as they are now, moves the world one step closer
to what the objects ask for, and returns. It keeps nothing that matters between two calls. Retries are the loop's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import scope
from peavine.client import Client, EventRecorder, Informer, InformerFactory, WorkQueue
from peavine.client.informer import key_of
from peavine.client.transport import Unreachable
from peavine.machinery.errors import ApiError

Object = dict[str, Any]
Key = tuple[str, str]


class Again(Exception):
    """Raised by `reconcile`: nothing is wrong, but look at this key again after `seconds`."""

    def __init__(self, seconds: float, why: str = "") -> None:
        super().__init__(why or f"again in {seconds:g} s")
        self.seconds = seconds


@dataclass
class Context:
    """What a controller is given: shared informers, a client of its own identity, a recorder, time, options."""

    client: Client
    informers: InformerFactory
    recorder: EventRecorder
    clock: Clock = REAL
    options: dict[str, Any] = field(default_factory=dict)


class Controller:
    """Base of every controller. `name` is upstream's name of it (`--controllers`, logs, metrics).

    `account` is the service account in kube-system that it acts as; upstream's bootstrap roles are bound to that name.
    One with an empty name acts as the process itself.
    """

    name: ClassVar[str]
    account: ClassVar[str]
    workers: ClassVar[int] = 5
    on_by_default: ClassVar[bool] = True

    def __init__(self, context: Context) -> None:
        self.context = context
        self.client, self.clock, self.recorder = context.client, context.clock, context.recorder
        self.queue: WorkQueue[Any] = WorkQueue(clock=context.clock, backoff=Backoff(first=0.005, most=1000.0))
        self.log = logging.getLogger(f"peavine.controllers.{self.name}")
        self._informers: list[Informer] = []

    # to override
    async def reconcile(self, key: Any) -> float | None:
        """One step for `key`. The number returned is the seconds after which to look again without a change.

        Errors are retried with backoff: ApiError and lost connections quietly, others with a traceback.
        """
        raise NotImplementedError

    async def start(self) -> None:
        """Called once when the caches are filled, before the first reconcile."""

    # for subclasses
    def watch(
        self, api_version: str, plural: str, keys: Callable[[Object], list[Any]] | None = None, **scope_: Any
    ) -> Informer:
        """The shared informer of a resource; `keys(obj)` (its own key unless given) are enqueued on every change."""
        informer = self.context.informers.informer(api_version, plural, **scope_)
        self._informers.append(informer)
        if keys is None:
            keys = _own_key

        def changed(obj: Object) -> None:
            for key in keys(obj):
                self.queue.add(key)

        def updated(old: Object, new: Object) -> None:
            # Both states: a change of owner or of labels concerns the former as well as the present one.
            for key in dict.fromkeys((*keys(old), *keys(new))):
                self.queue.add(key)

        informer.add_handler(changed, updated, changed)
        return informer

    def read(self, api_version: str, plural: str, **scope_: Any) -> Informer:
        """The shared informer of a resource that is only looked at: its changes enqueue nothing."""
        return self.watch(api_version, plural, keys=lambda obj: [], **scope_)

    # the loop
    async def run(self) -> None:
        """Reconcile until cancelled."""
        for informer in self._informers:
            await informer.synced.wait()
        await self.start()
        async with scope() as tasks:
            tasks.start(self.queue.run(), name=f"{self.name} delays")
            for n in range(self.workers):
                tasks.start(self._work(), name=f"{self.name} worker {n}")
            await asyncio.Event().wait()

    async def _work(self) -> None:
        while True:
            # A queue that never runs empty, and reconciles that never wait, must not hold up the other controllers.
            await asyncio.sleep(0)
            key = await self.queue.get()
            try:
                again = await self.reconcile(key)
            except Again as wish:
                self.queue.add_after(key, wish.seconds)
            except ApiError as error:
                # Conflicts and misses are the daily bread of optimistic writers; the rest is worth a line.
                level = logging.DEBUG if error.code in (404, 409) else logging.WARNING
                self.log.log(level, "%s: %s", key, error)
                self.queue.add_rate_limited(key)
            except (Unreachable, ConnectionError, TimeoutError) as error:
                self.log.debug("%s: %s", key, error)
                self.queue.add_rate_limited(key)
            except Exception:
                self.log.exception("reconcile of %s failed", key)
                self.queue.add_rate_limited(key)
            else:
                self.queue.forget(key)
                if again is not None:
                    self.queue.add_after(key, again)
            finally:
                self.queue.done(key)


def _own_key(obj: Object) -> list[Key]:
    return [key_of(obj)]
