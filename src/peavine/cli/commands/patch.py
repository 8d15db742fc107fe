"""Update fields of a resource using a strategic merge patch, a JSON merge patch, or a JSON patch."""

from __future__ import annotations

from pathlib import Path

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import DRY_RUN, FIELD_MANAGER, FILES, PRINTING, Parsed, boolean, string
from peavine.cli.resources import Target, file_targets, has_files, queries
from peavine.cli.session import Session
from peavine.machinery.codecs import json, yaml
from peavine.machinery.errors import ApiError

FLAGS = (
    *PRINTING, *FILES, DRY_RUN, FIELD_MANAGER,
    string("patch", "p", help="The patch to be applied to the resource JSON file."),
    string("patch-file", help="A file containing a patch to be applied to the resource."),
    string("type", default="strategic", help="The type of patch being provided; one of [json merge strategic]"),
    string("subresource", help="If specified, patch will operate on the subresource of the requested object."),
    boolean("local", help="If true, patch will operate on the content of the file, not the server-side resource."),
)  # fmt: skip


async def run(session: Session, flags: Parsed) -> int:
    if not flags["patch"] and not flags["patch-file"]:
        raise CliError("must specify --patch or --patch-file containing the contents of the patch")
    text = flags["patch"] or _read(flags["patch-file"])
    if flags["type"] not in ("json", "merge", "strategic"):
        raise CliError(f"--type must be one of [json merge strategic], not {flags['type']!r}".replace("'", '"'))
    try:
        body = text.encode() if text.lstrip()[:1] in ("{", "[") else json.encode(yaml.decode(text))
    except yaml.YamlError as error:
        raise CliError(f"unable to parse {text!r}: {error}") from None
    changes = Changes(session, flags, "kubectl-patch")
    async for target in _targets(session, flags):
        try:
            before = await session.get(target.path)
            if changes.dry_run == "client":
                changes.report(target, "patched", before)
                continue
            answer = await changes.patch(target, body, flags["type"], subresource=flags["subresource"] or None)
            same = before["metadata"].get("resourceVersion") == answer["metadata"].get("resourceVersion")
            changes.report(target, "patched (no change)" if same and changes.dry_run == "none" else "patched", answer)
        except ApiError as error:
            if error.code == 415:
                raise CliError("strategic merge patch is not supported for this resource: use --type=merge") from None
            changes.fail(error)
    return changes.code


def _read(path: str) -> str:
    return Path(path).read_text()


async def _targets(session: Session, flags: Parsed):  # type: ignore[no-untyped-def]
    if has_files(flags):
        async for target in file_targets(session, flags):
            yield target
        return
    for query in await queries(session, flags.arguments, command="patch"):
        if not query.names:
            raise CliError("resource(s) were provided, but no name was specified")
        for name in query.names:
            yield Target(query.mapping, session.namespace if query.mapping.namespaced else None, name)
