"""create, update, patch, delete and deletecollection requests: options and bodies in, registry, answers out."""

from __future__ import annotations

from typing import Any

from peavine.api.kind import Kind
from peavine.apiserver.cache import Entry
from peavine.apiserver.endpoints.bodies import read_object, typed
from peavine.apiserver.endpoints.listing import read_options, select
from peavine.apiserver.endpoints.negotiation import Output, negotiate, spoken
from peavine.apiserver.endpoints.rendering import Rendering, encode
from peavine.apiserver.http import Exchange, Response
from peavine.apiserver.registry import Registry, WriteRequest
from peavine.apiserver.registry.create import create
from peavine.apiserver.registry.delete import RETURNED, delete, delete_collection
from peavine.apiserver.registry.request import validate_options
from peavine.apiserver.registry.update import modify, update
from peavine.apiserver.requests import RequestInfo
from peavine.machinery import errors
from peavine.machinery.apply import manager_name
from peavine.machinery.codecs import content, json, yaml
from peavine.machinery.errors import forbidden_field, invalid_value, required
from peavine.machinery.names import GVK, split_group_version

Object = dict[str, Any]
BODY_BYTES_MAX = 3 << 20

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_YAML = "application/apply-patch+yaml"
APPLY_CBOR = "application/apply-patch+cbor"
PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_YAML)
APPLIES = (APPLY_YAML, APPLY_CBOR)

_OPTIONS_KINDS = {"POST": "CreateOptions", "PUT": "UpdateOptions", "PATCH": "PatchOptions", "DELETE": "DeleteOptions"}


def write_request(info: RequestInfo, kind: Kind, namespace: str, name: str) -> WriteRequest:
    """The write that a request's path and query mean. Raises ApiError 422 for options that are wrong."""
    sort = _OPTIONS_KINDS[info.method]
    options: Object = {"kind": sort, "apiVersion": "meta.k8s.io/v1"}
    if info.query.get("dryRun"):
        options["dryRun"] = info.query["dryRun"]
    for field in ("fieldManager", "fieldValidation"):
        if info.parameter(field):
            options[field] = info.parameter(field)
    if "force" in info.query:
        options["force"] = info.flag("force")
    validate_options(sort, options)
    assert info.user is not None
    return WriteRequest(
        kind,
        namespace,
        name,
        info.user,
        info.subresource,
        bool(options.get("dryRun")),
        manager_name(options.get("fieldManager") or "", info.headers.get("user-agent", "")),
        options.get("fieldValidation") or "Warn",
        options,
        info.warnings,
        info.audit_annotations,
    )


def answer(registry: Registry, kind: Kind, result: Entry | Object, output: Output, status: int = 200) -> Response:
    """An object as the body of an answer."""
    rendering = Rendering(kind, registry.resource(kind).cache, output)
    body = rendering.object(result) if isinstance(result, Entry) else rendering.dict(result)
    return Response(status, body, output.media_type)


def check_names(info: RequestInfo, kind: Kind, obj: Object, namespace: str, name: str = "") -> None:
    """400 where body and path disagree on the object's name or namespace; what the body leaves out is filled in."""
    meta = obj.get("metadata")
    if not isinstance(meta, dict):
        meta = obj["metadata"] = {}
    if kind.namespaced and namespace:
        inside = meta.get("namespace")
        if inside and inside != namespace:
            words = "the namespace of the provided object does not match the namespace sent on the request"
            raise errors.bad_request(words)
        meta["namespace"] = namespace
    elif not kind.namespaced and meta.get("namespace"):
        if kind.definition:
            meta.pop("namespace", None)
        else:
            words = "the namespace of the provided object does not match the namespace sent on the request"
            raise errors.bad_request(words)
    if name:
        inside = meta.get("name")
        if not inside:
            if info.method == "PUT":
                problem = "name must be provided" if not kind.definition else "metadata.name"
                del problem
                meta["name"] = name
        elif inside != name:
            words = f"the name of the object ({inside}) does not match the name on the URL ({name})"
            raise errors.bad_request(words)


async def handle_create(registry: Registry, exchange: Exchange, kind: Kind, namespace: str) -> Response:
    info = exchange.info
    output = negotiate(info, kind)
    request = write_request(info, kind, namespace, "")
    data = await exchange.read_body(BODY_BYTES_MAX)
    obj = read_object(registry, kind, data, info, request)
    check_names(info, kind, obj, namespace)
    result = await create(registry, request, obj)
    return answer(registry, kind, result, output, 201)


async def handle_update(registry: Registry, exchange: Exchange, kind: Kind, namespace: str, name: str) -> Response:
    info = exchange.info
    output = negotiate(info, kind)
    request = write_request(info, kind, namespace, name)
    data = await exchange.read_body(BODY_BYTES_MAX)
    obj = read_object(registry, kind, data, info, request)
    check_names(info, kind, obj, namespace, name)
    result, created = await update(registry, request, obj)
    return answer(registry, kind, result, output, 201 if created else 200)


