"""Update the labels on a resource."""

from __future__ import annotations

from peavine.cli.changes import Changes, merge_metadata
from peavine.cli.failures import CliError
from peavine.cli.flags import (
    ALL_NAMESPACES,
    DRY_RUN,
    FIELD_MANAGER,
    FIELD_SELECTOR,
    FILES,
    PRINTING,
    SELECTOR,
    Parsed,
    boolean,
    string,
)
from peavine.cli.resources import Target, has_files, targets
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

FLAGS = (
    *PRINTING, *FILES, SELECTOR, FIELD_SELECTOR, ALL_NAMESPACES, DRY_RUN, FIELD_MANAGER,
    boolean("all", help="Select all resources, in the namespace of the specified resource types."),
    boolean("list", help="If true, display the labels for a given resource."),
    boolean("overwrite", help="If true, allow labels to be overwritten."),
    boolean("local", help="If true, will NOT contact api-server but run locally."),
    string("resource-version", help="If non-empty, the update will only succeed if this is the current version."),
)  # fmt: skip
WORD, FIELD, DONE, UNDONE = "label", "labels", "labeled", "unlabeled"


async def run(session: Session, flags: Parsed) -> int:
    return await change(session, flags, WORD, FIELD, DONE, UNDONE)


async def change(session: Session, flags: Parsed, word: str, field: str, done: str, undone: str) -> int:
    resources, wanted, removed = _split(flags.arguments, word)
    flags.arguments = resources
    if not resources and not has_files(flags):
        raise CliError("one or more resources must be specified as <resource> <name> or <resource>/<name>")
    if not (wanted or removed or flags["list"]):
        raise CliError(f"at least one {field.removesuffix('s')} update is required")
    changes = Changes(session, flags, f"kubectl-{word}")
    async for target in targets(session, flags, command=word):
        try:
            await _one(changes, flags, target, wanted, removed, (word, field, done, undone))
        except ApiError as error:
            changes.fail(error)
    return changes.code


def _split(arguments: list[str], word: str) -> tuple[list[str], dict[str, str], list[str]]:
    resources: list[str] = []
    wanted: dict[str, str] = {}
    removed: list[str] = []
    for argument in arguments:
        if "=" in argument and not argument.startswith("="):
            key, _, value = argument.partition("=")
            wanted[key] = value
        elif argument.endswith("-") and resources and len(argument) > 1:
            removed.append(argument[:-1])
        elif wanted or removed:
            raise CliError(f"all resources must be specified before {word} changes: {argument}")
        else:
            resources.append(argument)
    both = sorted(set(wanted) & set(removed))
    if both:
        said = "can not both modify and remove a label in the same command"
        if word == "annotate":
            listed = ",".join(both)
            said = f"can not both modify and remove the following annotation(s) in the same command: {listed}"
        raise CliError(said)
    return resources, wanted, removed


async def _one(
    changes: Changes, flags: Parsed, target: Target, wanted: dict[str, str], removed: list[str], words: tuple[str, ...]
) -> None:
    word, field, done, undone = words
    meta = (target.object or {})["metadata"]
    current: dict[str, str] = meta.get(field) or {}
    if flags["list"]:
        for key, value in sorted(current.items()):
            changes.session.print(f"{key}={value}")
        return
    if not flags["overwrite"]:
        clashes = [key for key, value in sorted(wanted.items()) if key in current and current[key] != value]
        taken = [f"'{key}' already has a value ({current[key]})" for key in clashes]
        if taken and word == "label":
            raise CliError(f"{taken[0]}, and --overwrite is false")
        if taken:
            found = "; ".join(taken)
            raise CliError(f"--overwrite is false but found the following declared annotation(s): {found}")
    for key in removed:
        if key not in current:
            changes.session.print(f'{word} "{key}" not found.')
    updated: dict[str, str | None] = {k: v for k, v in wanted.items() if current.get(k) != v}
    updated.update({key: None for key in removed if key in current})
    if word == "label":
        outcome = f"not {done}" if not updated else undone if all(v is None for v in updated.values()) else done
    else:
        outcome = done
    if not updated:
        return changes.report(target, outcome)
    if changes.dry_run == "client" or flags.get("local"):
        merged = {k: v for k, v in {**current, **updated}.items() if v is not None}
        return changes.report(target, outcome, {**(target.object or {}), "metadata": {**meta, field: merged}})
    body = merge_metadata(updated, field)
    if flags["resource-version"]:
        body["metadata"]["resourceVersion"] = flags["resource-version"]
    changes.report(target, outcome, await changes.patch(target, body, "merge"))
