"""`apply --prune`: what was applied before with the same labels and is no longer in the files is deleted."""

from __future__ import annotations

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed
from peavine.cli.resources import Target
from peavine.cli.session import Session

_DEFAULT = (
    "v1/ConfigMap", "v1/Endpoints", "v1/Namespace", "v1/PersistentVolumeClaim", "v1/PersistentVolume", "v1/Pod",
    "v1/ReplicationController", "v1/Secret", "v1/Service", "batch/v1/Job", "batch/v1/CronJob",
    "networking.k8s.io/v1/Ingress", "apps/v1/DaemonSet", "apps/v1/Deployment", "apps/v1/ReplicaSet",
    "apps/v1/StatefulSet",
)  # fmt: skip


async def prune(session: Session, flags: Parsed, changes: Changes, applied: list[Target]) -> None:
    """Delete what `prunable` finds."""
    for target in await prunable(session, flags, applied):
        if changes.dry_run != "client":
            body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
            await changes.send("DELETE", target.path, body, query=changes.query(fieldManager=None))
        changes.report(target, "pruned", target.object)


async def prunable(session: Session, flags: Parsed, applied: list[Target]) -> list[Target]:
    """Objects of the allowed kinds and the labels that were applied before, and are not among `applied`."""
    from peavine.cli.commands.apply import LAST_APPLIED

    if not (flags["selector"] or flags.get("all")):
        raise CliError(
            "all resources selected for prune without explicitly passing --all. To prune all resources, pass the --all "
            "flag. If you did not mean to prune all resources, specify a label selector"
        )
    found: list[Target] = []
    kept = {(t.mapping.gvr, t.namespace, t.name) for t in applied}
    namespaces = {t.namespace for t in applied if t.namespace} or {session.namespace}
    for name in [part.removeprefix("core/") for part in flags["prune-allowlist"]] or _DEFAULT:
        api_version, _, kind = name.rpartition("/")
        mapping = await session.mapping_of(api_version, kind)
        if mapping is None:
            continue
        for namespace in sorted(namespaces) if mapping.namespaced else [None]:
            listed = await session.get(mapping.gvr.path(namespace), labelSelector=flags["selector"])
            for item in listed.get("items") or ():
                meta = item["metadata"]
                before = LAST_APPLIED in (meta.get("annotations") or {})
                if before and (mapping.gvr, namespace, meta["name"]) not in kept:
                    item.setdefault("kind", mapping.kind)
                    item.setdefault("apiVersion", mapping.api_version)
                    found.append(Target(mapping, namespace, meta["name"], item))
    return found
