"""The static CPU manager: containers of guaranteed pods that ask for whole CPUs get them alone.

Everybody else shares what is left. The assignment is written down in upstream's file, `cpu_manager_state`, so that a
restarted kubelet keeps it. No topology is looked at: the lowest free CPUs are taken.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from peavine.api.core.podstate import GUARANTEED, qos_class
from peavine.machinery.quantity import parse_quantity

Object = dict[str, Any]


def parse_cpus(text: str) -> set[int]:
    """`0-2,5` as a set."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if first:
            found |= set(range(int(first), int(last if dash else first) + 1))
    return found


def format_cpus(cpus: Iterable[int]) -> str:
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and parts[-1][1] == cpu - 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def exclusive_count(pod: Object, container: Object) -> int:
    """How many whole CPUs a container gets alone; 0 for most."""
    if qos_class(pod) != GUARANTEED:
        return 0
    request = ((container.get("resources") or {}).get("requests") or {}).get("cpu")
    if request is None:
        request = ((container.get("resources") or {}).get("limits") or {}).get("cpu", "0")
    milli = parse_quantity(request).milli()
    return milli // 1000 if milli % 1000 == 0 else 0


class NotEnough(ValueError):
    """Fewer CPUs are free than were asked for."""


class CpuManager:
    """`reserved` CPUs are never given to one container alone."""

    def __init__(self, file: Path, reserved: set[int], online: set[int] | None = None) -> None:
        self._file, self._reserved = file, reserved
        self._online = online if online is not None else set(os.sched_getaffinity(0))
        # pod uid -> container -> CPUs
        self.entries: dict[str, dict[str, str]] = {}
        try:
            self.entries = json.loads(file.read_text()).get("entries") or {}
        except (OSError, ValueError):
            self.entries = {}

    def _taken(self) -> set[int]:
        return {cpu for containers in self.entries.values() for text in containers.values() for cpu in parse_cpus(text)}

    @property
    def shared(self) -> str:
        """Where everybody else runs."""
        return format_cpus(self._online - self._taken())

    def assign(self, uid: str, container: str, count: int) -> str:
        """CPUs for the container, the same as before if it had some. Raises NotEnough."""
        had = self.entries.get(uid, {}).get(container)
        if had is not None:
            return had
        free = sorted(self._online - self._taken() - self._reserved)
        if len(free) < count:
            raise NotEnough(f"not enough cpus available to satisfy request: requested={count}, available={len(free)}")
        chosen = format_cpus(free[:count])
        self.entries.setdefault(uid, {})[container] = chosen
        self._save()
        return chosen

    def release(self, uid: str) -> bool:
        """True if the pod had any."""
        if self.entries.pop(uid, None) is None:
            return False
        self._save()
        return True

    def _save(self) -> None:
        state = {"policyName": "static", "defaultCpuSet": self.shared, "entries": self.entries}
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps(state))
        draft.replace(self._file)
