"""The shape of a plugin: it turns a pod's template into a `Check` (filter) and a `Rating` (score) over all nodes.

A check or rating is made once for a template and asked again as the cluster changes:
- `static`: its answer depends on node objects only; asked once a version of the cluster;
- `local`: a row's answer depends on that row alone (its node, the pods on it); asked again for changed rows only;
- neither: depends on pods anywhere; asked again whenever any row has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from peavine.scheduler.nodes import ALL, Ints, Mask, Rows
from peavine.scheduler.template import Object, Template

if TYPE_CHECKING:
    from peavine.scheduler.context import Context

SCORE_MAX = 100


class Rejected(Exception):
    """The pod cannot be placed anywhere for a reason that no node changes (upstream's PreFilter failure)."""

    def __init__(self, plugin: str, message: str, *, resolvable: bool = False) -> None:
        super().__init__(message)
        self.plugin, self.message, self.resolvable = plugin, message, resolvable


class Check:
    """A filter prepared for one template."""

    plugin: ClassVar[str] = ""
    static = False
    local = True

    def ok(self, rows: Rows = ALL) -> Mask:
        """Which of `rows` pass. Rows without a node may say anything."""
        raise NotImplementedError

    def explain(self, failed: Mask) -> list[tuple[str, Mask]]:
        """The reasons of the rows in `failed` (a mask over all rows, which fail here); a row may have several."""
        raise NotImplementedError

    def hopeless(self, failed: Mask) -> Mask:
        """Those of `failed` that would not pass with fewer pods either (upstream's UnschedulableAndUnresolvable)."""
        return np.zeros_like(failed)


class MaskCheck(Check):
    """A filter that one mask decides for good, with one reason; fewer pods would not help."""

    static = True
    reason: ClassVar[str] = ""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask

    def ok(self, rows: Rows = ALL) -> Mask:
        return self._mask[rows]

    def explain(self, failed: Mask) -> list[tuple[str, Mask]]:
        return [(self.reason, failed)]

    def hopeless(self, failed: Mask) -> Mask:
        return failed


class Rating:
    """A score prepared for one template. `rate` gives 0 to 100 for each row; the evaluation applies the weight."""

    plugin: ClassVar[str] = ""
    static = False
    local = True

    def rate(self, rows: Rows, feasible: Mask) -> Ints:
        """`feasible` matters to ratings that are normalized over the feasible nodes."""
        raise NotImplementedError


class Plugin:
    """Stateless but for its arguments. A profile holds one instance of each plugin that it enables."""

    name: ClassVar[str] = ""
    # Cluster events that may make a pod schedulable which this plugin had rejected (see queue.py).
    wakes_on: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, args: Mapping[str, Any] | None = None) -> None:
        self.args: Mapping[str, Any] = args or {}

    def check(self, context: Context, template: Template) -> Check | None:
        """None: every node passes. Raises `Rejected`."""
        return None

    def rating(self, context: Context, template: Template) -> Rating | None:
        """None: all nodes are equal."""
        return None

    def hint(self, context: Context, template: Template, event: str, old: Object | None, new: Object | None) -> bool:
        """Whether this event may help a pod that the plugin rejected. Asked only for events in `wakes_on`."""
        return True


def normalized(raw: Ints, feasible: Mask, *, reverse: bool = False) -> Ints:
    """Scale to 0..100 by the highest of the feasible rows; `reverse` gives the lowest raw value the best score."""
    highest = int(raw[feasible].max(initial=0))
    if highest == 0:
        return np.full_like(raw, SCORE_MAX) if reverse else raw
    scaled = raw * SCORE_MAX // highest
    return SCORE_MAX - scaled if reverse else scaled
