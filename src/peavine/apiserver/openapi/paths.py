"""The paths of OpenAPI documents: what each kind can be asked, and with which parameters. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from peavine.api.kind import Kind

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
    ("orphanDependents", "boolean", "Deprecated: please use the PropagationPolicy."),
    ("propagationPolicy", "string", "Whether and how garbage collection will be performed."),
)
_BODY_TYPES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)


def of_kinds(kinds: Iterable[Kind], v3: bool) -> dict[str, Object]:
    """The path items of kinds that share a version."""
    paths: dict[str, Object] = {}
    for kind in kinds:
        if not kind.plural:
            continue
        base = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        scoped = base + ("/namespaces/{namespace}" if kind.namespaced else "")
        collection = f"{scoped}/{kind.plural}"
        made = _Maker(kind, v3)
        paths[collection] = made.collection()
        if kind.namespaced and "list" in kind.verbs:
            paths[f"{base}/{kind.plural}"] = made.everywhere()
        if any(verb in kind.verbs for verb in ("get", "update", "patch", "delete")):
            paths[collection + "/{name}"] = made.item()
        for sub in kind.subresources.values():
            if not sub.connects:
                paths[collection + "/{name}/" + sub.name] = made.subresource(sub)
    return paths


class _Maker:
    def __init__(self, kind: Kind, v3: bool) -> None:
        self.kind, self.v3 = kind, v3
        self.gvk = {"group": kind.group, "kind": kind.kind, "version": kind.version}
        self.definition = kind.definition or f"{_reversed(kind.group)}.{kind.version}.{kind.kind}"
        self.tag = _tag(kind)

    def collection(self) -> Object:
        item: Object = {}
        verbs = self.kind.verbs
        scope = "Namespaced" if self.kind.namespaced else ""
        name = self.kind.kind
        if "list" in verbs:
            item["get"] = self._operation("list", f"list{scope}{name}", self.definition + "List", _LIST)
        if "create" in verbs:
            item["post"] = self._operation(
                "post", f"create{scope}{name}", self.definition, (_DRY_RUN, _MANAGER, _VALIDATION), self.definition
            )
        if "deletecollection" in verbs:
            item["delete"] = self._operation(
                "deletecollection", f"deleteCollection{scope}{name}", META + "Status", (*_LIST, _DRY_RUN, *_DELETE)
            )
        item["parameters"] = self._shared(named=False)
        return item

    def everywhere(self) -> Object:
        operation = self._operation("list", f"list{self.kind.kind}ForAllNamespaces", self.definition + "List", ())
        return {"get": operation, "parameters": [self._parameter(*p) for p in (*_LIST, _PRETTY)]}

    def item(self) -> Object:
        item: Object = {}
        verbs = self.kind.verbs
        scope = "Namespaced" if self.kind.namespaced else ""
        name, definition = self.kind.kind, self.definition
        if "get" in verbs:
            item["get"] = self._operation("get", f"read{scope}{name}", definition, ())
        if "update" in verbs:
            parameters = (_DRY_RUN, _MANAGER, _VALIDATION)
            item["put"] = self._operation("put", f"replace{scope}{name}", definition, parameters, definition)
        if "patch" in verbs:
            item["patch"] = self._patch(f"patch{scope}{name}", definition)
        if "delete" in verbs:
            item["delete"] = self._operation(
                "delete", f"delete{scope}{name}", META + "Status", (_DRY_RUN, *_DELETE), META + "DeleteOptions"
            )
        item["parameters"] = self._shared(named=True)
        return item

    def subresource(self, sub: Any) -> Object:
        gvk = self.gvk
        definition = self.definition
        if sub.kind != self.kind.kind or sub.version:
            group, version = (sub.group, sub.version) if sub.version else (self.kind.group, self.kind.version)
            gvk = {"group": group, "kind": sub.kind, "version": version}
            definition = f"io.k8s.api.{(group or 'core').split('.')[0]}.{version}.{sub.kind}"
        item: Object = {}
        scope = "Namespaced" if self.kind.namespaced else ""
        name = self.kind.kind + sub.name[:1].upper() + sub.name[1:]
        if "get" in sub.verbs:
            item["get"] = self._operation("get", f"read{scope}{name}", definition, ())
        if "update" in sub.verbs:
            parameters = (_DRY_RUN, _MANAGER, _VALIDATION)
            item["put"] = self._operation("put", f"replace{scope}{name}", definition, parameters, definition)
        if "patch" in sub.verbs:
            item["patch"] = self._patch(f"patch{scope}{name}", definition)
        if "create" in sub.verbs:
            parameters = (_DRY_RUN, _MANAGER, _VALIDATION)
            item["post"] = self._operation("post", f"create{scope}{name}", definition, parameters, definition)
        for operation in item.values():
            operation["x-kubernetes-group-version-kind"] = gvk
        item["parameters"] = self._shared(named=True)
        return item

    def _patch(self, operation_id: str, definition: str) -> Object:
        parameters = (_DRY_RUN, _MANAGER, _VALIDATION, _FORCE)
        # A custom resource has no merge keys: a strategic patch of it would be refused.
        types = tuple(t for t in _PATCH_TYPES if self.kind.definition or "strategic" not in t)
        return self._operation("patch", operation_id, definition, parameters, META + "Patch", types)

    def _operation(
        self,
        action: str,
        operation_id: str,
        answer: str,
        parameters: Iterable[tuple[str, str, str]],
        body: str = "",
        body_types: tuple[str, ...] = _BODY_TYPES,
    ) -> Object:
        ok: Object = {"description": "OK"}
        operation: Object = {"tags": [self.tag], "operationId": operation_id + self._suffix()}
        listed = [self._parameter(*parameter) for parameter in parameters]
        if self.v3:
            ok["content"] = {t: {"schema": {"$ref": "#/components/schemas/" + answer}} for t in _BODY_TYPES}
            if body:
                content = {t: {"schema": {"$ref": "#/components/schemas/" + body}} for t in body_types}
                operation["requestBody"] = {"content": content}
        else:
            ok["schema"] = {"$ref": "#/definitions/" + answer}
            operation["consumes"] = list(body_types) if body else ["*/*"]
            operation["produces"] = list(_BODY_TYPES)
            operation["schemes"] = ["https"]
            if body:
                schema = {"$ref": "#/definitions/" + body}
                listed.insert(0, {"name": "body", "in": "body", "required": action != "delete", "schema": schema})
        if listed:
            operation["parameters"] = listed
        operation["responses"] = {"200": ok, "401": {"description": "Unauthorized"}}
        operation["x-kubernetes-action"] = action
        operation["x-kubernetes-group-version-kind"] = self.gvk
        return operation

    def _suffix(self) -> str:
        return ""

    def _parameter(self, name: str, type: str, description: str) -> Object:
        made: Object = {"name": name, "in": "query", "description": description}
        if self.v3:
            made["schema"] = {"type": type, "uniqueItems": True}
        else:
            made |= {"type": type, "uniqueItems": True}
        return made

    def _shared(self, named: bool) -> list[Object]:
        shared = [self._parameter(*_PRETTY)]
        names = [("name", f"name of the {self.kind.kind}")] if named else []
        if self.kind.namespaced:
            names.append(("namespace", "object name and auth scope, such as for teams and projects"))
        for name, description in reversed(names):
            made: Object = {"name": name, "in": "path", "description": description, "required": True}
            if self.v3:
                made["schema"] = {"type": "string", "uniqueItems": True}
            else:
                made |= {"type": "string", "uniqueItems": True}
            shared.insert(0, made)
        return shared


def _tag(kind: Kind) -> str:
    group = kind.group.split(".")[0] or "core"
    return f"{group}_{kind.version}"


def _reversed(group: str) -> str:
    return ".".join(reversed(group.split("."))) or "core"
