"""Names that resources call each other by, put right after the names have changed."""

from __future__ import annotations

from functools import partial
from typing import Any

from peavine.cli.failures import CliError
from peavine.cli.kustomize.fieldspecs import REFERENCES, Reference, visit
from peavine.cli.kustomize.resource import CLUSTER_SCOPED, Collection, Resource

Object = dict[str, Any]


def fix_references(resources: Collection, more: tuple[Reference, ...] = ()) -> None:
    for referrer in resources.resources:
        for kind, group, spec in (*REFERENCES, *more):
            if not spec.fits(referrer.id):
                continue
            targets = [
                r for r in resources.resources if r.former and r.id.kind == kind and (not group or r.id.group == group)
            ]
            if targets:
                visit(referrer.obj, spec.path, partial(_fixed, targets=targets, referrer=referrer))


def _fixed(value: Any, targets: list[Resource], referrer: Resource) -> Any:
    if isinstance(value, str):
        if "roleRef" in referrer.obj and targets[0].id.kind != referrer.obj["roleRef"].get("kind"):
            return value
        namespace = referrer.id.namespace if targets[0].id.kind not in CLUSTER_SCOPED else None
        found = _target(value, namespace, targets, referrer)
        return found.id.name if found else value
    if isinstance(value, list):
        return [_fixed(item, targets, referrer) for item in value]
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        # A subject or a webhook's service: a name with its namespace.
        if value.get("kind") and value["kind"] != targets[0].id.kind:
            return value
        candidates = [r for r in targets if any(_named(i, value["name"], value.get("namespace")) for i in r.ids)]
        found = _best(value["name"], candidates, referrer)
        if found is not None:
            changed = {**value, "name": found.id.name}
            if "namespace" in value or found.id.namespace:
                changed["namespace"] = found.id.namespace or value.get("namespace", "")
            return changed
    return value


def _named(id: Any, name: str, namespace: str | None) -> bool:
    return id.name == name and (not namespace or id.effective_namespace == namespace)


def _target(name: str, namespace: str | None, targets: list[Resource], referrer: Resource) -> Resource | None:
    candidates = [r for r in targets if any(i.name == name for i in r.ids)]
    if namespace is not None and referrer.id.kind not in CLUSTER_SCOPED:
        mine = [i.effective_namespace for i in referrer.ids]
        candidates = [r for r in candidates if any(i.name == name and i.effective_namespace in mine for i in r.ids)]
    return _best(name, candidates, referrer)


def _best(name: str, candidates: list[Resource], referrer: Resource) -> Resource | None:
    """Of several, those whose name has changed along with the referrer's."""
    for closer in (
        lambda r: r.id.effective_namespace == referrer.id.effective_namespace,
        lambda r: _starts(r.prefixes, referrer.prefixes) and _starts(r.suffixes, referrer.suffixes),
        lambda r: r.prefixes == referrer.prefixes and r.suffixes == referrer.suffixes,
        lambda r: r.original.name == name,
    ):
        if len(candidates) < 2:
            break
        candidates = [r for r in candidates if closer(r)] or candidates
    if len({r.id for r in candidates}) > 1:
        listed = ", ".join(r.id.shown() for r in candidates)
        raise CliError(f"found multiple possible referrals: {listed}")
    return candidates[0] if candidates else None


def _starts(a: list[str], b: list[str]) -> bool:
    """Whether one history of prefixes (the latest last) ends as the other does."""
    size = min(len(a), len(b))
    return not size or a[-size:] == b[-size:]
