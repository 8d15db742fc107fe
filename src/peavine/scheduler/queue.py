"""Pods that wait: ready to be tried (active), held back after a failure (backoff), waiting for the cluster to change
(unschedulable), or for their gates to be removed (gated).

A failed pod remembers which plugins refused it. An event in the cluster moves it only if one of these says that the
event may help; it then sits out its backoff, and is active again. No I/O and no tasks here: `pop` returns None when
nothing is ready, `ready_in` says when something will be.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from peavine.base.clock import Clock
from peavine.scheduler.template import Pod

# After this long a pod is tried again even if nothing happened that seemed to help.
UNSCHEDULABLE_SECONDS_MAX = 300.0

Place = Literal["active", "backoff", "unschedulable", "gated", ""]


@dataclass(slots=True, eq=False)
class Queued:
    pod: Pod
    since: float  # Clock.monotonic of entering the queue this time
    first: float  # of the first try, for the SLI metric
    attempts: int = 0
    rejected_by: frozenset[str] = frozenset()
    errors: int = 0  # failures that were not the cluster's refusal: a binding that failed
    until: float = 0.0  # end of the backoff
    held: bool = False  # deaf to events for now
    place: Place = ""
    heap_entry: tuple[float, ...] = field(default=(), repr=False)


class SchedulingQueue:
    def __init__(
        self,
        clock: Clock,
        *,
        backoff_seconds: float = 1.0,
        backoff_seconds_max: float = 10.0,
        wake: Callable[[], None] = lambda: None,
        moved: Callable[[str, str], None] = lambda place, event: None,
        gated: Callable[[Pod], bool] = lambda pod: pod.template.gated,
    ) -> None:
        """`wake` is called when something becomes active; `moved(place, event)` for the metrics."""
        self._clock, self._wake, self._moved, self._gated = clock, wake, moved, gated
        self._backoff, self._backoff_max = backoff_seconds, backoff_seconds_max
        self._all: dict[tuple[str, str], Queued] = {}
        self._active: list[tuple[float, float, int, Queued]] = []
        self._waiting: list[tuple[float, int, Queued]] = []  # backoff
        self._unschedulable: dict[tuple[str, str], Queued] = {}
        # The same by the plugins that refused them ("": none said), so that an event looks only at those it may help.
        self._refused: dict[str, dict[tuple[str, str], Queued]] = defaultdict(dict)
        self._order = itertools.count()
        self._sizes: dict[str, int] = {"active": 0, "backoff": 0, "unschedulable": 0, "gated": 0}
        self.oldest_unschedulable = float("inf")

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._all

    def sizes(self) -> dict[str, int]:
        return dict(self._sizes)

    def refused(self) -> Counter[tuple[str, str]]:
        """Unschedulable pods by (plugin that refused them, scheduler name)."""
        return Counter(
            (plugin, queued.pod.template.scheduler_name)
            for plugin, pods in self._refused.items()
            if plugin
            for queued in pods.values()
        )

    def get(self, key: tuple[str, str]) -> Queued | None:
        return self._all.get(key)

    def pods(self) -> Iterable[Queued]:
        return self._all.values()

    # In

    def add(self, pod: Pod, event: str = "UnscheduledPodAdd") -> None:
        """A pod that is new, or was changed in a way that may help it (`update` decides that)."""
        now = self._clock.monotonic()
        queued = self._all.get(pod.key)
        if queued is None:
            queued = self._all[pod.key] = Queued(pod, now, now)
        queued.pod = pod
        self._place(queued, "gated" if self._gated(pod) else "active", event)

    def update(self, pod: Pod) -> None:
        """A pending pod has changed: one whose template did is tried again, after its backoff."""
        queued = self._all.get(pod.key)
        if queued is None or queued.pod.uid != pod.uid:
            self.remove(pod.key)
            self.add(pod)
            return
        changed = queued.pod.template is not pod.template or queued.pod.pinned != pod.pinned
        queued.pod = pod
        if queued.place == "gated" and not self._gated(pod):
            queued.since = queued.first = self._clock.monotonic()
            self._place(queued, "active", "UpdatePodSchedulingGatesEliminated")
        elif queued.place == "active" and changed:
            self._place(queued, "active", "UnscheduledPodUpdate")
        elif queued.place == "unschedulable" and changed:
            self._move(queued, "UnscheduledPodUpdate")

    def remove(self, key: tuple[str, str]) -> None:
        queued = self._all.pop(key, None)
        if queued is not None:
            self._leave(queued)

    def failed(self, queued: Queued, rejected_by: frozenset[str], *, held: bool = False) -> None:
        """No node fitted. A pod that is `held` hears of no event until it is released or activated."""
        queued.rejected_by, queued.held = rejected_by, held
        queued.attempts += 1
        queued.since = self._clock.monotonic()
        queued.until = queued.since + self.backoff_of(queued)
        self._all[queued.pod.key] = queued
        self._place(queued, "unschedulable", "ScheduleAttemptFailure")
        self.oldest_unschedulable = min(self.oldest_unschedulable, queued.since)

    def retry(self, queued: Queued) -> None:
        """The try failed by an error that is not the pod's: back off and try again."""
        queued.attempts += 1
        queued.errors += 1
        queued.since = self._clock.monotonic()
        queued.until = queued.since + self.backoff_of(queued)
        self._all[queued.pod.key] = queued
        self._place(queued, "backoff", "ScheduleAttemptFailure")

    def backoff_of(self, queued: Queued) -> float:
        return min(self._backoff_max, self._backoff * 2.0 ** min(max(queued.attempts, 1) - 1, 30))

    def release(self, key: tuple[str, str]) -> None:
        """Let a held pod hear of events again."""
        queued = self._all.get(key)
        if queued is not None and queued.held:
            queued.held = False
            if queued.place == "unschedulable":
                self._listen(queued)

    def activate(self, key: tuple[str, str]) -> None:
        """Try a pod now, whatever it waits for (its victims are gone, its group is complete)."""
        queued = self._all.get(key)
        if queued is not None and queued.place in ("backoff", "unschedulable"):
            self._place(queued, "active", "ForceActivate")

    # Out

    def pop(self) -> Queued | None:
        """The pod to try next: highest priority, then longest waiting; None where none is ready.

        Where nothing is active, a pod that was refused by the cluster need not sit out its backoff."""
        self._end_backoffs()
        while self._active:
            entry = heapq.heappop(self._active)
            queued = entry[3]
            if queued.place == "active" and queued.heap_entry == entry[:3]:
                return self._taken(queued)
        while self._waiting:
            if self._waiting[0][2].place != "backoff" or self._waiting[0][2].heap_entry != self._waiting[0][:2]:
                heapq.heappop(self._waiting)
                continue
            early = next((e for e in self._waiting if self._is_current(e) and not e[2].errors), None)
            return None if early is None else self._taken(early[2])
        return None

    def _is_current(self, entry: tuple[float, int, Queued]) -> bool:
        return entry[2].place == "backoff" and entry[2].heap_entry == entry[:2]

    def _taken(self, queued: Queued) -> Queued:
        self._leave(queued)
        del self._all[queued.pod.key]
        return queued

    def ready_in(self) -> float | None:
        """Seconds until a backoff ends or an unschedulable pod has waited long enough; None: only an event can tell."""
        now = self._clock.monotonic()
        ends = [entry[0] for entry in self._waiting[:1]]
        if self._unschedulable:
            ends.append(self.oldest_unschedulable + UNSCHEDULABLE_SECONDS_MAX)
        return max(0.0, min(ends) - now) if ends else None

    def _end_backoffs(self) -> None:
        now = self._clock.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            entry = heapq.heappop(self._waiting)
            if self._is_current(entry):
                self._place(entry[2], "active", "BackoffComplete")
        if self._unschedulable and self.oldest_unschedulable + UNSCHEDULABLE_SECONDS_MAX <= now:
            for queued in list(self._unschedulable.values()):
                if queued.since + UNSCHEDULABLE_SECONDS_MAX <= now:
                    self._move(queued, "UnschedulableTimeout")
            self.oldest_unschedulable = min((q.since for q in self._unschedulable.values()), default=float("inf"))

    # Moving

    def happened(self, event: str, plugins: Iterable[str], may_help: Callable[[Queued], bool]) -> None:
        """Something changed in the cluster that `plugins` may answer otherwise for: move the pods that it may help."""
        if not self._unschedulable:
            return
        affected: dict[tuple[str, str], Queued] = {}
        for plugin in ("", *plugins):
            if plugin in self._refused:
                affected.update(self._refused[plugin])
        for queued in affected.values():
            if may_help(queued):
                self._move(queued, event)

    def _move(self, queued: Queued, event: str) -> None:
        self._place(queued, "backoff" if queued.until > self._clock.monotonic() else "active", event)

    def _place(self, queued: Queued, place: Place, event: str) -> None:
        self._leave(queued)
        queued.place = place
        self._sizes[place] += 1
        self._moved(place, event)
        if place == "active":
            queued.heap_entry = (-queued.pod.priority, queued.since, next(self._order))
            heapq.heappush(self._active, (*queued.heap_entry, queued))  # type: ignore[arg-type]
            self._wake()
        elif place == "backoff":
            queued.heap_entry = (queued.until, next(self._order))
            heapq.heappush(self._waiting, (*queued.heap_entry, queued))  # type: ignore[arg-type]
            self._wake()
        elif place == "unschedulable":
            self._unschedulable[queued.pod.key] = queued
            if not queued.held:
                self._listen(queued)

    def _listen(self, queued: Queued) -> None:
        for plugin in queued.rejected_by or ("",):
            self._refused[plugin][queued.pod.key] = queued

    def _leave(self, queued: Queued) -> None:
        if queued.place:
            self._sizes[queued.place] -= 1
            if queued.place == "unschedulable":
                self._unschedulable.pop(queued.pod.key, None)
                for plugin in () if queued.held else queued.rejected_by or ("",):
                    self._refused[plugin].pop(queued.pod.key, None)
                    if not self._refused[plugin]:
                        del self._refused[plugin]
        queued.place = ""
