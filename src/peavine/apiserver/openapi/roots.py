"""The paths of OpenAPI documents that are no kind's: discovery, version, keys. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peavine.apiserver.openapi.operations import JSON, OBJECTS, Operation, group_part, name_part

Object = dict[str, Any]
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
VERSION = "io.k8s.apimachinery.pkg.version.Info"
ROOTS = tuple(META + name for name in ("APIGroup", "APIGroupList", "APIResourceList", "APIVersions")) + (VERSION,)


def sections(groups: Mapping[str, Mapping[str, Any]], v3: bool) -> dict[str, dict[str, Object]]:
    """Document of v3 -> its paths; for v2 they all go into one."""
    found: dict[str, dict[str, Object]] = {
        ".well-known/openid-configuration": _one(
            "/.well-known/openid-configuration/",
            "getServiceAccountIssuerOpenIDConfiguration",
            "WellKnown",
            "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
            "",
            v3,
            (JSON,),
        ),
        "api": _one("/api/", "getCoreAPIVersions", "core", "get available API versions", META + "APIVersions", v3),
        "apis": _one("/apis/", "getAPIVersions", "apis", "get available API versions", META + "APIGroupList", v3),
        "openid/v1/jwks": _one(
            "/openid/v1/jwks/",
            "getServiceAccountIssuerOpenIDKeyset",
            "openid",
            "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
            "",
            v3,
            ("application/jwk-set+json",),
        ),
        "version": _one("/version/", "getCodeVersion", "version", "get the version of this server", VERSION, v3),
    }
    for group in groups:
        if group:
            part = group_part(group)
            id, words = f"get{name_part(part)}APIGroup", "get information of a group"
            found[f"apis/{group}"] = _one(f"/apis/{group}/", id, name_part(part, False), words, META + "APIGroup", v3)
    return found


def resources(group: str, version: str, v3: bool) -> dict[str, Object]:
    """The path that lists the resources of one version."""
    part = group_part(group)
    path = f"/apis/{group}/{version}/" if group else f"/api/{version}/"
    tag = f"{name_part(part, False)}_{version}"
    id = f"get{name_part(part)}{name_part(version)}APIResources"
    return _one(path, id, tag, "get available resources", META + "APIResourceList", v3)


def _one(
    path: str, id: str, tag: str, words: str, answer: str, v3: bool, types: tuple[str, ...] = OBJECTS
) -> dict[str, Object]:
    consumes = types if answer else ("*/*",)
    operation = Operation(id, tag, "", words, answer, consumes=consumes, produces=types)
    return {path: {"get": operation.document(v3)}}
