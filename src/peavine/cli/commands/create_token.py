# ruff: noqa: E501
"""Request a service account token."""

from __future__ import annotations

from typing import Any

from peavine.cli.failures import CliError
from peavine.cli.flags import PRINTING, Parsed, array, duration, string
from peavine.cli.output.printers import print_typed_json, printer_for
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

FLAGS = (
    *PRINTING,
    array("audience", help="Audience of the requested token. May be repeated."),
    duration("duration", help="Requested lifetime of the issued token; the server decides if it is not given."),
    string("bound-object-kind", help="Kind of an object to bind the token to: Node, Pod, Secret."),
    string("bound-object-name", help="Name of an object to bind the token to."),
    string("bound-object-uid", help="UID of an object to bind the token to."),
)
_KINDS = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


async def run(session: Session, flags: Parsed) -> int:
    if len(flags.arguments) != 1:
        raise CliError(
            f"exactly one NAME is required, got {len(flags.arguments)}\nSee 'kubectl create token -h' for help and examples"
        )
    name = flags.arguments[0]
    printer = printer_for(flags)
    try:
        answer = await session.client.json("POST", _path(session, name), await _request(session, flags))
    except ApiError as error:
        raise CliError(f"failed to create token: {error.message}") from None
    token = (answer.get("status") or {}).get("token")
    if not token:
        raise CliError("failed to create token: no token in server response")
    if flags["output"] == "json":
        print_typed_json(answer, session.out)
    elif printer is not None:
        printer(answer, session.out)
    else:
        session.print(token)
    return 0


def _path(session: Session, name: str) -> str:
    return f"/api/v1/namespaces/{session.namespace}/serviceaccounts/{name}/token"


async def _request(session: Session, flags: Parsed) -> dict[str, Any]:
    if flags["duration"] < 0:
        raise CliError("--duration must be greater than or equal to 0")
    if flags["duration"] % 1:
        raise CliError("--duration cannot be expressed in units less than seconds")
    spec: dict[str, Any] = {"audiences": list(flags["audience"])}
    if flags["duration"]:
        spec["expirationSeconds"] = int(flags["duration"])
    kind, bound, uid = flags["bound-object-kind"], flags["bound-object-name"], flags["bound-object-uid"]
    if kind:
        if kind not in _KINDS:
            raise CliError(f"supported --bound-object-kind values are {', '.join(sorted(_KINDS))}")
        if not bound:
            raise CliError("--bound-object-name is required if --bound-object-kind is provided")
        spec["boundObjectRef"] = {"kind": kind, "apiVersion": "v1", "name": bound}
        if uid:
            spec["boundObjectRef"]["uid"] = uid
    elif bound or uid:
        flag = "name" if bound else "uid"
        raise CliError(f"--bound-object-{flag} can only be set if --bound-object-kind is provided")
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": spec}
