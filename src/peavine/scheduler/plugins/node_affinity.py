"""NodeAffinity: nodeSelector, required and preferred node affinity, and the profile's added affinity."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from peavine.api.core.nodeselector import matches, matches_requirement
from peavine.scheduler.nodes import ALL, Ints, Mask, NodeTable, Rows
from peavine.scheduler.plugins.base import Check, Plugin, Rating, Rejected, normalized
from peavine.scheduler.template import Object, Template

if TYPE_CHECKING:
    from peavine.scheduler.context import Context

REASON = "node(s) didn't match Pod's node affinity/selector"
REASON_ENFORCED = "node(s) didn't match scheduler-enforced node affinity"
REASON_CONFLICT = "pod affinity terms conflict"


class NodeAffinity(Plugin):
    name = "NodeAffinity"
    wakes_on = frozenset(("Node/Add", "Node/Update", "Node/UpdateLabel"))

    def _added(self, kind: str) -> Object:
        return (self.args.get("addedAffinity") or {}).get(f"{kind}DuringSchedulingIgnoredDuringExecution") or {}

    def check(self, context: Context, template: Template) -> Check | None:
        nodes = context.cluster.nodes
        own, enforced = required_mask(nodes, template), None
        if added := self._added("required"):
            enforced = selector_mask(nodes, added)
        if own is None and enforced is None:
            return None
        if named_nodes(template) == set():
            raise Rejected(self.name, REASON_CONFLICT)
        return _Check(own, enforced)

    def rating(self, context: Context, template: Template) -> Rating | None:
        preferences = [*template.node_preferences, *(self._added("preferred") or ())]
        if not preferences:
            return None
        nodes = context.cluster.nodes
        raw = np.zeros(nodes.capacity, np.int64)
        for preference in preferences:
            raw += (preference.get("weight") or 0) * term_mask(nodes, preference.get("preference") or {})
        return _Rating(raw)

    def hint(self, context: Context, template: Template, event: str, old: Object | None, new: Object | None) -> bool:
        if new is None:
            return True
        labels = new["metadata"].get("labels") or {}
        if any(labels.get(k) != v for k, v in template.node_selector.items()):
            return False
        return not template.node_required or matches(template.node_required, new)


class _Check(Check):
    plugin = NodeAffinity.name
    static = True

    def __init__(self, own: Mask | None, enforced: Mask | None) -> None:
        self._own, self._enforced = own, enforced
        self._ok = own if enforced is None else enforced if own is None else own & enforced

    def ok(self, rows: Rows = ALL) -> Mask:
        assert self._ok is not None
        return self._ok[rows]

    def explain(self, failed: Mask) -> list[tuple[str, Mask]]:
        if self._enforced is None:
            return [(REASON, failed)]
        return [(REASON_ENFORCED, failed & ~self._enforced), (REASON, failed & self._enforced)]

    def hopeless(self, failed: Mask) -> Mask:
        return failed


class _Rating(Rating):
    plugin = NodeAffinity.name
    static = True
    local = False

    def __init__(self, raw: Ints) -> None:
        self._raw = raw

    def rate(self, rows: Rows, feasible: Mask) -> Ints:
        return normalized(self._raw, feasible)[rows]


def required_mask(nodes: NodeTable, template: Template) -> Mask | None:
    """Rows that nodeSelector and required affinity of the template allow; None: all."""
    if not template.node_selector and not template.node_required:
        return None
    mask = nodes.present.copy()
    for key, value in template.node_selector.items():
        column = nodes.column(key)
        mask &= column.ids == column.known(value)
    if template.node_required:
        mask &= selector_mask(nodes, template.node_required)
    return mask


def selector_mask(nodes: NodeTable, selector: Object) -> Mask:
    """Rows that match any term of a NodeSelector."""
    mask = np.zeros(nodes.capacity, np.bool_)
    for term in selector.get("nodeSelectorTerms") or ():
        mask |= term_mask(nodes, term)
    return mask


def term_mask(nodes: NodeTable, term: Object) -> Mask:
    """Rows that match a term: all of its requirements; a term without any matches nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return np.zeros(nodes.capacity, np.bool_)
    mask = nodes.present.copy()
    for requirement in expressions:
        mask &= _requirement_mask(nodes, requirement)
    for requirement in fields:
        mask &= _name_mask(nodes, requirement)
    return mask


def _requirement_mask(nodes: NodeTable, requirement: Object) -> Mask:
    # One answer a distinct value of the label, looked up by its number; the last entry answers for nodes without it.
    key = requirement.get("key", "")
    column = nodes.column(key)
    answers = [matches_requirement(requirement, {key: value}) for value in column.values]
    answers.append(matches_requirement(requirement, {}))
    return np.array(answers, np.bool_)[column.ids]


def _name_mask(nodes: NodeTable, requirement: Object) -> Mask:
    names: Iterable[str] = requirement.get("values") or ()
    rows = [nodes.row_of[name] for name in names if name in nodes.row_of]
    mask = np.zeros(nodes.capacity, np.bool_)
    mask[rows] = True
    if requirement.get("key") != "metadata.name":
        return np.zeros(nodes.capacity, np.bool_)
    return ~mask if requirement.get("operator") == "NotIn" else mask


def named_nodes(template: Template) -> set[str] | None:
    """The node names that the required affinity confines the pod to, by matchFields; None: it does not."""
    names: set[str] = set()
    for term in (template.node_required or {}).get("nodeSelectorTerms") or ():
        in_term: set[str] | None = None
        for requirement in term.get("matchFields") or ():
            if requirement.get("key") == "metadata.name" and requirement.get("operator") == "In":
                values = set(requirement.get("values") or ())
                in_term = values if in_term is None else in_term & values
        if in_term is None:
            return None
        names |= in_term
    return names if (template.node_required or {}).get("nodeSelectorTerms") else None
