"""Discovery documents, made from the kinds being served and kept until those change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from peavine.api.catalogue import GROUP_ORDER
from peavine.api.kind import Kind
from peavine.apiserver.cache.entries import dumps
from peavine.apiserver.endpoints.negotiation import JSON, negotiate
from peavine.apiserver.endpoints.rendering import encode
from peavine.apiserver.http import Response
from peavine.apiserver.registry import Registry
from peavine.apiserver.requests import RequestInfo
from peavine.machinery.codecs import content
from peavine.machinery.errors import ApiError
from peavine.machinery.names import group_version

Object = dict[str, Any]


class Discovery:
    """Answers /api, /apis and what is below them as far as groups and versions go."""

    def __init__(self, registry: Registry, address: str) -> None:
        self.registry, self.address = registry, address
        self._kept: dict[str, Any] = {}
        # Groups served by other servers (APIService): name -> aggregated v2 group object, already fetched.
        self.remote: dict[str, Object] = {}
        registry.on_kinds.append(self.changed)

    def changed(self) -> None:
        self._kept.clear()

    # --- what there is -------------------------------------------------------------------------
    def versions(self) -> dict[str, dict[str, list[Kind]]]:
        """Group -> version -> kinds with a resource; groups and versions in upstream's order."""
        found: dict[str, Any] | None = self._kept.get("versions")
        if found is None:
            groups: dict[str, dict[str, list[Kind]]] = {}
            for kind in self.registry.kinds():
                if not self.registry.serves(kind):
                    continue
                if kind.plural and kind.group not in self.registry.disabled_groups:
                    groups.setdefault(kind.group, {}).setdefault(kind.version, []).append(kind)
            order = {name: at for at, name in enumerate(GROUP_ORDER)}
            found = {}
            for group in sorted(groups, key=lambda g: (g != "", order.get(g, len(order)), g)):
                found[group] = {v: groups[group][v] for v in sorted(groups[group], key=version_priority)}
            self._kept["versions"] = found
        return found

    def serves(self, group: str, version: str) -> bool:
        return version in self.versions().get(group, {})

    def group(self, name: str) -> Object:
        """An `APIGroup` without its type."""
        listed = [{"groupVersion": group_version(name, v), "version": v} for v in self.versions()[name]]
        return {"name": name, "versions": listed, "preferredVersion": listed[0]}

    def groups(self) -> list[Object]:
        own = [self.group(name) for name in self.versions() if name]
        for name, remote in self.remote.items():
            if name not in self.versions():
                listed = [
                    {"groupVersion": group_version(name, v["version"]), "version": v["version"]}
                    for v in remote.get("versions") or ()
                ]
                if listed:
                    own.append({"name": name, "versions": listed, "preferredVersion": listed[0]})
        return own

    def resources(self, kinds: Iterable[Kind]) -> list[Object]:
        """The entries of an `APIResourceList`, subresources among them, by name."""
        found = []
        for kind in kinds:
            entry: Object = {
                "name": kind.plural,
                "singularName": kind.singular,
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": sorted(kind.verbs),
            }
            if kind.short_names:
                entry["shortNames"] = list(kind.short_names)
            if kind.categories:
                entry["categories"] = list(kind.categories)
            if kind.storage_version_hash:
                entry["storageVersionHash"] = kind.storage_version_hash
            found.append(entry)
            for sub in kind.subresources.values():
                entry = {"name": f"{kind.plural}/{sub.name}", "singularName": "", "namespaced": kind.namespaced}
                if sub.version:
                    if sub.group:
                        entry["group"] = sub.group
                    entry["version"] = sub.version
                entry["kind"] = sub.kind
                entry["verbs"] = sorted(sub.verbs)
                found.append(entry)
        return sorted(found, key=lambda e: e["name"])

    def aggregated(self) -> Object:
        """`APIGroupDiscoveryList` of apidiscovery.k8s.io/v2 for every group but the core one."""
        items = [self._aggregated_group(name) for name in self.versions() if name]
        items += [remote for name, remote in self.remote.items() if name not in self.versions()]
        return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}

    def aggregated_core(self) -> Object:
        items = [self._aggregated_group("")]
        return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}

    def _aggregated_group(self, name: str) -> Object:
        versions = [
            {"version": v, "resources": [_aggregated_resource(k) for k in _by_name(kinds)], "freshness": "Current"}
            for v, kinds in self.versions()[name].items()
        ]
        meta: Object = {"creationTimestamp": None}
        if name:
            meta = {"name": name, "creationTimestamp": None}
        return {"metadata": meta, "versions": versions}

    # --- answers -------------------------------------------------------------------------------
    def answer(self, info: RequestInfo) -> Response | None:
        """The answer to a discovery path; None for any other path."""
        parts = info.path.strip("/").split("/")
        if parts[0] == "api":
            if len(parts) == 1:
                return self._root(info, "api")
            if len(parts) == 2 and self.serves("", parts[1]):
                return self._resource_list(info, "", parts[1])
            return None
        if len(parts) == 1:
            return self._root(info, "apis")
        if parts[1] not in self.versions():
            remote = [group for group in self.groups() if group["name"] == parts[1]]
            if remote and len(parts) == 2:
                return self._document(info, {"kind": "APIGroup", "apiVersion": "v1", **remote[0]})
            return None
        if len(parts) == 2:
            doc = {"kind": "APIGroup", "apiVersion": "v1", **self.group(parts[1])}
            return self._document(info, doc)
        if len(parts) == 3 and self.serves(parts[1], parts[2]):
            return self._resource_list(info, parts[1], parts[2])
        return None

    def _root(self, info: RequestInfo, which: str) -> Response:
        if version := wants_aggregated(info):
            return self._aggregated_answer(info, which, version)
        if which == "api":
            addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": self.address}]
            doc: Object = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}
        else:
            doc = {"kind": "APIGroupList", "apiVersion": "v1", "groups": self.groups()}
        return self._document(info, doc)

    def _aggregated_answer(self, info: RequestInfo, which: str, version: str) -> Response:
        key = f"aggregated/{which}/{version}"
        kept = self._kept.get(key)
        if kept is None:
            doc = self.aggregated_core() if which == "api" else self.aggregated()
            doc["apiVersion"] = "apidiscovery.k8s.io/" + version
            body = dumps(doc) + b"\n"
            kept = self._kept[key] = (body, '"' + hashlib.sha512(body).hexdigest().upper() + '"')
        body, etag = kept
        headers = [("ETag", etag), ("Vary", "Accept"), ("Cache-Control", "public")]
        if info.headers.get("if-none-match") == etag:
            return Response(304, b"", "", headers)
        content_type = f"{JSON};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
        return Response(200, body, content_type, headers)

    def _resource_list(self, info: RequestInfo, group: str, version: str) -> Response:
        doc: Object = {"kind": "APIResourceList"}
        if group:
            doc["apiVersion"] = "v1"
        doc["groupVersion"] = group_version(group, version)
        doc["resources"] = self.resources(self.versions()[group][version])
        return self._document(info, doc)

    @staticmethod
    def _document(info: RequestInfo, doc: Object) -> Response:
        output = negotiate(info, None, ())
        return Response(200, encode(doc, output), output.media_type)


