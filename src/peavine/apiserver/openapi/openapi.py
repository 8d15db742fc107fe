"""Serves /openapi/v2 and /openapi/v3: documents are built when first asked for, and kept compressed."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable
from typing import Any

import orjson

from peavine.api.kind import Kind
from peavine.apiserver.discovery import Discovery
from peavine.apiserver.http import Response
from peavine.apiserver.openapi import definitions, paths, protobuf, roots
from peavine.apiserver.requests import RequestInfo
from peavine.machinery import errors
from peavine.machinery.codecs import content

Object = dict[str, Any]
# The first is what clients ask for, the second what can stand in a Content-Type ("@" cannot).
V2_PROTOBUF_ASKED = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


class OpenApi:
    """The documents of one server. Custom resources change their group's document only."""

    def __init__(self, discovery: Discovery, kubernetes_version: str) -> None:
        self.discovery, self.kubernetes_version = discovery, kubernetes_version
        self._kept: dict[str, tuple[str, bytes]] = {}  # document -> hash of what it was made from, gzip
        # Documents of groups served by other servers: "apis/GROUP/VERSION" -> (hash, JSON).
        self.remote: dict[str, tuple[str, bytes]] = {}

    def answer(self, info: RequestInfo) -> Response:
        path = info.path.strip("/")
        if path in ("openapi/v2", "swagger.json"):
            return self._v2(info)
        if path == "openapi/v3":
            return self._index(info)
        if path.startswith("openapi/v3/"):
            return self._v3(info, path.removeprefix("openapi/v3/"))
        raise errors.ApiError(404, "NotFound", "the server could not find the requested resource", details={})

    # --- v3 ------------------------------------------------------------------------------------
    def _sections(self) -> dict[str, list[Kind]]:
        """`api/v1`, `apis/apps/v1`, ... -> the kinds described there."""
        found = {}
        for group, versions in self.discovery.versions().items():
            for version, kinds in versions.items():
                found[f"apis/{group}/{version}" if group else f"api/{version}"] = kinds
        return found

    def _index(self, info: RequestInfo) -> Response:
        sections = self._sections()
        listed = {
            section: {"serverRelativeURL": f"/openapi/v3/{section}?hash={self._hash(sections.get(section, ()))}"}
            for section in sorted({*sections, *self._roots(v3=True)})
        }
        for section, (mark, _) in self.remote.items():
            listed.setdefault(section, {"serverRelativeURL": f"/openapi/v3/{section}?hash={mark}"})
        body = orjson.dumps({"paths": listed})
        return _tagged(info, body, hashlib.sha512(body).hexdigest().upper())

    def _hash(self, kinds: Iterable[Kind]) -> str:
        """Changes when a document does: made from what goes into it, without building it."""
        parts = [self.kubernetes_version]
        for kind in kinds:
            own = kind.hook("openapi_schema")
            parts.append(f"{kind.plural}/{kind.kind}/{','.join(kind.verbs)}/{','.join(kind.subresources)}")
            if own is not None:
                parts.append(orjson.dumps(own()).decode())
        return hashlib.sha512("\n".join(parts).encode()).hexdigest().upper()

    def _v3(self, info: RequestInfo, section: str) -> Response:
        kinds = self._sections().get(section)
        root = self._roots(v3=True).get(section)
        if root is not None:
            kinds = []
        if kinds is None:
            if section in self.remote:
                return _tagged(info, self.remote[section][1], self.remote[section][0])
            raise errors.ApiError(404, "NotFound", "the server could not find the requested resource", details={})
        mark = self._hash(kinds)
        asked = info.parameter("hash")
        if asked and asked != mark:
            location = f"/openapi/v3/{section}?hash={mark}"
            return Response(301, b"", "", [("Location", location)])
        packed = self._packed("v3/" + section, mark, lambda: self._build_v3(section, kinds, root or {}))
        more = [("Cache-Control", "public, immutable"), ("Expires", "Thu, 31 Dec 2037 23:55:55 GMT")] if asked else []
        return _packed_answer(info, packed, mark, more)

    def _roots(self, v3: bool) -> dict[str, dict[str, Object]]:
        return roots.sections(self.discovery.versions(), v3)

    def _build_v3(self, section: str, kinds: list[Kind], root: dict[str, Object]) -> Object:
        if not root:
            prefix, _, version = section.rpartition("/")
            root = roots.resources(prefix.removeprefix("api").removeprefix("s/"), version, v3=True)
        schemas = self._schemas(kinds, v3=True)
        return {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": f"v{self.kubernetes_version}.0"},
            "paths": dict(sorted({**root, **paths.of_kinds(kinds, v3=True)}.items())),
            "components": {
                "schemas": schemas,
                "securitySchemes": {
                    "BearerToken": {
                        "type": "apiKey",
                        "description": "Bearer Token authentication",
                        "name": "authorization",
                        "in": "header",
                    }
                },
            },
        }

    # --- v2 ------------------------------------------------------------------------------------
    def _v2(self, info: RequestInfo) -> Response:
        accept = ",".join(info.header_values("accept"))
        chosen = content.negotiate(
            accept, supported=("application/json", V2_PROTOBUF_ASKED, V2_PROTOBUF), transforms=()
        )
        kinds = [kind for section in self._sections().values() for kind in section]
        mark = self._hash(kinds)
        if chosen.media_type != "application/json":
            packed = self._packed("v2-protobuf", mark, lambda: self._build_v2(kinds), protobuf.document)
        else:
            packed = self._packed("v2", mark, lambda: self._build_v2(kinds))
        media = chosen.media_type if chosen.media_type == "application/json" else V2_PROTOBUF
        return _packed_answer(info, packed, mark if media != V2_PROTOBUF else mark + "-pb", [], media)

    def _build_v2(self, kinds: list[Kind]) -> Object:
        found: dict[str, Object] = paths.of_kinds(kinds, v3=False)
        for section in self._roots(v3=False).values():
            found |= section
        for group, versions in self.discovery.versions().items():
            for version in versions:
                found |= roots.resources(group, version, v3=False)
        return {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": f"v{self.kubernetes_version}.0"},
            "paths": dict(sorted(found.items())),
            "definitions": self._schemas(kinds, v3=False),
            "securityDefinitions": {
                "BearerToken": {
                    "description": "Bearer Token authentication",
                    "type": "apiKey",
                    "name": "authorization",
                    "in": "header",
                }
            },
            "security": [{"BearerToken": []}],
        }

    # --- both ----------------------------------------------------------------------------------
    def _schemas(self, kinds: list[Kind], v3: bool) -> dict[str, Object]:
        known = definitions.load(self.kubernetes_version)
        meta = definitions.META
        wanted = [*roots.ROOTS, *(meta + name for name in ("DeleteOptions", "Patch", "Status", "WatchEvent"))]
        custom: dict[str, Object] = {}
        words = {f: p.get("description", "") for f, p in known[_DESCRIBED]["properties"].items()}
        for kind in kinds:
            if kind.definition:
                wanted += [kind.definition, kind.definition + "List"]
                for sub in kind.subresources.values():
                    if sub.version:
                        wanted.append(f"io.k8s.api.{(sub.group or 'core').split('.')[0]}.{sub.version}.{sub.kind}")
                    else:
                        wanted.append(kind.definition.rpartition(".")[0] + "." + sub.kind)
            elif own := kind.hook("openapi_schema"):
                name = f"{'.'.join(reversed(kind.group.split('.')))}.{kind.version}.{kind.kind}"
                custom.update(_custom(name, kind, own(), v3, words))
                wanted += [meta + "ObjectMeta", meta + "ListMeta"]
        return {**definitions.closure(known, wanted, v3), **custom}

    def _packed(self, name: str, mark: str, build: Any, encode: Any = orjson.dumps) -> bytes:
        kept = self._kept.get(name)
        if kept is None or kept[0] != mark:
            kept = self._kept[name] = (mark, gzip.compress(encode(build()), 5, mtime=0))
        return kept[1]