async def handle_patch(registry: Registry, exchange: Exchange, kind: Kind, namespace: str, name: str) -> Response:
    info = exchange.info
    output = negotiate(info, kind)
    content_type = info.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    accepted = patch_types(info, kind)
    if content_type not in accepted:
        raise errors.unsupported_media_type(accepted)
    request = write_request(info, kind, namespace, name)
    check_patch_options(request, content_type, info)
    data = await exchange.read_body(BODY_BYTES_MAX)
    change, is_apply = patcher(registry, request, content_type, data)
    creates = is_apply and not request.subresource
    result, created = await modify(registry, request, change, create_missing=creates, tracked=is_apply)
    return answer(registry, kind, result, output, 201 if created else 200)


def patch_types(info: RequestInfo, kind: Kind) -> list[str]:
    """The media types of patches that a kind takes: a custom resource has no merge keys."""
    types = [t for t in PATCHES if t != STRATEGIC_PATCH or kind.definition]
    return [*types, APPLY_CBOR] if info.cbor else types


def check_patch_options(request: WriteRequest, content_type: str, info: RequestInfo) -> None:
    """The options that only some patches may have. Raises ApiError 422."""
    problems = []
    if content_type in APPLIES:
        if not info.parameter("fieldManager"):
            problems.append(required("fieldManager", "is required for apply patch"))
    elif "force" in info.query:
        problems.append(forbidden_field("force", "may not be specified for non-apply patch"))
    if problems:
        raise errors.invalid("PatchOptions", "", problems, "meta.k8s.io")


def patcher(registry: Registry, request: WriteRequest, content_type: str, data: bytes) -> Any:
    """What a patch does to an object, as a function, and whether it is an apply. Raises ApiError 400, 422."""
    kind = request.kind
    if content_type in APPLIES:
        return _applier(registry, request, *apply_document(data, content_type)), True
    patch, problems = patch_document(data, content_type)

    def change(live: Object | None) -> Object:
        assert live is not None
        new = patched(content_type, live, patch, registry.type_of(kind))
        meta = new.get("metadata")
        if not isinstance(meta, dict):
            new["metadata"] = {} if meta is None else meta
        _same_object(new, live, request)
        try:
            new = typed(registry, kind, new, request, problems)
        except errors.ApiError as error:
            if error.code != 400 or (request.validation == "Strict" and "strict decoding error" in error.message):
                raise
            shown = json.encode(new).decode("utf-8", "replace")
            raise errors.invalid("", "", [invalid_value("patch", shown, error.message)]) from None
        kind.default(new)
        return new

    return change, False


def patch_document(data: bytes, content_type: str) -> tuple[Any, list[str]]:
    """The patch as a document, and its duplicate keys. Raises ApiError 400."""
    try:
        value = json.decode(data)
    except json.JsonError as error:
        raise errors.bad_request(f"error decoding patch: {error}") from None
    return value, [f'duplicate field "{path}"' for path in json.duplicate_keys(data, value)]


def apply_document(data: bytes, content_type: str) -> tuple[Object, list[str]]:
    """The configuration of an apply, and its duplicate keys. Raises ApiError 400."""
    complaints: list[str] = []
    try:
        if content_type == APPLY_CBOR:
            from peavine.machinery.codecs import cbor

            doc = cbor.decode(data)
        else:
            doc, complaints = yaml.decode_with_duplicates(data)
    except ValueError as error:
        sort = "CBOR" if content_type == APPLY_CBOR else "YAML"
        raise errors.bad_request(f"error decoding {sort}: {error}") from None
    if not isinstance(doc, dict):
        raise errors.bad_request("error decoding YAML: the document is no object")
    return doc, [f"error decoding YAML: {complaint}" for complaint in complaints]


def patched(content_type: str, live: Object, patch: Any, type: Any) -> Object:
    """`live` with a patch of one of three sorts. Raises ApiError 400, 422."""
    from peavine.machinery.patches.json import apply_json_patch
    from peavine.machinery.patches.merge import apply_merge_patch
    from peavine.machinery.patches.strategic import apply_strategic_patch

    if content_type == JSON_PATCH:
        return apply_json_patch(live, patch)
    if content_type == MERGE_PATCH:
        return apply_merge_patch(live, patch)
    return apply_strategic_patch(live, patch, type)


def _same_object(new: Object, live: Object, request: WriteRequest) -> None:
    """A patch may not turn an object into another one."""
    meta = new["metadata"]
    if not isinstance(meta, dict):
        return
    name = meta.get("name")
    if name is not None and name != request.name:
        if name == "":
            meta["name"] = request.name
        else:
            words = f"the name of the object ({name}) does not match the name on the URL ({request.name})"
            raise errors.bad_request(words)
    else:
        meta["name"] = request.name
    namespace = live["metadata"].get("namespace")
    if namespace is not None and meta.get("namespace") not in (None, namespace):
        words = (
            f"the namespace of the object ({meta['namespace']}) does not match the namespace on the URL ({namespace})"
        )
        raise errors.bad_request(words)
    if (new.get("kind"), new.get("apiVersion")) != (live.get("kind"), live.get("apiVersion")):
        group, version = split_group_version(str(new.get("apiVersion") or ""))
        raise content.wrong_kind(GVK(group, version, str(new.get("kind") or "")), request.kind.gvk)


