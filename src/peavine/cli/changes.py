"""What commands that change objects share: dry runs, field managers, and the line that reports what was done."""

from __future__ import annotations

from typing import Any

import orjson

from peavine.cli.failures import CliError, shown_api_error
from peavine.cli.flags import Parsed
from peavine.cli.output.printers import print_name, print_typed_json, printer_for
from peavine.cli.resources import Target
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

Object = dict[str, Any]
FORMATS = "go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,name,template,templatefile,yaml"
PATCH_TYPES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


class Changes:
    """One command's changes: `dry_run` is none, client or server."""

    def __init__(self, session: Session, flags: Parsed, manager: str) -> None:
        self.session, self.flags = session, flags
        self.dry_run = self._dry_run(flags)
        self.manager = flags.get("field-manager") or manager
        self.printer = printer_for(flags, formats=FORMATS) if flags.get("output") or flags.get("template") else None
        self.failed = False
        self.typed = False  # whether objects were made by the command itself: JSON then has Go's order

    def _dry_run(self, flags: Parsed) -> str:
        value = flags.get("dry-run", "none")
        if value not in ("none", "client", "server"):
            if value in ("unchanged", "true"):
                self.session.warn("W --dry-run is deprecated and can be replaced with --dry-run=client.")
                return "client"
            raise CliError(f'Invalid dry-run value ({value}). Must be "none", "server", or "client".')
        return value

    def query(self, **more: Any) -> dict[str, Any]:
        query = {"fieldManager": self.manager, **more}
        if self.dry_run == "server":
            query["dryRun"] = "All"
        return {key: value for key, value in query.items() if value not in (None, "")}

    def validation(self) -> str:
        """`--validate` as the server's fieldValidation."""
        value = str(self.flags.get("validate", "strict"))
        return {"true": "Strict", "strict": "Strict", "warn": "Warn", "false": "Ignore", "ignore": "Ignore"}.get(
            value, "Strict"
        )

    async def send(
        self, method: str, path: str, body: Any, *, query: dict[str, Any], content: str = "application/json"
    ) -> Object:
        """One request that changes something. Warnings of the server go to the error stream."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        answer = await self.session.client.raw(method, path, query=query, body=data, headers={"Content-Type": content})
        return orjson.loads(await answer.read())

    async def create(self, target: Target, *, validate: bool = False) -> Object:
        query = self.query(fieldValidation=self.validation() if validate else None)
        return await self.send("POST", target.mapping.gvr.path(target.namespace), target.object, query=query)

    async def patch(
        self, target: Target, body: Any, type: str, *, subresource: str | None = None, **query: Any
    ) -> Object:
        path = target.mapping.gvr.path(target.namespace, target.name, subresource)
        return await self.send("PATCH", path, body, query=self.query(**query), content=PATCH_TYPES[type])

    def report(self, target: Target, done: str, obj: Object | None = None) -> None:
        """`deployment.apps/web scaled`, or the object in the form of `-o`."""
        if self.printer is print_name:
            self.session.out.write(target.shown + "\n")
        elif self.typed and self.flags.get("output") == "json":
            print_typed_json(obj or target.object or {}, self.session.out)
        elif self.printer is not None:
            self.printer(obj or target.object or {}, self.session.out)
        else:
            suffix = {"client": " (dry run)", "server": " (server dry run)"}.get(self.dry_run, "")
            self.session.out.write(f"{target.shown} {done}{suffix}\n")

    def fail(self, error: ApiError, doing: str = "") -> None:
        """Report a failure and go on with the next object."""
        self.session.out.flush()
        self.session.warn(shown_api_error(error, doing=doing))
        self.failed = True

    @property
    def code(self) -> int:
        return 1 if self.failed else 0


def merge_metadata(changed: dict[str, str | None], field: str) -> Object:
    """A merge patch that sets or (None) removes labels or annotations."""
    return {"metadata": {field: changed}}