# Whose fields say what apiVersion, kind and metadata are.
_DESCRIBED = "io.k8s.api.core.v1.ConfigMap"


def _custom(name: str, kind: Kind, schema: Object, v3: bool, words: dict[str, str]) -> dict[str, Object]:
    """The definitions of a custom resource and its list."""
    place = "#/components/schemas/" if v3 else "#/definitions/"
    gvk = {"group": kind.group, "kind": kind.kind, "version": kind.version}
    if not v3 and schema.get("x-kubernetes-preserve-unknown-fields"):
        own: Object = {"type": "object"}  # of any form: with more than that, old clients would refuse the rest
    else:
        own = dict(schema) if v3 else definitions.as_v2(schema)
        reference: Object = {"$ref": place + definitions.META + "ObjectMeta"}
        own["type"] = "object"
        own["properties"] = {
            **(own.get("properties") or {}),
            "apiVersion": {"type": "string", "description": words["apiVersion"]},
            "kind": {"type": "string", "description": words["kind"]},
            "metadata": {**({"allOf": [reference]} if v3 else reference), "description": words["metadata"]},
        }
    own["x-kubernetes-group-version-kind"] = [gvk]
    items: Object = {
        "type": "object",
        "description": f"{kind.kind}List is a list of {kind.kind}",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": words["apiVersion"]},
            "kind": {"type": "string", "description": words["kind"]},
            "metadata": {"$ref": place + definitions.META + "ListMeta"},
            "items": {"type": "array", "items": {"$ref": place + name}},
        },
        "x-kubernetes-group-version-kind": [{**gvk, "kind": kind.list_kind}],
    }
    return {name: own, name + "List": items}


def _tagged(info: RequestInfo, body: bytes, mark: str) -> Response:
    headers = [("ETag", f'"{mark}"'), ("Vary", "Accept")]
    if info.headers.get("if-none-match") == f'"{mark}"':
        return Response(304, b"", "", headers)
    return Response(200, body, "application/json", headers)


def _packed_answer(
    info: RequestInfo, packed: bytes, mark: str, more: list[tuple[str, str]], media: str = "application/json"
) -> Response:
    headers = [("ETag", f'"{mark}"'), ("Vary", "Accept-Encoding"), ("Vary", "Accept"), *more]
    if info.headers.get("if-none-match") == f'"{mark}"':
        return Response(304, b"", "", headers)
    if "gzip" in info.headers.get("accept-encoding", ""):
        return Response(200, packed, media, [*headers, ("Content-Encoding", "gzip")])
    return Response(200, gzip.decompress(packed), media, headers)
