# ruff: noqa: E501
"""ApplySets: what was applied together is labelled, and a parent object tells of which kinds and where it is.

Follows KEP-3659, "kubectl apply --prune redesign and graduation strategy".
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import orjson

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed
from peavine.cli.resources import Target
from peavine.cli.session import Mapping, Session
from peavine.machinery.errors import ApiError

Object = dict[str, Any]
ID, PART_OF = "applyset.kubernetes.io/id", "applyset.kubernetes.io/part-of"
TOOLING, KINDS = "applyset.kubernetes.io/tooling", "applyset.kubernetes.io/contains-group-kinds"
NAMESPACES = "applyset.kubernetes.io/additional-namespaces"
PARENT_TYPE = "applyset.kubernetes.io/is-parent-type"
_MANAGER = "kubectl-applyset"
_BUILT_IN = (("", "secrets"), ("", "configmaps"))


class ApplySet:
    """One parent and its members. `labelled` marks an object as a member before it is applied."""

    def __init__(self, session: Session, changes: Changes, mapping: Mapping, name: str, namespace: str | None) -> None:
        self.session, self.changes = session, changes
        self.parent = Target(mapping, namespace, name)
        self.tooling = "kubectl/v1.37.0"
        self.known_kinds: set[str] = set()
        self.known_namespaces: set[str] = set()

    @classmethod
    async def of(cls, session: Session, flags: Parsed, changes: Changes) -> ApplySet:
        """The set that `--applyset` names. Raises CliError for what contradicts it."""
        for flag in ("all", "selector", "prune-allowlist", "force"):
            if flags[flag]:
                raise CliError(f"--{flag} is incompatible with --applyset")
        if not flags["prune"]:
            raise CliError("--applyset requires --prune")
        resource, slash, name = flags["applyset"].rpartition("/")
        mapping = await session.mapping(resource if slash else "secrets")
        if not slash and not name:
            raise CliError("applyset name must be given")
        if mapping.namespaced and not session.flags.get("namespace"):
            raise CliError("namespace is required to use namespace-scoped ApplySet")
        if (mapping.group, mapping.plural) not in _BUILT_IN and not await _is_parent_type(session, mapping):
            shown = mapping.api_version if mapping.group else f"/{mapping.version}"
            raise CliError(f'resource "{shown}, Resource={mapping.plural}" is not permitted as an ApplySet parent')
        found = cls(session, changes, mapping, name, session.namespace if mapping.namespaced else None)
        await found._fetch()
        return found

    @property
    def id(self) -> str:
        mapping = self.parent.mapping
        text = ".".join((self.parent.name, self.parent.namespace or "", mapping.kind, mapping.group))
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        return f"applyset-{digest}-v1"

    async def _fetch(self) -> None:
        mapping = self.parent.mapping
        try:
            live = await self.session.get(self.parent.path)
        except ApiError as error:
            if error.code != 404:
                raise
            if (mapping.group, mapping.plural) not in _BUILT_IN:
                raise CliError(
                    f"custom resource ApplySet parents cannot be created automatically: {error.message}"
                ) from None
            return
        meta = live["metadata"]
        annotations, labels = meta.get("annotations") or {}, meta.get("labels") or {}
        shown = f'ApplySet parent object "{mapping.plural}.{mapping.group}/{self.parent.name}"'
        if TOOLING not in annotations:
            raise CliError(f'{shown} already exists and is missing required annotation "{TOOLING}"')
        if annotations[TOOLING].partition("/")[0] != "kubectl":
            raise CliError(
                f'{shown} already exists and is managed by tooling "{annotations[TOOLING]}" instead of "kubectl"'
            )
        if ID not in labels:
            raise CliError(f"{shown} exists and does not have required label {ID}")
        if labels[ID] != self.id:
            raise CliError(
                f'{shown} exists and has incorrect value for label "{ID}" (got: {labels[ID]}, want: {self.id})'
            )
        if KINDS not in annotations:
            raise CliError(
                f'parsing ApplySet annotation on "{mapping.plural}.{mapping.group}/{self.parent.name}": kubectl requires the "{KINDS}" annotation to be set on all ApplySet parent objects'
            )
        self.known_kinds = {part for part in annotations[KINDS].split(",") if part}
        self.known_namespaces = {part for part in annotations.get(NAMESPACES, "").split(",") if part}
        if self.parent.namespace:
            self.known_namespaces.add(self.parent.namespace)

    def label(self, target: Target) -> None:
        meta = (target.object or {}).setdefault("metadata", {})
        labels = meta.get("labels") or {}
        if PART_OF in labels:
            raise CliError(f'ApplySet label "{PART_OF}" already set in input data')
        meta["labels"] = {**labels, PART_OF: self.id}

    async def claim(self, members: list[Target]) -> None:
        """Before anything is applied: the parent tells of all that was and all that will be."""
        await self._write(self.known_kinds | _kinds(members), self.known_namespaces | _namespaces(members))

    async def prune(self, members: list[Target]) -> None:
        """Delete the members that were not applied this time; then the parent tells only of what is left."""
        kept = {(t.mapping.group, t.mapping.kind, t.namespace, t.name) for t in members}
        namespaces = self.known_namespaces | _namespaces(members)
        for kind in sorted(self.known_kinds | _kinds(members)):
            mapping = await self._mapping(kind)
            for namespace in sorted(namespaces) if mapping.namespaced else [None]:
                listed = await self.session.get(mapping.gvr.path(namespace), labelSelector=f"{PART_OF}={self.id}")
                for item in listed.get("items") or ():
                    meta = item["metadata"]
                    if (mapping.group, mapping.kind, namespace, meta["name"]) not in kept:
                        await self._delete(Target(mapping, namespace, meta["name"], item))
        if not self.changes.failed:
            await self._write(_kinds(members), _namespaces(members))

    async def _mapping(self, kind: str) -> Mapping:
        name, _, group = kind.partition(".")
        for refresh in (False, True):
            for mapping in await self.session.mappings(refresh=refresh):
                if mapping.kind == name and mapping.group == group:
                    return mapping
        raise CliError(
            f'could not find mapping for kind in "{KINDS}" annotation: no matches for kind "{name}" in group "{group}"'
        )

    async def _delete(self, target: Target) -> None:
        policy = {"background": "Background", "orphan": "Orphan", "foreground": "Foreground"}
        flags = self.changes.flags
        options: Object = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": policy.get(flags["cascade"], "Background"),
        }
        if flags["grace-period"] >= 0:
            options["gracePeriodSeconds"] = flags["grace-period"]
        if self.changes.dry_run != "client":
            query = {"dryRun": "All"} if self.changes.dry_run == "server" else {}
            try:
                await self.changes.send("DELETE", target.path, options, query=query)
            except ApiError as error:
                if error.code != 404:
                    return self.changes.fail(error, f"pruning {target.shown}")
        self.changes.report(target, "pruned", target.object)

    async def _write(self, kinds: set[str], namespaces: set[str]) -> None:
        if self.changes.dry_run == "client":
            return
        mapping, others = self.parent.mapping, sorted(namespaces - {self.parent.namespace or ""})
        meta: Object = {
            "name": self.parent.name,
            "labels": {ID: self.id},
            "annotations": {TOOLING: self.tooling, KINDS: ",".join(sorted(kinds)), NAMESPACES: ",".join(others)},
        }
        if self.parent.namespace:
            meta["namespace"] = self.parent.namespace
        body = {"apiVersion": mapping.api_version, "kind": mapping.kind, "metadata": meta}
        query = {"fieldManager": _MANAGER, "force": "false"}
        if self.changes.dry_run == "server":
            query["dryRun"] = "All"
        await self.changes.send(
            "PATCH", self.parent.path, orjson.dumps(body), query=query, content="application/apply-patch+yaml"
        )


def _kinds(members: list[Target]) -> set[str]:
    return {f"{t.mapping.kind}.{t.mapping.group}" if t.mapping.group else t.mapping.kind for t in members}


def _namespaces(members: list[Target]) -> set[str]:
    return {t.namespace for t in members if t.namespace}


async def _is_parent_type(session: Session, mapping: Mapping) -> bool:
    """Custom resources may be parents if their definition says so."""
    name = f"{mapping.plural}.{mapping.group}"
    try:
        definition = await session.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
    except ApiError:
        return False
    return (definition["metadata"].get("labels") or {}).get(PARENT_TYPE) == "true"
