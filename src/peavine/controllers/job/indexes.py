"""Completion indexes: which a pod has, and sets of them as text (`1,3-5,7`). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]

INDEX = "batch.kubernetes.io/job-completion-index"


def index_of(pod: Object) -> int:
    """The pod's completion index; -1 for none or a broken one."""
    text = (pod["metadata"].get("annotations") or {}).get(INDEX, "")
    return int(text) if text.isdigit() else -1


def parse(text: str | None, completions: int) -> set[int]:
    """The set that `1,3-5,7` stands for; indexes outside of the Job are dropped, broken parts end the list."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            break
        found.update(range(int(first), min(int(last) if dash else int(first), completions - 1) + 1))
    return {i for i in found if i < completions}


def render(indexes: Iterable[int]) -> str:
    """The text of a set: runs of three and more get a dash."""
    parts: list[str] = []
    run: list[int] = []

    def close() -> None:
        if run:
            parts.extend([f"{run[0]}-{run[-1]}"] if len(run) > 2 else map(str, run))
            run.clear()

    for index in sorted(indexes):
        if run and index != run[-1] + 1:
            close()
        run.append(index)
    close()
    return ",".join(parts)
