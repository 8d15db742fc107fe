"""Reconciles rules for RBAC role, role binding, cluster role, and cluster role binding objects.

What is missing is added; what is there beyond the files stays, unless its removal is asked for.
"""

from __future__ import annotations

import itertools
from typing import Any

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import DRY_RUN, FILES, PRINTING, Parsed, boolean
from peavine.cli.resources import Target, file_targets, has_files
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

FLAGS = (
    *PRINTING, *FILES, DRY_RUN,
    boolean("remove-extra-permissions", help="If true, removes extra permissions added to roles"),
    boolean("remove-extra-subjects", help="If true, removes extra subjects added to rolebindings"),
)  # fmt: skip
Object = dict[str, Any]
_PARTS = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")


async def run(session: Session, flags: Parsed) -> int:
    if not has_files(flags):
        raise CliError("must specify one of -f and -k")
    changes = Changes(session, flags, "kubectl-auth-reconcile")
    if changes.dry_run == "server":
        raise CliError("--dry-run=server for command reconcile is not supported yet")
    async for target in file_targets(session, flags):
        if target.mapping.group != "rbac.authorization.k8s.io":
            continue
        if target.mapping.version != "v1":
            raise CliError("only rbac.authorization.k8s.io/v1 is supported: not " + target.mapping.api_version)
        await (_role if target.mapping.kind in ("Role", "ClusterRole") else _binding)(session, flags, changes, target)
    return changes.code


async def _live(session: Session, target: Target) -> Object | None:
    try:
        return await session.get(target.path)
    except ApiError as error:
        if error.code != 404:
            raise
        return None


async def _role(session: Session, flags: Parsed, changes: Changes, target: Target) -> None:
    wished = target.object or {}
    live = await _live(session, target)
    rules = wished.get("rules") or []
    if live is None:
        return await _made(session, changes, target, "rules", rules, _shown_rule)
    aggregated = wished.get("aggregationRule")
    have = live.get("rules") or []
    missing = [] if aggregated else [rule for rule in _broken_down(rules) if not _covered(rule, have)]
    extra = [rule for rule in _broken_down(have) if not _covered(rule, rules)]
    after = _with_metadata(live, wished)
    if aggregated:
        after["aggregationRule"] = aggregated
    if missing:
        after["rules"] = [*have, *missing]
    removed = extra if flags["remove-extra-permissions"] and extra else []
    if removed:
        after["rules"] = rules
    await _saved(session, changes, target, live, after, "rules", missing, removed, _shown_rule)


async def _binding(session: Session, flags: Parsed, changes: Changes, target: Target) -> None:
    wished = target.object or {}
    live = await _live(session, target)
    subjects = [_whole(subject, target.namespace) for subject in wished.get("subjects") or ()]
    if live is None:
        return await _made(session, changes, target, "subjects", subjects, _shown_subject)
    if live.get("roleRef") != wished.get("roleRef"):
        session.warn("\treconciliation required recreate")
        answer: Object = wished
        if changes.dry_run == "none":
            options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": live["metadata"]["uid"]}}
            await changes.send("DELETE", target.path, options, query={})
            answer = await changes.create(target)
        return changes.report(target, "reconciled", answer)
    have = [_whole(subject, target.namespace) for subject in live.get("subjects") or ()]
    missing = [subject for subject in subjects if subject not in have]
    extra = [subject for subject in have if subject not in subjects]
    after = _with_metadata(live, wished)
    if missing:
        after["subjects"] = [*have, *missing]
    removed = extra if flags["remove-extra-subjects"] and extra else []
    if removed:
        after["subjects"] = subjects
    await _saved(session, changes, target, live, after, "subjects", missing, removed, _shown_subject)


async def _made(session: Session, changes: Changes, target: Target, what: str, added: list[Object], shown: Any) -> None:
    answer = target.object if changes.dry_run == "client" else await changes.create(target)
    changes.report(target, "reconciled", answer)
    session.out.flush()
    _tell(session, "create", what, added, [], shown)


async def _saved(
    session: Session, changes: Changes, target: Target, live: Object, after: Object, what: str, missing: list[Object],
    removed: list[Object], shown: Any,
) -> None:  # fmt: skip
    answer = after
    changed = after != live
    if changed and changes.dry_run == "none":
        answer = await changes.send("PUT", target.path, after, query=changes.query())
    changes.report(target, "reconciled", answer)
    session.out.flush()
    if changed:
        _tell(session, "update", what, missing, removed, shown)


def _tell(session: Session, how: str, what: str, added: list[Object], removed: list[Object], shown: Any) -> None:
    session.warn(f"\treconciliation required {how}")
    for found, words in ((added, f"missing {what} added"), (removed, f"extra {what} removed")):
        if found:
            session.warn(f"\t{words}:")
            for item in found:
                session.warn(f"\t\t{shown(item)}")


def _with_metadata(live: Object, wished: Object) -> Object:
    meta = dict(live["metadata"])
    for part in ("labels", "annotations"):
        merged = {**(meta.get(part) or {}), **((wished.get("metadata") or {}).get(part) or {})}
        if merged:
            meta[part] = merged
    return {**live, "metadata": meta}


def _broken_down(rules: list[Object]) -> list[Object]:
    """Rules of one verb, one group, one resource and one name each."""
    found = []
    for rule in rules:
        for verb, url in itertools.product(rule.get("verbs") or (), rule.get("nonResourceURLs") or ()):
            found.append({"verbs": [verb], "nonResourceURLs": [url]})
        names = rule.get("resourceNames") or [None]
        groups, resources = rule.get("apiGroups") or (), rule.get("resources") or ()
        for group, resource, verb, name in itertools.product(groups, resources, rule.get("verbs") or (), names):
            one: Object = {"verbs": [verb], "apiGroups": [group], "resources": [resource]}
            found.append({**one, "resourceNames": [name]} if name is not None else one)
    return found


def _covered(rule: Object, by: list[Object]) -> bool:
    """Whether one of the rules allows all that a broken-down rule does."""
    return any(all(_within(rule, other, part) for part in _PARTS) for other in by)


def _within(rule: Object, other: Object, part: str) -> bool:
    wanted, given = rule.get(part) or [], other.get(part) or []
    if part == "resourceNames":
        return not given or (bool(wanted) and set(wanted) <= set(given))
    if "*" in given and wanted:
        return True
    if part == "resources":
        return all(w in given or f"*/{w.partition('/')[2]}" in given for w in wanted)
    if part == "nonResourceURLs":
        return all(w in given or any(g.endswith("*") and w.startswith(g[:-1]) for g in given) for w in wanted)
    return set(wanted) <= set(given)


def _whole(subject: Object, namespace: str | None) -> Object:
    """A subject as the server completes it."""
    found = dict(subject)
    if found.get("kind") in ("User", "Group"):
        found.setdefault("apiGroup", "rbac.authorization.k8s.io")
    elif found.get("kind") == "ServiceAccount" and namespace:
        found.setdefault("namespace", namespace)
    return found


def _shown_rule(rule: Object) -> str:
    return "{" + " ".join(f"{part[0].upper()}{part[1:].replace('api', 'API')}:[{' '.join(rule.get(part) or ())}]"
                          for part in _PARTS).replace("ApiGroups", "APIGroups") + "}"  # fmt: skip


def _shown_subject(subject: Object) -> str:
    words = (("Kind", "kind"), ("APIGroup", "apiGroup"), ("Name", "name"), ("Namespace", "namespace"))
    return "{" + " ".join(f"{shown}:{subject.get(key, '')}" for shown, key in words) + "}"
