# ruff: noqa: E501
"""Update the user, group, or service account in a role binding or cluster role binding."""

from __future__ import annotations

import copy
from typing import Any

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import DRY_RUN, FIELD_MANAGER, FILES, PRINTING, SELECTOR, Parsed, array, boolean
from peavine.cli.resources import Target, documents, targets
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

FLAGS = (
    *PRINTING, *FILES, SELECTOR, DRY_RUN, FIELD_MANAGER,
    boolean("all", help="Select all resources, in the namespace of the specified resource types"),
    boolean("local", help="If true, set subject will NOT contact api-server but run locally."),
    array("user", help="Usernames to bind to the role"),
    array("group", help="Groups to bind to the role"),
    array("serviceaccount", help="Service accounts to bind to the role"),
)  # fmt: skip
_GROUP = "rbac.authorization.k8s.io"


async def run(session: Session, flags: Parsed) -> int:
    subjects = _subjects(flags)
    changes = Changes(session, flags, "kubectl-set")
    async for target in _targets(session, flags):
        before = target.object or {}
        if target.mapping.kind not in ("RoleBinding", "ClusterRoleBinding"):
            raise CliError(
                f"{target.mapping.plural}/{target.name} setting subjects is only supported for RoleBinding/ClusterRoleBinding"
            )
        after = copy.deepcopy(before)
        have = after.get("subjects") or []
        added = [subject for subject in subjects if subject not in have]
        after["subjects"] = [*have, *added]
        try:
            answer = after
            if added and changes.dry_run != "client" and not flags["local"]:
                answer = await changes.patch(target, {"subjects": after["subjects"]}, "merge")
            if added:
                changes.report(target, "subjects updated", answer)
        except ApiError as error:
            changes.fail(error)
    return changes.code


def _subjects(flags: Parsed) -> list[dict[str, Any]]:
    if not (flags["user"] or flags["group"] or flags["serviceaccount"]):
        raise CliError("you must specify at least one value of user, group or serviceaccount")
    found: list[dict[str, Any]] = []
    for kind, names in (("User", flags["user"]), ("Group", flags["group"])):
        found += [{"apiGroup": _GROUP, "kind": kind, "name": name} for name in dict.fromkeys(names)]
    for account in dict.fromkeys(flags["serviceaccount"]):
        namespace, colon, name = account.partition(":")
        if not colon or ":" in name or not namespace or not name:
            raise CliError("serviceaccount must be <namespace>:<name>")
        found.append({"kind": "ServiceAccount", "name": name, "namespace": namespace})
    return found


async def _targets(session: Session, flags: Parsed):  # type: ignore[no-untyped-def]
    if not flags["local"]:
        async for target in targets(session, flags, command="set subject"):
            yield target
        return
    for obj, source in documents(flags):
        mapping = await session.mapping_of(obj["apiVersion"], obj["kind"])
        if mapping is None:
            raise CliError(f'no matches for kind "{obj["kind"]}" in version "{obj["apiVersion"]}"')
        meta = obj.get("metadata") or {}
        yield Target(mapping, meta.get("namespace"), meta.get("name", ""), obj, source)
