# ruff: noqa: E501
"""Wait for a specific condition on one or many resources."""

from __future__ import annotations

import asyncio
from typing import Any

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import (
    ALL_NAMESPACES,
    FIELD_SELECTOR,
    FILES,
    PRINTING,
    SELECTOR,
    Flag,
    Parsed,
    array,
    boolean,
    duration,
)
from peavine.cli.resources import Target, file_targets, has_files, namespace_of, queries
from peavine.cli.session import Session
from peavine.cli.terminal import Progress
from peavine.machinery.errors import ApiError

CONCURRENT = True
FLAGS = (
    *PRINTING, *FILES, SELECTOR, FIELD_SELECTOR, ALL_NAMESPACES,
    Flag("for", "", "array", (), "The condition to wait on: [delete|create|condition=NAME[=VALUE]|jsonpath='{PATH}'=VALUE]."),
    duration("timeout", default=30.0, help="How long to wait before giving up. Zero means check once."),
    boolean("all", help="Select all resources in the namespace of the specified resource types"),
    boolean("local", help="If true, will NOT contact api-server but run locally."),
    array("label-columns", help="Unused."),
)  # fmt: skip
_POLL_SECONDS = 0.25


async def run(session: Session, flags: Parsed) -> int:
    if not flags["for"]:
        raise CliError('unrecognized condition: ""')
    condition = flags["for"][-1]
    check, done = _condition(condition)
    changes = Changes(session, flags, "kubectl-wait")
    timeout = flags["timeout"] if flags["timeout"] >= 0 else 7 * 24 * 3600
    targets = await _targets(session, flags, condition)
    if not targets:
        if condition.lower() == "delete":
            return 0
        raise CliError("no matching resources found")
    for target in targets:
        try:
            with Progress(session.err) as shown:
                async with asyncio.timeout(timeout or 1.0):
                    await _until(session, target, check, condition.lower(), shown)
        except TimeoutError:
            what = "" if condition.lower() == "create" else f" on {target.mapping.plural}/{target.name}"
            session.warn(f"error: timed out waiting for the condition{what}")
            changes.failed = True
            continue
        changes.report(target, done, target.object)
    return changes.code


async def _targets(session: Session, flags: Parsed, condition: str) -> list[Target]:
    if has_files(flags):
        return [target async for target in file_targets(session, flags)]
    found: list[Target] = []
    for query in await queries(session, flags.arguments, command="wait"):
        namespace = namespace_of(session, query.mapping, flags)
        if query.names:
            for name in query.names:
                target = Target(query.mapping, namespace, name)
                if condition.lower() != "create":
                    try:
                        await session.get(target.path)
                    except ApiError as error:
                        if error.code == 404 and condition.lower() == "delete":
                            continue
                        raise
                found.append(target)
            continue
        selector, fields = flags["selector"], flags["field-selector"]
        if not (selector or fields or flags["all"]):
            raise CliError("resource(s) were provided, but no name was specified")
        listed = await session.get(query.mapping.gvr.path(namespace), labelSelector=selector, fieldSelector=fields)
        for item in listed.get("items") or ():
            found.append(Target(query.mapping, item["metadata"].get("namespace"), item["metadata"]["name"]))
    return found


def _condition(text: str):  # type: ignore[no-untyped-def]
    """A test of an object (or None, when it is gone), and the word for success."""
    lowered = text.lower()
    if lowered == "delete":
        return (lambda obj: obj is None), "condition met"
    if lowered == "create":
        return (lambda obj: obj is not None), "condition met"
    if lowered.startswith("condition="):
        name, _, value = text[len("condition=") :].partition("=")
        return (lambda obj: _has_condition(obj, name, value or "True")), "condition met"
    if lowered.startswith("jsonpath="):
        from peavine.machinery.jsonpath import JsonPath, JsonPathError, relaxed, show

        rest = text[len("jsonpath=") :]
        end = rest.rfind("}")
        path, equals, value = (
            (rest[: end + 1], rest[end + 1 : end + 2], rest[end + 2 :]) if end >= 0 else rest.partition("=")
        )
        try:
            parsed = JsonPath(relaxed(path.strip("'")))
        except JsonPathError as error:
            raise CliError(str(error)) from None

        def check(obj: Any) -> bool:
            found = parsed.find(obj) if obj is not None else []
            return bool(found) and (not equals or show(found[0]).lower() == value.strip("'\"").lower())

        return check, "condition met"
    raise CliError(f"unrecognized condition: {text!r}".replace("'", '"'))


def _has_condition(obj: Any, name: str, value: str) -> bool:
    status = (obj or {}).get("status") or {}
    observed, generation = status.get("observedGeneration"), (obj or {}).get("metadata", {}).get("generation")
    for condition in status.get("conditions") or ():
        if condition.get("type", "").lower() == name.lower():
            seen = condition.get("observedGeneration", observed)
            if seen is not None and generation is not None and seen < generation:
                return False
            return condition.get("status", "").lower() == value.lower()
    return False


async def _until(session: Session, target: Target, check, condition: str, shown: Progress) -> None:  # type: ignore[no-untyped-def]
    while True:
        try:
            target.object = await session.get(target.path)
            found: Any = target.object
        except ApiError as error:
            if error.code != 404:
                raise
            if condition not in ("delete", "create"):
                raise
            found = None
        if check(found):
            return
        shown.tick(f"waiting for {condition} of {target.shown}")
        await session.client.clock.sleep(_POLL_SECONDS)
