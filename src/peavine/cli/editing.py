"""An object in the user's editor: again and again until it is saved, or left as it was."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed
from peavine.cli.output.documents import to_json, to_yaml
from peavine.cli.resources import Target
from peavine.cli.session import Session
from peavine.machinery.codecs import json, yaml
from peavine.machinery.errors import ApiError

Object = dict[str, Any]
TRIES_MAX = 20  # an editor that is a program may never tire
_CANCELLED = "Edit cancelled, no changes made."
_NOTHING_VALID = "Edit cancelled, no valid changes were saved."


async def edit_until_saved(
    session: Session,
    flags: Parsed,
    target: Target,
    obj: Object,
    header: str,
    save: Callable[[Object], Awaitable[None]],
) -> None:
    """Let the user change `obj` and hand what it became to `save`, which may raise ApiError.

    What the server refuses comes back into the editor with the reason above it; unchanged, it ends with CliError, and
    what was typed is kept in a file.
    """
    as_json = flags.get("output") == "json"
    text, trouble, refused, tries = (to_json if as_json else to_yaml)(obj), "", False, 0
    suffix = ".json" if as_json else ".yaml"
    ending = "\r\n" if flags.get("windows-line-endings") else "\n"
    shown = header if not as_json else ""
    while True:
        descriptor, path = tempfile.mkstemp(prefix="kubectl-edit-", suffix=suffix)
        os.close(descriptor)
        _write(path, (shown + trouble + text).replace("\n", ending))
        _editor(path)
        lines = _read(path).replace("\r\n", "\n").splitlines(keepends=True)
        edited = "".join(line for line in lines if not line.startswith("#"))
        if not refused and (not edited.strip() or edited == text):
            os.unlink(path)
            session.warn(_CANCELLED)
            return
        tries += 1
        if refused and (edited == text or tries > TRIES_MAX):
            session.warn(f'A copy of your changes has been stored to "{path}"')
            raise CliError(_NOTHING_VALID)
        try:
            after = json.decode(edited.encode()) if as_json else yaml.decode(edited)
            if not isinstance(after, dict):
                raise yaml.YamlError("Object 'Kind' is missing")
            _same_object(obj, after)
            await save(after)
            os.unlink(path)
            return
        except (yaml.YamlError, json.JsonError) as error:
            reasons = [f'<nil>: Invalid value: "The edited file failed validation": {error}']
        except ApiError as error:
            causes = (error.details or {}).get("causes") or ()
            reasons = [f"{cause.get('field')}: {cause.get('message')}" for cause in causes] or [error.message]
        os.unlink(path)
        named = f'{target.mapping.plural} "{target.name}"'
        session.warn(f"error: {named} is invalid")
        trouble = f"# {named} was not valid:\n" + "".join(f"# * {reason}\n" for reason in reasons) + "#\n"
        text, refused = edited, True


def _same_object(before: Object, after: Object) -> None:
    names = [
        (obj.get("apiVersion"), obj.get("kind"), (obj.get("metadata") or {}).get("name")) for obj in (before, after)
    ]
    if names[0] != names[1]:
        raise CliError("At least one of apiVersion, kind and name was changed")


def _write(path: str, text: str) -> None:
    with open(path, "w", newline="") as file:
        file.write(text)


def _read(path: str) -> str:
    with open(path, newline="") as file:
        return file.read()


def _editor(path: str) -> None:
    command = os.environ.get("KUBE_EDITOR") or os.environ.get("EDITOR") or ("notepad" if os.name == "nt" else "vi")
    try:
        done = subprocess.run([*shlex.split(command), path], check=False)
    except OSError:
        raise CliError(f'there was a problem with the editor "{command}"') from None
    if done.returncode:
        raise CliError(f'there was a problem with the editor "{command}"')
