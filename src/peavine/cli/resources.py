"""What a command line is about: `pods`, `pod/web svc/db`, `-f file`, `-l app=web` turned into objects and paths."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed
from peavine.cli.session import Mapping, Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

Object = dict[str, Any]
_SUFFIXES = (".json", ".yaml", ".yml")


class Target:
    """One object, known by name, perhaps with its content (from a file or the server)."""

    def __init__(
        self, mapping: Mapping, namespace: str | None, name: str, object: Object | None = None, source: str = ""
    ) -> None:
        self.mapping, self.namespace, self.name, self.object, self.source = mapping, namespace, name, object, source

    @property
    def path(self) -> str:
        return self.mapping.gvr.path(self.namespace, self.name)

    @property
    def shown(self) -> str:
        """`deployment.apps/web`."""
        return f"{self.mapping.named}/{self.name}"


class Query:
    """All objects of one resource, or those that selectors choose; or some by name."""

    def __init__(self, mapping: Mapping, names: list[str]) -> None:
        self.mapping, self.names = mapping, names


# --- files


def documents(flags: Parsed) -> Iterator[tuple[Object, str]]:
    """The objects of `-f` and `-k`, each with the name of its file. Lists are taken apart."""
    for name in flags.get("filename") or ():
        for data, source in _files(name, bool(flags.get("recursive"))):
            yield from _objects(data, source)
    if flags.get("kustomize"):
        if flags.get("filename"):
            raise CliError("only one of -f or -k can be specified")
        from peavine.cli.kustomize.build import build

        for obj in build(flags["kustomize"]):
            yield obj, flags["kustomize"]


def has_files(flags: Parsed) -> bool:
    return bool(flags.get("filename") or flags.get("kustomize"))


def _files(name: str, recursive: bool) -> Iterator[tuple[bytes, str]]:
    if name == "-":
        yield sys.stdin.buffer.read(), "STDIN"
        return
    if name.startswith(("http://", "https://")):
        from urllib.request import urlopen

        with urlopen(name, timeout=30) as answer:
            yield answer.read(), name
        return
    from pathlib import Path

    path = Path(name)
    if path.is_dir():
        found = sorted(path.rglob("*") if recursive else path.iterdir())
        for child in found:
            if child.suffix in _SUFFIXES and child.is_file():
                yield child.read_bytes(), str(child)
    elif path.exists():
        yield path.read_bytes(), name
    else:
        raise CliError(f'the path "{name}" does not exist')


def split_yaml(data: bytes) -> list[bytes]:
    """The documents of a stream, split at `---` lines."""
    parts: list[list[bytes]] = [[]]
    for line in data.splitlines(keepends=True):
        if line.startswith(b"---") and (len(line.rstrip()) == 3 or line[3:4] in b" \t"):
            parts.append([line[3:]])
        else:
            parts[-1].append(line)
    return [b"".join(part) for part in parts]


def _decoded(part: bytes) -> Any:
    """JSON as such, where it is; else YAML, which may begin with a brace too. Raises YamlError."""
    from peavine.machinery.codecs import json, yaml

    if part.lstrip()[:1] == b"{":
        try:
            return json.decode(part)
        except json.JsonError:
            return yaml.decode(part)
    return yaml.decode(part)


def _objects(data: bytes, source: str) -> Iterator[tuple[Object, str]]:
    from peavine.machinery.codecs import json, yaml

    for part in [data] if data.lstrip()[:1] == b"{" else split_yaml(data):
        try:
            value = _decoded(part)
        except yaml.YamlError as error:
            raise CliError(f"error parsing {source}: error converting YAML to JSON: {error}") from None
        if value is None:
            continue
        if not isinstance(value, dict):
            raise CliError(f'unable to decode "{source}": json: cannot unmarshal into Go value of type')
        for field, shown in (("kind", "Kind"), ("apiVersion", "apiVersion")):
            if not value.get(field):
                text = json.encode(value).decode().strip()
                raise CliError(f"unable to decode \"{source}\": Object '{shown}' is missing in '{text}'")
        if value["kind"].endswith("List") and isinstance(value.get("items"), list):
            for item in value["items"]:
                yield item, source
        else:
            yield value, source


async def file_targets(session: Session, flags: Parsed) -> AsyncIterator[Target]:
    """The objects of files as targets, namespaces filled in."""
    any_found = False
    for obj, source in documents(flags):
        any_found = True
        mapping = await session.mapping_of(obj["apiVersion"], obj["kind"])
        if mapping is None:
            meta = obj.get("metadata") or {}
            place = f'name: "{meta.get("name", "")}" namespace: "{meta.get("namespace", "")}" from "{source}"'
            wanted_kind = f'no matches for kind "{obj["kind"]}" in version "{obj["apiVersion"]}"'
            raise CliError(f"resource mapping not found for {place}: {wanted_kind}\nensure CRDs are installed first")
        if not isinstance(obj.get("metadata"), dict):
            obj["metadata"] = {}
        meta = obj["metadata"]
        namespace: str | None = None
        if mapping.namespaced:
            given, wanted = meta.get("namespace"), session.flags.get("namespace")
            if given and wanted and given != wanted:
                raise CliError(
                    f'the namespace from the provided object "{given}" does not match the namespace "{wanted}". You '
                    f"must pass '--namespace={given}' to perform this operation."
                )
            namespace = meta["namespace"] = given or session.namespace
        yield Target(mapping, namespace, meta.get("name", ""), obj, source)
    if not any_found:
        raise CliError("no objects passed to the command")


# --- arguments


async def queries(session: Session, arguments: list[str], *, command: str = "get") -> list[Query]:
    """The resources and names of the arguments. Raises CliError for a mixture of the two forms."""
    if not arguments:
        return []
    if any("/" in argument for argument in arguments):
        found: list[Query] = []
        for argument in arguments:
            resource, slash, name = argument.partition("/")
            if not slash:
                raise CliError(
                    "there is no need to specify a resource type as a separate argument when passing arguments in "
                    "resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource "
                    "resource/<resource_name>'"
                )
            if not resource or not name or "/" in name:
                raise CliError("arguments in resource/name form may not have more than one slash" if "/" in name else
                               "arguments in resource/name form must have a single resource and name")  # fmt: skip
            found += [Query(await session.mapping(part), [name]) for part in resource.split(",")]
        return found
    mappings: list[Mapping] = []
    for part in arguments[0].split(","):
        members = await session.category(part)
        mappings += members or [await session.mapping(part)]
    unique = list(dict.fromkeys(mappings))
    return [Query(mapping, arguments[1:]) for mapping in unique]


def namespace_of(session: Session, mapping: Mapping, flags: Parsed) -> str | None:
    """The namespace for a request: none for cluster-scoped resources, and for all namespaces."""
    if not mapping.namespaced or flags.get("all-namespaces"):
        return None
    return session.namespace


async def targets(session: Session, flags: Parsed, *, command: str, everything: bool = False) -> AsyncIterator[Target]:
    """The objects that arguments, files and selectors name, read from the server. ApiErrors pass through."""
    if has_files(flags):
        async for target in file_targets(session, flags):
            target.object = await session.get(target.path)
            yield target
        return
    found = await queries(session, flags.arguments, command=command)
    if not found:
        raise CliError("one or more resources must be specified as <resource> <name> or <resource>/<name>")
    if flags.get("selector") and any(query.names for query in found):
        raise CliError("name cannot be provided when a selector is specified")
    for query in found:
        namespace = namespace_of(session, query.mapping, flags)
        if query.names:
            for name in query.names:
                target = Target(query.mapping, namespace, name)
                target.object = await session.get(target.path)
                yield target
            continue
        selector, fields = flags.get("selector") or "", flags.get("field-selector") or ""
        if not (selector or fields or flags.get("all") or everything):
            raise CliError("resource(s) were provided, but no name was specified")
        listed = await session.get(query.mapping.gvr.path(namespace), labelSelector=selector, fieldSelector=fields)
        for item in listed.get("items") or ():
            item.setdefault("kind", query.mapping.kind)
            item.setdefault("apiVersion", query.mapping.api_version)
            meta = item["metadata"]
            yield Target(query.mapping, meta.get("namespace"), meta["name"], item)
