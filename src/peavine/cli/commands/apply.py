# ruff: noqa: E501
"""Apply a configuration to a resource by file name or stdin.

The resource name must be specified. It is created if it does not exist yet.
"""

from __future__ import annotations

import copy
from types import ModuleType
from typing import Any

import orjson

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import (
    DRY_RUN,
    FIELD_MANAGER,
    FILES,
    PRINTING,
    SELECTOR,
    Flag,
    Parsed,
    array,
    boolean,
    duration,
    integer,
    string,
)
from peavine.cli.resources import Target, file_targets, has_files
from peavine.cli.session import Session
from peavine.cli.threeway import three_way
from peavine.machinery.errors import ApiError

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
CONCURRENT = True
SUBCOMMANDS = {
    "edit-last-applied": "Edit latest last-applied-configuration annotations of a resource/object",
    "set-last-applied": "Set the last-applied-configuration annotation on a live object to match the contents of a file",
    "view-last-applied": "View the latest last-applied-configuration annotations of a resource/object",
}
FLAGS = (
    *PRINTING, *FILES, SELECTOR, DRY_RUN, FIELD_MANAGER,
    boolean("server-side", help="If true, apply runs in the server instead of the client."),
    boolean("force-conflicts", help="If true, server-side apply will force the changes against conflicts."),
    boolean("force", help="If true, immediately remove resources from API and bypass graceful deletion."),
    Flag("validate", "", "string", "strict", 'Must be one of: strict (or true), warn, ignore (or false).', "strict"),
    boolean("overwrite", default=True, help="Automatically resolve conflicts with the modified configuration."),
    string("applyset", help="The ApplySet that tracks what is applied: [RESOURCE][.GROUP]/NAME; a Secret unless a resource is named."),
    string("subresource", help="If specified, apply will operate on the subresource of the requested object (with --server-side)."),
    boolean("prune", help="Automatically delete resource objects, that do not appear in the configs."),
    boolean("all", help="Select all resources in the namespace of the specified resource types."),
    array("prune-allowlist", help="Overwrite the default allowlist with <group/version/kind> for --prune"),
    boolean("openapi-patch", default=True, help="If true, use openapi to calculate diff."),
    boolean("wait", help="If true, wait for resources to be gone before returning."),
    duration("timeout", help="The length of time to wait before giving up on a delete."),
    integer("grace-period", default=-1, help="Seconds given to the resource to terminate gracefully."),
    Flag("cascade", "", "string", "background", 'Must be "background", "orphan", or "foreground".', "background"),
)  # fmt: skip
_ATTEMPTS = 5
_MISSING = (
    "Warning: resource {} is missing the {} annotation which is required by kubectl apply. kubectl apply should only be "
    "used on resources created declaratively by either kubectl create --save-config or kubectl apply. The missing "
    "annotation will be patched automatically."
)
Object = dict[str, Any]


def subcommand(rest: list[str]) -> tuple[ModuleType, str, list[str]]:
    import sys

    from peavine.cli.commands import apply_last

    if rest and rest[0] in ("view-last-applied", "set-last-applied", "edit-last-applied"):
        return apply_last.command(rest[0]), rest[0], rest[1:]
    return sys.modules[__name__], "", rest


async def run(session: Session, flags: Parsed) -> int:
    if not has_files(flags):
        raise CliError("must specify one of -f and -k")
    if flags.arguments:
        raise CliError(f"Unexpected args: [{' '.join(flags.arguments)}]\nSee 'kubectl apply -h' for help and examples")
    if flags["force-conflicts"] and not flags["server-side"]:
        raise CliError("--force-conflicts only works with --server-side")
    if flags["subresource"] and not flags["server-side"]:
        raise CliError("--subresource can only be specified for --server-side")
    changes = Changes(session, flags, "kubectl" if flags["server-side"] else "kubectl-client-side-apply")
    if flags["server-side"] and changes.dry_run == "client":
        raise CliError("--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)")
    applied: list[Target] = []
    targets = [t async for t in file_targets(session, flags) if not flags["selector"] or selected(t, flags["selector"])]
    if not targets:
        raise CliError("no objects passed to apply")
    members = None
    if flags["applyset"]:
        from peavine.cli.applyset import ApplySet

        members = await ApplySet.of(session, flags, changes)
        for target in targets:
            members.label(target)
        await members.claim(targets)
    for target in targets:
        try:
            await (_server_side if flags["server-side"] else _client_side)(session, flags, changes, target)
            applied.append(target)
        except ApiError as error:
            _report(changes, error, target)
        session.out.flush()
    if members is not None:
        if not changes.failed:
            await members.prune(applied)
    elif flags["prune"]:
        from peavine.cli.prune import prune

        await prune(session, flags, changes, applied)
    return changes.code


def selected(target: Target, selector: str) -> bool:
    from peavine.machinery.selectors import parse_label_selector

    labels = ((target.object or {}).get("metadata") or {}).get("labels")
    return parse_label_selector(selector).matches(labels)