def wants_aggregated(info: RequestInfo) -> str:
    """The version of aggregated discovery that a client accepts before plain JSON; "" for none."""
    accept = ",".join(info.header_values("accept"))
    if "APIGroupDiscoveryList" not in accept:
        return ""
    try:
        chosen = content.negotiate(
            accept,
            supported=(JSON,),
            transforms=("APIGroupDiscoveryList",),
            groups=("apidiscovery.k8s.io",),
            versions=("v2", "v2beta1"),
        )
    except ApiError:
        return ""
    return chosen.version


def _by_name(kinds: Iterable[Kind]) -> list[Kind]:
    return sorted(kinds, key=lambda kind: kind.plural)


def _aggregated_resource(kind: Kind) -> Object:
    entry: Object = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": sorted(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    if kind.subresources:
        entry["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": {
                    "group": sub.group or (kind.group if not sub.version else ""),
                    "version": sub.version or kind.version,
                    "kind": sub.kind,
                },
                "verbs": sorted(sub.verbs),
            }
            for sub in sorted(kind.subresources.values(), key=lambda s: s.name)
        ]
    return entry


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sort key of Kubernetes versions: v2, v1, v1beta2, v1beta1, v1alpha1, then other names."""
    import re

    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if not match:
        return (3, 0, 0, version)
    stage = {None: 0, "beta": 1, "alpha": 2}[match[2]]
    return (stage, -int(match[1]), -int(match[3] or 0), version)
