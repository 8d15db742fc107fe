"""Edit a resource from the default editor."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError, shown_api_error
from peavine.cli.flags import FIELD_MANAGER, FILES, PRINTING, Flag, Parsed, boolean, string
from peavine.cli.output.documents import to_yaml
from peavine.cli.output.printers import without_managed
from peavine.cli.resources import Target, targets
from peavine.cli.session import Session
from peavine.cli.threeway import three_way
from peavine.machinery.codecs import yaml
from peavine.machinery.errors import ApiError

FLAGS = (
    *PRINTING, *FILES, FIELD_MANAGER,
    boolean("save-config", help="If true, the configuration of current object will be saved in its annotation."),
    boolean("output-patch", help="Output the patch if the resource is edited."),
    string("subresource", help="If specified, edit will operate on the subresource of the requested object."),
    Flag("validate", "", "string", "strict", "Must be one of: strict (or true), warn, ignore (or false).", "strict"),
)  # fmt: skip
_HEADER = """# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
"""


async def run(session: Session, flags: Parsed) -> int:
    changes = Changes(session, flags, "kubectl-edit")
    changes.printer = None
    async for target in targets(session, flags, command="edit"):
        await _edit(session, changes, target)
    return changes.code


async def _edit(session: Session, changes: Changes, target: Target) -> None:
    before = without_managed(target.object or {})
    text, trouble = to_yaml(before), ""
    with tempfile.TemporaryDirectory(prefix="kubectl-edit-") as folder:
        path = Path(folder) / "object.yaml"
        while True:
            _write(path, _HEADER + trouble + text)
            _editor(path)
            edited = "".join(line for line in _read(path).splitlines(keepends=True) if not line.startswith("#"))
            if not edited.strip() or edited == text:
                session.print(
                    "Edit cancelled, no changes made."
                    if not trouble
                    else "Edit cancelled, no valid changes were saved."
                )
                return
            try:
                after = yaml.decode(edited)
                await _save(changes, target, before, after)
                return
            except yaml.YamlError as error:
                said = f"The edited file had a syntax error: {error}"
            except ApiError as error:
                said = shown_api_error(error)
            session.warn(f"error: {said}" if not said.startswith(("Error", "The ")) else said)
            trouble, text = "".join(f"# {line}\n" for line in said.splitlines()) + "#\n", edited


async def _save(changes: Changes, target: Target, before: dict, after: dict) -> None:  # type: ignore[type-arg]
    from peavine.cli.commands.apply import _patch_type

    type = _patch_type(target)
    patch = three_way(before, after, before, type)
    answer = await changes.patch(target, patch, "strategic" if type else "merge", fieldValidation="Strict")
    changes.report(target, "edited", answer)


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _read(path: Path) -> str:
    return path.read_text()


def _editor(path: Path) -> None:
    command = os.environ.get("KUBE_EDITOR") or os.environ.get("EDITOR") or "vi"
    done = subprocess.run([*shlex.split(command), str(path)], check=False)
    if done.returncode:
        raise CliError(f'there was a problem with the editor "{command}"')