def _report(changes: Changes, error: ApiError, target: Target) -> None:
    doing = getattr(error, "doing", "") or f'error when creating "{target.source}"'
    if error.reason == "Conflict" and changes.flags["server-side"] and "conflict" in error.message:
        changes.session.out.flush()
        changes.session.warn(
            f"error: {error.message}\n"
            "Please review the fields above--they currently have other managers. Here\n"
            "are the ways you can resolve this warning:\n"
            "* If you intend to manage all of these fields, please re-run the apply\n"
            "  command with the `--force-conflicts` flag.\n"
            "* If you do not intend to manage all of the fields, please edit your\n"
            "  manifest to remove references to the fields that should keep their\n"
            "  current managers.\n"
            "* You may co-own fields by updating your manifest to match the existing\n"
            "  value; in this case, you'll become the manager if the other manager(s)\n"
            "  stop managing the field (remove it from their configuration).\n"
            "See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts"
        )
        changes.failed = True
        return
    changes.fail(error, doing)


async def _server_side(session: Session, flags: Parsed, changes: Changes, target: Target) -> None:
    query = {"fieldValidation": changes.validation(), "force": "true" if flags["force-conflicts"] else "false"}
    if not target.name:
        raise CliError("metadata.name is required for server-side apply" if not _generated(target) else
                       f"from {target.object['metadata']['generateName']}: cannot use generate name with apply")  # type: ignore[index] # fmt: skip
    subresource = flags["subresource"] or None
    answer = await changes.patch(target, orjson.dumps(target.object), "apply", subresource=subresource, **query)
    changes.report(target, "serverside-applied", answer)


def _generated(target: Target) -> bool:
    return bool(((target.object or {}).get("metadata") or {}).get("generateName"))


def last_applied(obj: Object) -> bytes:
    """The annotation's text for a configuration: compact, sorted, without itself."""
    bare = copy.deepcopy(obj)
    annotations = dict(bare["metadata"].get("annotations") or {})
    annotations.pop(LAST_APPLIED, None)
    bare["metadata"]["annotations"] = annotations
    text = orjson.dumps(bare, option=orjson.OPT_SORT_KEYS).decode()
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return (text + "\n").encode()


def with_last_applied(obj: Object) -> Object:
    text = last_applied(obj).decode()
    modified = copy.deepcopy(obj)
    modified["metadata"].setdefault("annotations", {})
    modified["metadata"]["annotations"] = {**(modified["metadata"]["annotations"] or {}), LAST_APPLIED: text}
    return modified


async def _client_side(session: Session, flags: Parsed, changes: Changes, target: Target) -> None:
    assert target.object is not None
    if not target.name:
        if _generated(target):
            raise CliError(f"from {target.object['metadata']['generateName']}: cannot use generate name with apply")
        raise CliError(
            f"error when retrieving current configuration of:\nresource name may not be empty from {target.source}"
        )
    modified = with_last_applied(target.object)
    try:
        live = await session.get(target.path)
    except ApiError as error:
        if error.code != 404:
            raise
        if changes.dry_run == "client":
            return changes.report(target, "created", modified)
        created = await changes.create(Target(target.mapping, target.namespace, target.name, modified), validate=True)
        return changes.report(target, "created", created)
    for attempt in range(_ATTEMPTS):
        annotations = live["metadata"].get("annotations") or {}
        if LAST_APPLIED not in annotations:
            session.warn(_MISSING.format(f"{target.mapping.plural}/{target.name}", LAST_APPLIED))
        original = orjson.loads(annotations.get(LAST_APPLIED) or "{}")
        type = _patch_type(target)
        patch = three_way(original, modified, live, type)
        if changes.dry_run == "client":
            return changes.report(target, "configured", {**live, **modified})
        if not patch:
            return changes.report(target, "unchanged", live)
        try:
            how = "strategic" if type else "merge"
            answer = await changes.patch(target, patch, how, fieldValidation=changes.validation())
            return changes.report(target, "configured", answer)
        except ApiError as error:
            if error.code != 409 or attempt == _ATTEMPTS - 1:
                text = orjson.dumps(patch).decode()
                error.doing = f'error when applying patch:\n{text}\nto:\n{_about(target)}\nfor: "{target.source}": error when patching "{target.source}"'  # type: ignore[attr-defined]
                raise
        live = await session.get(target.path)


def _about(target: Target) -> str:
    m = target.mapping
    return (
        f'Resource: "{m.gvr.api_version if m.group else "/" + m.version}, Resource={m.plural}", GroupVersionKind: '
        f'"{m.api_version if m.group else "/" + m.version}, Kind={m.kind}"\nName: "{target.name}", Namespace: '
        f'"{target.namespace or ""}"'
    )


def _patch_type(target: Target) -> Any:
    """The type for a strategic patch; None for custom resources, which take merge patches."""
    from peavine.machinery.names import GVK
    from peavine.machinery.schema import Schema

    mapping = target.mapping
    return Schema.load().for_kind(GVK(mapping.group, mapping.version, mapping.kind))
