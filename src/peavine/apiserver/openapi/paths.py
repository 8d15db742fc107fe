"""The paths of OpenAPI documents: what each kind can be asked, and with which parameters. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from peavine.api.kind import Kind, Subresource
from peavine.apiserver.openapi.operations import (
    ANYTHING,
    CUSTOM_OBJECTS,
    JSON,
    OBJECTS,
    PROTOBUF,
    STREAMS,
    YAML,
    Operation,
    Parameter,
    group_part,
    name_part,
    parameter,
)
from peavine.apiserver.registry.delete import RETURNED

Object = dict[str, Any]
META = "io.k8s.apimachinery.pkg.apis.meta.v1."

_PRETTY = ("pretty", "string", "If 'true', then the output is pretty printed.")
_DRY_RUN = ("dryRun", "string", "When present, indicates that modifications should not be persisted.")
_MANAGER = ("fieldManager", "string", "A name associated with the actor or entity that is making these changes.")
_VALIDATION = (
    "fieldValidation",
    "string",
    "Instructs the server on how to handle objects in the request (POST/PUT/PATCH) containing unknown or duplicate "
    "fields: Ignore, Warn or Strict.",
)
_FORCE = ("force", "boolean", "Force is going to force Apply requests.")
_LIST = (
    ("allowWatchBookmarks", "boolean", "allowWatchBookmarks requests watch events with type BOOKMARK."),
    ("continue", "string", "The continue option should be set when retrieving more results from the server."),
    ("fieldSelector", "string", "A selector to restrict the list of returned objects by their fields."),
    ("labelSelector", "string", "A selector to restrict the list of returned objects by their labels."),
    ("limit", "integer", "limit is a maximum number of responses to return for a list call."),
    ("resourceVersion", "string", "resourceVersion sets a constraint on what resource versions may be served from."),
    ("resourceVersionMatch", "string", "resourceVersionMatch determines how resourceVersion is applied to list calls."),
    ("sendInitialEvents", "boolean", "sendInitialEvents=true sends synthetic events for the state before the watch."),
    ("timeoutSeconds", "integer", "Timeout for the list/watch call."),
    ("watch", "boolean", "Watch for changes to the described resources and return them as a stream."),
)
_DELETE = (
    ("gracePeriodSeconds", "integer", "The duration in seconds before the object should be deleted."),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "If true, an object that cannot be read from the store is deleted all the same.",
    ),
    ("orphanDependents", "boolean", "Deprecated: please use the PropagationPolicy."),
    ("propagationPolicy", "string", "Whether and how garbage collection will be performed."),
)
_WRITE = (_DRY_RUN, _MANAGER, _VALIDATION)
_PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_NAMESPACE = ("namespace", "string", "object name and auth scope, such as for teams and projects")
_PATH = ("path", "string", "path to the resource")
_CONTAINER = ("container", "string", "The container; the only one where the pod has one.")
_STREAM_OPTIONS: dict[str, tuple[Parameter, ...]] = {
    "PodExecOptions": (
        ("command", "string", "Command is the remote command to execute. Not executed within a shell."),
    ),
    "PodPortForwardOptions": (("ports", "integer", "List of ports to forward. Required when using WebSockets."),),
    "Pod": (
        _CONTAINER,
        ("follow", "boolean", "Follow the log stream of the pod."),
        ("insecureSkipTLSVerifyBackend", "boolean", "Do not confirm the validity of the backend's certificate."),
        ("limitBytes", "integer", "The number of bytes to read before terminating the output."),
        ("previous", "boolean", "Return the log of the previous, terminated container."),
        ("sinceSeconds", "integer", "Show logs from the last so many seconds."),
        ("stream", "string", "Which stream to return: All, Stdout or Stderr."),
        ("tailLines", "integer", "The number of lines from the end of the logs to show."),
        ("timestamps", "boolean", "Put an RFC 3339 timestamp at the beginning of every line."),
    ),
}
_STREAMS_OF_A_CONTAINER = (
    _CONTAINER,
    ("stderr", "boolean", "Redirect the standard error stream of the container."),
    ("stdin", "boolean", "Redirect the standard input stream of the container."),
    ("stdout", "boolean", "Redirect the standard output stream of the container."),
    ("tty", "boolean", "Allocate a terminal for the call."),
)
_METHODS = {"get": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}
_WATCH_NOTE = "deprecated: use the 'watch' parameter with a list operation instead"


def of_kinds(kinds: Iterable[Kind], v3: bool) -> dict[str, Object]:
    """The path items of kinds that share a version."""
    paths: dict[str, Object] = {}
    for kind in kinds:
        if kind.plural:
            paths |= _Maker(kind, v3).paths()
    return paths


class _Maker:
    def __init__(self, kind: Kind, v3: bool) -> None:
        self.kind, self.v3 = kind, v3
        self.gvk = {"group": kind.group, "kind": kind.kind, "version": kind.version}
        self.definition = kind.definition or f"{_reversed(kind.group)}.{kind.version}.{kind.kind}"
        group = group_part(kind.group)
        self.tag = f"{name_part(group, False)}_{kind.version}"
        self.place = name_part(group) + name_part(kind.version)
        self.scope = "Namespaced" if kind.namespaced else ""
        self.types = OBJECTS if kind.definition else CUSTOM_OBJECTS

    def paths(self) -> dict[str, Object]:
        kind, verbs = self.kind, self.kind.verbs
        base = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        inside = ("/namespaces/{namespace}" if kind.namespaced else "") + f"/{kind.plural}"
        collection, item = base + inside, base + inside + "/{name}"
        paths = {collection: self._item(self.collection(), named=False)}
        if any(verb in verbs for verb in ("get", "update", "patch", "delete")):
            paths[item] = self._item(self.object())
        for sub in kind.subresources.values():
            operations = self.connections(sub) if sub.connects else self.subresource(sub)
            paths[f"{item}/{sub.name}"] = self._item(operations)
            if sub.name == "proxy":
                operations = self.connections(sub, "WithPath")
                paths[f"{item}/{sub.name}/{{path}}"] = self._item(operations, _PATH)
        if kind.namespaced and "list" in verbs:
            listed = self._list("list", f"list{self.place}{kind.kind}ForAllNamespaces", f"list {self._watchable()}")
            shared = [parameter(p, self.v3) for p in (*_LIST, _PRETTY)]
            paths[f"{base}/{kind.plural}"] = {"get": listed.document(self.v3), "parameters": shared}
        if "watch" in verbs:
            paths |= self._watches(base, inside)
        return paths

    def collection(self) -> dict[str, Operation]:
        found, verbs, kind = {}, self.kind.verbs, self.kind.kind
        if "list" in verbs:
            found["get"] = self._list("list", self._id("list"), f"list {self._watchable()}", _LIST)
        if "create" in verbs:
            found["post"] = self._write("post", self._id("create"), f"create {_a(kind)}", (200, 201, 202))
        if "deletecollection" in verbs:
            found["delete"] = self._operation(
                "deletecollection",
                f"delete{self.place}Collection{self.scope}{kind}",
                f"delete collection of {kind}",
                META + "Status",
                parameters=(*_LIST, _DRY_RUN, *_DELETE),
                body=META + "DeleteOptions",
                body_optional=True,
            )
        return found

    def object(self) -> dict[str, Operation]:
        found, verbs, kind = {}, self.kind.verbs, self.kind.kind
        if "get" in verbs:
            found["get"] = self._operation("get", self._id("read"), f"read the specified {kind}", self.definition)
        if "update" in verbs:
            found["put"] = self._write("put", self._id("replace"), f"replace the specified {kind}")
        if "patch" in verbs:
            found["patch"] = self._patch(self._id("patch"), f"partially update the specified {kind}", self.definition)
        if "delete" in verbs:
            returned = (self.kind.group, self.kind.plural) in RETURNED
            found["delete"] = self._operation(
                "delete",
                self._id("delete"),
                f"delete {_a(kind)}",
                self.definition if returned else META + "Status",
                (200, 202),
                parameters=(_DRY_RUN, *_DELETE),
                body=META + "DeleteOptions",
                body_optional=True,
            )
        return found

    def subresource(self, sub: Subresource) -> dict[str, Operation]:
        """A subresource whose bodies are objects: of the parent's kind, or of one of its own."""
        kind, gvk, definition = self.kind.kind, self.gvk, self.definition
        if sub.kind != kind or sub.version:
            group, version = (sub.group, sub.version) if sub.version else (self.kind.group, self.kind.version)
            gvk = {"group": group, "kind": sub.kind, "version": version}
            definition = f"io.k8s.api.{(group or 'core').split('.')[0]}.{version}.{sub.kind}"
        end, words = name_part(sub.name), f"{sub.name} of the specified {kind}"
        found = {}
        if "get" in sub.verbs:
            found["get"] = self._operation("get", self._id("read", end), f"read {words}", definition, gvk=gvk)
        if "update" in sub.verbs:
            found["put"] = self._write("put", self._id("replace", end), f"replace {words}", gvk=gvk, type=definition)
        if "patch" in sub.verbs:
            found["patch"] = self._patch(self._id("patch", end), f"partially update {words}", definition, gvk)
        if "create" in sub.verbs:
            codes, id = (200, 201, 202), self._id("create", end)
            found["post"] = self._write("post", id, f"create {sub.name} of {_a(kind)}", codes, gvk=gvk, type=definition)
        return found

    def connections(self, sub: Subresource, end: str = "") -> dict[str, Operation]:
        """Logs, and the subresources that pass requests or streams on."""
        kind = self.kind.kind
        gvk = {"group": "", "kind": sub.kind, "version": "v1"}
        options = _STREAM_OPTIONS.get(sub.kind, ())
        if sub.kind in ("PodExecOptions", "PodAttachOptions"):
            options += _STREAMS_OF_A_CONTAINER
        if sub.name == "log":
            words, types = f"read log of the specified {kind}", ("text/plain", JSON, YAML, PROTOBUF)
            id = self._id("read", "Log")
            return {"get": self._operation("get", id, words, "", parameters=options, produces=types, gvk=gvk)}
        found = {}
        methods = [_METHODS[verb] for verb in sub.verbs] + (["head", "options"] if sub.name == "proxy" else [])
        if sub.name == "proxy":
            options = (("path", "string", "The part of the URL behind the resource's name that is passed on."),)
        for method in sorted(methods):
            found[method] = self._operation(
                "connect",
                f"connect{self.place}{method.capitalize()}{self.scope}{kind}{name_part(sub.name)}{end}",
                f"connect {method.upper()} requests to {sub.name} of {kind}",
                "",
                parameters=options,
                produces=ANYTHING,
                gvk=gvk,
            )
        return found

    def _watches(self, base: str, inside: str) -> dict[str, Object]:
        kind = self.kind
        one = self._operation(
            "watch",
            self._id("watch"),
            f"watch changes to an object of kind {kind.kind}. {_WATCH_NOTE}, filtered to a single item with the "
            "'fieldSelector' parameter.",
            META + "WatchEvent",
            produces=(*self.types, *STREAMS),
        )
        paths = {
            f"{base}/watch{inside}": self._watched(self._id("watch", "List"), named=False),
            f"{base}/watch{inside}/{{name}}": {"get": one.document(self.v3), "parameters": self._shared(True, _LIST)},
        }
        if kind.namespaced:
            id = f"watch{self.place}{kind.kind}ListForAllNamespaces"
            shared = [parameter(p, self.v3) for p in (*_LIST, _PRETTY)]
            paths[f"{base}/watch/{kind.plural}"] = {**self._watched(id, named=False), "parameters": shared}
        return paths

    def _watched(self, id: str, named: bool) -> Object:
        words = f"watch individual changes to a list of {self.kind.kind}. {_WATCH_NOTE}."
        types = (*self.types, *STREAMS)
        operation = self._operation("watchlist", id, words, META + "WatchEvent", produces=types)
        return {"get": operation.document(self.v3), "parameters": self._shared(named, _LIST)}

    # --- parts ---------------------------------------------------------------------------------
    def _id(self, verb: str, end: str = "") -> str:
        return f"{verb}{self.place}{self.scope}{self.kind.kind}{end}"

    def _watchable(self) -> str:
        return f"or watch objects of kind {self.kind.kind}"

    def _operation(self, action: str, id: str, words: str, answer: str, *more: Any, **named: Any) -> Operation:
        named.setdefault("gvk", self.gvk)
        named.setdefault("produces", self.types)
        return Operation(id, self.tag, action, words, answer, *more, **named)

    def _list(self, action: str, id: str, words: str, parameters: tuple[Parameter, ...] = ()) -> Operation:
        streams = STREAMS if self.kind.definition else ()
        return self._operation(
            action, id, words, self.definition + "List", parameters=parameters, produces=(*self.types, *streams)
        )

    def _write(
        self,
        action: str,
        id: str,
        words: str,
        codes: tuple[int, ...] = (200, 201),
        gvk: Object | None = None,
        type: str = "",
    ) -> Operation:
        type = type or self.definition
        return self._operation(action, id, words, type, codes, parameters=_WRITE, body=type, gvk=gvk or self.gvk)

    def _patch(self, id: str, words: str, definition: str, gvk: Object | None = None) -> Operation:
        # A custom resource has no merge keys: a strategic patch of it would be refused.
        types = tuple(t for t in _PATCH_TYPES if self.kind.definition or "strategic" not in t)
        return self._operation(
            "patch",
            id,
            words,
            definition,
            (200, 201),
            parameters=(*_WRITE, _FORCE),
            body=META + "Patch",
            consumes=types,
            gvk=gvk or self.gvk,
        )

    def _item(self, operations: dict[str, Operation], *more: Parameter, named: bool = True) -> Object:
        item: Object = {method: operation.document(self.v3) for method, operation in operations.items()}
        item["parameters"] = [parameter(p, self.v3, "path") for p in more] + self._shared(named)
        return item

    def _shared(self, named: bool, more: tuple[Parameter, ...] = ()) -> list[Object]:
        placed = [("name", "string", f"name of the {self.kind.kind}")] if named else []
        if self.kind.namespaced:
            placed.append(_NAMESPACE)
        return [
            *(parameter(p, self.v3, "path") for p in placed),
            *(parameter(p, self.v3) for p in (*more, _PRETTY)),
        ]


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"


def _reversed(group: str) -> str:
    return ".".join(reversed(group.split("."))) or "core"
