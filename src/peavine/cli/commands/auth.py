"""Inspect authorization: can-i, reconcile, whoami."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any, cast

from peavine.cli.failures import CliError
from peavine.cli.flags import ALL_NAMESPACES, PRINTING, Parsed, boolean, string
from peavine.cli.output.tables import TableWriter
from peavine.cli.session import Session

FLAGS: tuple[Any, ...] = ()


def subcommand(rest: list[str]) -> tuple[ModuleType, str, list[str]] | None:
    at = next((i for i, word in enumerate(rest) if not word.startswith("-")), None)
    if at is None:
        print(__doc__)
        return None
    if rest[at] == "reconcile":
        from peavine.cli.commands import auth_reconcile

        return auth_reconcile, "reconcile", rest[:at] + rest[at + 1 :]
    if rest[at] not in _COMMANDS:
        raise CliError(f"unknown command \"{rest[at]}\"\nSee 'kubectl auth -h' for help and examples")
    run, flags, doc = _COMMANDS[rest[at]]
    return cast(ModuleType, SimpleNamespace(FLAGS=flags, run=run, __doc__=doc)), rest[at], rest[:at] + rest[at + 1 :]


_VERBS = (
    "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "use", "bind", "impersonate",
    "*", "approve", "sign", "escalate", "attest", "head", "options", "post", "put",
)  # fmt: skip


async def _can_i(session: Session, flags: Parsed) -> int:
    if flags["list"]:
        return await _list(session, flags)
    if len(flags.arguments) not in (2, 3):
        usage = "See 'kubectl auth can-i -h' for help and examples."
        raise CliError(f"you must specify two arguments: verb resource or verb resource/resourceName.\n{usage}")
    verb, what, *names = flags.arguments
    spec: dict[str, Any]
    if what.startswith("/"):
        spec = {"nonResourceAttributes": {"path": what, "verb": verb}}
    else:
        resource, _, name = what.partition("/")
        attributes: dict[str, Any] = {"verb": verb, "resource": resource}
        if resource != "*":
            try:
                mapping = await session.mapping(resource)
                attributes.update(resource=mapping.plural, group=mapping.group)
                if not mapping.namespaced:
                    session.warn(
                        f"Warning: resource '{mapping.plural}' is not namespace scoped"
                        + (f" in group '{mapping.group}'" if mapping.group else "")
                        + "\n"
                    )
            except CliError:
                session.warn(f"Warning: the server doesn't have a resource type '{resource}'\n")
        if not flags["all-namespaces"]:
            attributes["namespace"] = session.namespace
        if flags["subresource"]:
            attributes["subresource"] = flags["subresource"]
        if names or name:
            attributes["name"] = names[0] if names else name
        spec = {"resourceAttributes": attributes}
    if verb not in _VERBS:
        session.warn(f"Warning: verb '{verb}' is not a known verb\n")
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
    answer = await session.client.json("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    status = answer.get("status") or {}
    if not flags["quiet"]:
        why = f" - {status['reason']}" if status.get("reason") and not status.get("allowed") else ""
        session.print(("yes" if status.get("allowed") else "no") + why)
    return 0 if status.get("allowed") else 1


async def _list(session: Session, flags: Parsed) -> int:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": session.namespace},
    }
    answer = await session.client.json("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review)
    writer = TableWriter(session.out)
    if not flags["no-headers"]:
        writer.row(["Resources", "Non-Resource URLs", "Resource Names", "Verbs"])
    status = answer.get("status") or {}
    rows: list[list[str]] = []
    others: list[list[str]] = []
    for rule in status.get("resourceRules") or ():
        for group in rule.get("apiGroups") or [""]:
            for resource in rule.get("resources") or ():
                name = f"{resource}.{group}" if group else resource
                rows.append(
                    [name, "[]", f"[{' '.join(rule.get('resourceNames') or ())}]", f"[{' '.join(rule['verbs'])}]"]
                )
    rows.sort(key=lambda row: (row[0].partition(".")[2], row[0]))
    for rule in status.get("nonResourceRules") or ():
        for url in rule.get("nonResourceURLs") or ():
            others.append(["", f"[{url}]", "[]", f"[{' '.join(rule['verbs'])}]"])
    for row in [*rows, *sorted(others)]:
        writer.row(row)
    writer.flush()
    return 0


async def _whoami(session: Session, flags: Parsed) -> int:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await session.client.json("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    if flags["output"]:
        from peavine.cli.output.printers import print_typed_json, printer_for

        printer = print_typed_json if flags["output"] == "json" else printer_for(flags)
        if printer:
            printer(answer, session.out)
        return 0
    user = (answer.get("status") or {}).get("userInfo") or {}
    writer = TableWriter(session.out)
    writer.row(["ATTRIBUTE", "VALUE"])
    writer.row(["Username", user.get("username", "")])
    if user.get("uid"):
        writer.row(["UID", user["uid"]])
    if user.get("groups"):
        writer.row(["Groups", f"[{' '.join(user['groups'])}]"])
    for key, values in sorted((user.get("extra") or {}).items()):
        writer.row([f"Extra: {key}", f"[{' '.join(values)}]"])
    writer.flush()
    return 0


_COMMANDS: dict[str, Any] = {
    "can-i": (
        _can_i,
        (
            ALL_NAMESPACES,
            boolean("list", help="If true, prints all allowed actions."),
            boolean("quiet", "q", help="Just return the exit code."),
            boolean("no-headers", help="Don't print headers."),
            string("subresource", help="SubResource such as pod/log or deployment/scale"),
        ),
        "Check whether an action is allowed.",
    ),
    "whoami": (
        _whoami,
        PRINTING,
        "Experimental: Check self subject attributes.",
    ),
}
SUBCOMMANDS = {
    **{name: entry[-1] for name, entry in _COMMANDS.items()},
    "reconcile": "Reconciles rules for RBAC role, role binding, cluster role, and cluster role binding objects.",
}