def _applier(registry: Registry, request: WriteRequest, doc: Object, problems: list[str]) -> Any:
    from peavine.apiserver.registry.fields import apply_configuration

    kind = request.kind
    group, version = split_group_version(str(doc.get("apiVersion") or ""))
    found = GVK(group, version, str(doc.get("kind") or ""))
    if found != kind.gvk:
        raise errors.bad_request(f"invalid object type: {found.group}/{found.version}, Kind={found.kind}")
    meta = doc.setdefault("metadata", {})
    if not isinstance(meta, dict):
        raise errors.bad_request("metadata must be an object")
    if meta.get("name") and meta["name"] != request.name:
        words = f"the name of the object ({meta['name']}) does not match the name on the URL ({request.name})"
        raise errors.bad_request(words)
    if request.namespace and kind.namespaced and meta.get("namespace") not in (None, "", request.namespace):
        words = "the namespace of the provided object does not match the namespace sent on the request"
        raise errors.bad_request(words)
    if meta.get("managedFields"):
        raise errors.bad_request("metadata.managedFields must be nil")
    meta["name"] = request.name
    if kind.namespaced:
        meta["namespace"] = request.namespace

    def change(live: Object | None) -> Object:
        # The configuration itself is not decoded: what decoding would fill in, its manager does not own.
        new = typed(registry, kind, apply_configuration(registry, request, live, doc), request, problems)
        kind.default(new)
        return new

    return change


# --- delete ------------------------------------------------------------------------------------


async def delete_options(exchange: Exchange, request: WriteRequest) -> None:
    """DeleteOptions from the body, or from the query where there is no body. Raises ApiError 400, 422."""
    info = exchange.info
    data = await exchange.read_body(BODY_BYTES_MAX)
    options = request.options
    if data:
        media = content.body_media_type(info.headers.get("content-type"), spoken(info, None))
        doc, found, _ = content.parse_object(data, media, GVK("", "v1", "DeleteOptions"))
        if found.kind != "DeleteOptions":
            raise content.wrong_kind(found, GVK("meta.k8s.io", "v1", "DeleteOptions"))
        options.update({k: v for k, v in doc.items() if v is not None})
    else:
        for name in ("propagationPolicy",):
            if info.parameter(name):
                options[name] = info.parameter(name)
        if info.parameter("gracePeriodSeconds"):
            from peavine.apiserver.endpoints.listing import integer

            options["gracePeriodSeconds"] = integer(info, "gracePeriodSeconds")
        if "orphanDependents" in info.query:
            options["orphanDependents"] = info.flag("orphanDependents")
    grace = options.get("gracePeriodSeconds")
    if grace is not None and not isinstance(grace, int):
        raise errors.bad_request("DeleteOptions: gracePeriodSeconds must be a number")
    validate_options("DeleteOptions", options)
    request.dry_run = bool(options.get("dryRun"))


async def handle_delete(registry: Registry, exchange: Exchange, kind: Kind, namespace: str, name: str) -> Response:
    output = negotiate(exchange.info, kind)
    request = write_request(exchange.info, kind, namespace, name)
    await delete_options(exchange, request)
    obj, gone = await delete(registry, request)
    if not gone or (kind.group, kind.plural) in RETURNED or (not kind.definition and not gone):
        return answer(registry, kind, obj, output)
    details: Object = {"name": name, "group": kind.group, "kind": kind.plural, "uid": obj["metadata"].get("uid", "")}
    status = success({k: v for k, v in details.items() if v})
    return Response(200, encode(status, Output(output.media_type, pretty=output.pretty)), output.media_type)


def success(details: Object | None = None) -> Object:
    status: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details:
        status["details"] = details
    return status


async def handle_delete_collection(registry: Registry, exchange: Exchange, kind: Kind, namespace: str) -> Response:
    info = exchange.info
    output = negotiate(info, kind)
    options = read_options(info, kind)
    request = write_request(info, kind, namespace, "")
    await delete_options(exchange, request)
    if info.query.get("dryRun"):
        request.dry_run = True
    entries, meta = await select(registry, kind, namespace, options)
    rendering = Rendering(kind, registry.resource(kind).cache, output)
    if rendering.joins:  # many objects: kept as bytes, not as objects
        parts = await delete_collection(registry, request, list(entries), rendering.item)
        return Response(200, rendering.joined_list(parts, meta), output.media_type)
    objects = await delete_collection(registry, request, list(entries), lambda obj: obj)
    return Response(200, encode(rendering.listed(objects, meta), output), output.media_type)
