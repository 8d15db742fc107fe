"""The aggregation layer: groups that other servers answer for, registered by APIService objects.

Each remote APIService is checked (its service, its endpoints, its discovery); requests on its group and version are
passed on under the front-proxy certificate with the user in headers. For every group and version served here, an
APIService without a service says so.
"""

from __future__ import annotations

import asyncio
import logging
import ssl

import orjson

from peavine.apiserver.authentication.user import User
from peavine.apiserver.config import Config
from peavine.apiserver.discovery import Discovery
from peavine.apiserver.http import Exchange, Response
from peavine.apiserver.lister import Lister, Object, Writer
from peavine.apiserver.proxying.locations import Location, Locations
from peavine.apiserver.proxying.upstream import connect, dial_failure, pass_on, request_head
from peavine.apiserver.streams import Backend, pass_through
from peavine.apiserver.upkeep import Upkeep
from peavine.base.clock import REAL, Clock
from peavine.machinery import errors
from peavine.machinery.meta import now

log = logging.getLogger(__name__)

GROUP, PLURAL = "apiregistration.k8s.io", "apiservices"
AUTOMANAGED = "kube-aggregator.kubernetes.io/automanaged"
CHECK_SECONDS = 10.0
DISCOVERY_SECONDS = 5.0
DISCOVERY_BYTES_MAX = 8 << 20

# (group priority, version priority) of the groups served here, as upstream registers them.
_PRIORITIES = {
    "": (18000, 1),
    "apps": (17800, 15),
    "events.k8s.io": (17750, 15),
    "authentication.k8s.io": (17700, 15),
    "authorization.k8s.io": (17600, 15),
    "autoscaling": (17500, 15),
    "batch": (17400, 15),
    "certificates.k8s.io": (17300, 15),
    "networking.k8s.io": (17200, 15),
    "policy": (17100, 15),
    "rbac.authorization.k8s.io": (17000, 15),
    "storage.k8s.io": (16800, 15),
    "apiextensions.k8s.io": (16700, 15),
    "admissionregistration.k8s.io": (16700, 15),
    "scheduling.k8s.io": (16600, 15),
    "coordination.k8s.io": (16500, 15),
    "node.k8s.io": (16300, 15),
    "discovery.k8s.io": (16200, 15),
    "flowcontrol.apiserver.k8s.io": (16100, 15),
}
_OTHER_PRIORITY = (16000, 15)
_CUSTOM_PRIORITY = (1000, 100)


class Aggregator:
    """`remote(group, version)` says whether another server answers; `serve` passes a request on."""

    def __init__(
        self,
        lister: Lister,
        writer: Writer,
        discovery: Discovery,
        locations: Locations,
        config: Config,
        clock: Clock = REAL,
    ) -> None:
        self.lister, self.writer, self.discovery, self.locations = lister, writer, discovery, locations
        self.config, self.clock = config, clock
        self._remote: dict[tuple[str, str], Object] = {}
        self._available: dict[str, bool] = {}
        self._versions: dict[tuple[str, str], Object] = {}  # aggregated discovery of each remote version
        self._wake = asyncio.Event()
        lister.on_change(GROUP, PLURAL, self._changed)
        for group, plural in (("", "services"), ("discovery.k8s.io", "endpointslices")):
            lister.on_change(group, plural, self._backend_changed)

    # --- who answers ---------------------------------------------------------------------------
    def remote(self, group: str, version: str) -> Object | None:
        """The APIService of a group and version that another server answers for; None for our own."""
        return self._remote.get((group, version))

    def has_group(self, group: str) -> bool:
        return any(name == group for name, _ in self._remote)

    def _changed(self, type: str, obj: Object, old: Object | None) -> None:
        spec = obj.get("spec") or {}
        key = (spec.get("group") or "", spec.get("version") or "")
        if type == "DELETED" or spec.get("service") is None:
            self._remote.pop(key, None)
            self._available.pop(obj["metadata"]["name"], None)
            if self._versions.pop(key, None) is not None:
                self._publish()
        else:
            self._remote[key] = obj
        if type != "MODIFIED" or old is None or old.get("spec") != spec:
            self._wake.set()

    def _backend_changed(self, type: str, obj: Object, old: Object | None) -> None:
        if self._remote:
            meta = obj["metadata"]
            name = (meta.get("labels") or {}).get("kubernetes.io/service-name") or meta["name"]
            wanted = {
                (s["spec"]["service"].get("namespace"), s["spec"]["service"].get("name")) for s in self._remote.values()
            }
            if (meta.get("namespace"), name) in wanted:
                self._wake.set()

    # --- upkeep --------------------------------------------------------------------------------
    def start(self, upkeep: Upkeep) -> None:
        self._registered = asyncio.Event()
        upkeep.keep("apiservices", self._check_all)
        upkeep.keep("apiservice-registration", self._register)
        self._registered.set()
        self.discovery.registry.on_kinds.append(self._registered.set)

    async def _check_all(self) -> None:
        while True:
            self._wake.clear()
            for service in list(self._remote.values()):
                try:
                    await self._check(service)
                except errors.ApiError as error:
                    log.warning("APIService %s: %s", service["metadata"]["name"], error)
            if self._remote:
                try:
                    async with asyncio.timeout(CHECK_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    pass
            else:
                await self._wake.wait()

    async def _check(self, service: Object) -> None:
        name, spec = service["metadata"]["name"], service["spec"]
        problem = await self._problem(service)
        available = problem is None
        self._available[name] = available
        key = (spec.get("group") or "", spec["version"])
        if not available and self._versions.pop(key, None) is not None:
            self._publish()
        reason, message = problem or ("Passed", "all checks passed")
        condition = {
            "type": "Available",
            "status": "True" if available else "False",
            "lastTransitionTime": now(self.clock.time()),
            "reason": reason,
            "message": message,
        }

        def change(live: Object) -> Object | None:
            conditions = live.setdefault("status", {}).setdefault("conditions", [])
            for at, held in enumerate(conditions):
                if held.get("type") == "Available":
                    if all(held.get(k) == condition[k] for k in ("status", "reason", "message")):
                        return None
                    if held.get("status") == condition["status"]:
                        condition["lastTransitionTime"] = held["lastTransitionTime"]
                    conditions[at] = condition
                    return live
            conditions.append(condition)
            return live

        try:
            await self.writer.patch(GROUP, "v1", PLURAL, None, name, change, "status")
        except errors.ApiError as error:
            if error.reason != "NotFound":
                raise

    async def _problem(self, service: Object) -> tuple[str, str] | None:
        """What keeps a remote server from answering: reason and message; None when it answers."""
        spec = service["spec"]
        target = spec["service"]
        namespace, name = target.get("namespace") or "", target.get("name") or ""
        port = target.get("port") or 443
        backend = self.lister.get("", "services", namespace, name)
        if backend is None:
            return "ServiceNotFound", f'service/{name} in "{namespace}" is not present'
        if (backend.get("spec") or {}).get("type") != "ExternalName":
            ports = (backend.get("spec") or {}).get("ports") or ()
            if not any(p.get("port") == port for p in ports):
                return "ServicePortError", f'service/{name} in "{namespace}" is not listening on port {port}'
        group, version = spec.get("group") or "", spec["version"]
        try:
            location = self._location(service)
        except errors.ApiError:
            return "MissingEndpoints", f'endpoints for service/{name} in "{namespace}" have no addresses'
        path = f"/apis/{group}/{version}"
        try:
            status, body = await fetch(location, path)
        except (OSError, TimeoutError, ssl.SSLError) as error:
            url = f"https://{location.authority}{path}"
            return "FailedDiscoveryCheck", f"failing or missing response from {url}: Get {url!r}: {error}"
        if not 200 <= status < 300:
            url = f"https://{location.authority}{path}"
            return "FailedDiscoveryCheck", f"failing or missing response from {url}: bad status from {url}: {status}"
        self._learn(group, version, body)
        return None

    def _learn(self, group: str, version: str, body: bytes) -> None:
        try:
            resources = orjson.loads(body).get("resources") or []
            aggregated = {
                "version": version,
                "resources": [_aggregated(group, version, r, resources) for r in resources if "/" not in r["name"]],
                "freshness": "Current",
            }
        except (ValueError, KeyError, AttributeError, TypeError):
            log.warning("%s/%s answers its discovery with something else", group, version)
            return
        if self._versions.get((group, version)) != aggregated:
            self._versions[group, version] = aggregated
            self._publish()

    def _publish(self) -> None:
        groups: dict[str, list[Object]] = {}
        for (group, _), version in self._versions.items():
            groups.setdefault(group, []).append(version)
        self.discovery.remote = {
            group: {"metadata": {"name": group, "creationTimestamp": None}, "versions": versions}
            for group, versions in sorted(groups.items())
        }
        self.discovery.changed()

    async def _register(self) -> None:
        """Keep an APIService for every group and version served here."""
        while True:
            await self._registered.wait()
            self._registered.clear()
            wanted = {}
            for group, versions in self.discovery.versions().items():
                for at, (version, kinds) in enumerate(versions.items()):
                    custom = all(not kind.definition for kind in kinds)
                    wanted[f"{version}.{group}"] = (group, version, at, custom)
            try:
                await self._reconcile(wanted)
            except errors.ApiError as error:
                log.warning("registering the served groups: %s", error)

    async def _reconcile(self, wanted: dict[str, tuple[str, str, int, bool]]) -> None:
        for name, (group, version, at, custom) in wanted.items():
            if self.lister.get(GROUP, PLURAL, None, name) is not None:
                continue
            priority, first = _CUSTOM_PRIORITY if custom else _PRIORITIES.get(group, _OTHER_PRIORITY)
            obj: Object = {
                "metadata": {"name": name, "labels": {AUTOMANAGED: "true" if custom else "onstart"}},
                "spec": {
                    "version": version,
                    "groupPriorityMinimum": priority,
                    "versionPriority": max(1, first - at),
                },
            }
            if group:
                obj["spec"]["group"] = group
            try:
                await self.writer.create(GROUP, "v1", PLURAL, None, obj)
            except errors.ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
        for service in self.lister.list(GROUP, PLURAL):
            labels = service["metadata"].get("labels") or {}
            name = service["metadata"]["name"]
            if labels.get(AUTOMANAGED) == "true" and name not in wanted:
                await self.writer.delete(GROUP, "v1", PLURAL, None, name)

    # --- passing on ----------------------------------------------------------------------------
    def _location(self, service: Object) -> Location:
        spec = service["spec"]
        target = spec["service"]
        namespace, name = target.get("namespace") or "", target.get("name") or ""
        port = target.get("port") or 443
        backend = self.lister.get("", "services", namespace, name)
        backend_spec = (backend or {}).get("spec") or {}
        if backend_spec.get("type") == "ExternalName":
            host = backend_spec.get("externalName") or ""
        else:
            found = self.locations.service(namespace, f"{name}:{port}")
            host, port = found.host, found.port
        return Location(host, port, self._tls(service), f"{name}.{namespace}.svc")

    def _tls(self, service: Object) -> ssl.SSLContext:
        import base64

        spec = service["spec"]
        if spec.get("caBundle"):
            pem = base64.b64decode(spec["caBundle"]).decode("utf-8", "replace")
            context = ssl.create_default_context(cadata=pem)
        else:
            context = ssl.create_default_context()
        if spec.get("insecureSkipTLSVerify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.config.proxy_client_cert_file:
            context.load_cert_chain(self.config.proxy_client_cert_file, self.config.proxy_client_key_file)
        return context

    async def serve(self, exchange: Exchange, service: Object) -> Response | None:
        """Pass a request on to the server that its group belongs to. Raises ApiError 503."""
        name = service["metadata"]["name"]
        if self._available.get(name) is False:
            raise errors.unavailable("service unavailable")
        try:
            location = self._location(service)
        except errors.ApiError:
            raise errors.unavailable("service unavailable") from None
        info = exchange.info
        assert info.user is not None
        target = info.raw_path + ("?" + info.query_string if info.query_string else "")
        headers = user_headers(info.user)
        if exchange.upgrade:
            backend = Backend(
                location.host,
                location.port,
                target,
                tls=location.tls,
                server_name=location.server_name,
                headers=tuple(headers),
                method=info.method,
            )
            return await pass_through(exchange, backend)
        try:
            upstream = await connect(location.host, location.port, location.tls, location.server_name)
        except (OSError, TimeoutError) as error:
            raise dial_failure(location.host, location.port, error) from None
        dropped = [name for name, _ in info.raw_headers if name.startswith("x-remote-")]
        head = request_head(exchange, target, location.server_name, headers, dropped)
        await pass_on(exchange, upstream, head, redirects=False)
        return None


def user_headers(user: User) -> list[tuple[str, str]]:
    """Who asks, in the headers that a front proxy's certificate vouches for."""
    from urllib.parse import quote

    headers = [("X-Remote-User", user.name)]
    if user.uid:
        headers.append(("X-Remote-Uid", user.uid))
    headers += [("X-Remote-Group", group) for group in user.groups]
    for key, values in user.extra.items():
        headers += [("X-Remote-Extra-" + quote(key, safe=""), value) for value in values]
    return headers


async def fetch(location: Location, path: str) -> tuple[int, bytes]:
    """GET, with the front proxy's certificate: status and body. Raises OSError, TimeoutError."""
    async with asyncio.timeout(DISCOVERY_SECONDS):
        upstream = await connect(location.host, location.port, location.tls, location.server_name)
        try:
            head = (
                f"GET {path} HTTP/1.1\r\nHost: {location.server_name}\r\nAccept: application/json\r\n"
                "X-Remote-User: system:kube-aggregator\r\nX-Remote-Group: system:masters\r\nConnection: close\r\n\r\n"
            )
            await upstream.write(head.encode())
            await upstream.head()
            body = b""
            while data := await upstream.read():
                body += data
                if len(body) > DISCOVERY_BYTES_MAX:
                    raise OSError("the discovery document is too large")
            return upstream.status, body
        finally:
            upstream.close()


def _aggregated(group: str, version: str, resource: Object, every: list[Object]) -> Object:
    """An entry of an `APIResourceList` as aggregated discovery writes it."""

    def kind_of(entry: Object) -> Object:
        return {
            "group": entry.get("group") or group,
            "version": entry.get("version") or version,
            "kind": entry["kind"],
        }

    made: Object = {
        "resource": resource["name"],
        "responseKind": kind_of(resource),
        "scope": "Namespaced" if resource.get("namespaced") else "Cluster",
        "singularResource": resource.get("singularName") or "",
        "verbs": resource.get("verbs") or [],
    }
    for field in ("shortNames", "categories"):
        if resource.get(field):
            made[field] = resource[field]
    prefix = resource["name"] + "/"
    subresources = [
        {"subresource": e["name"][len(prefix) :], "responseKind": kind_of(e), "verbs": e.get("verbs") or []}
        for e in every
        if e["name"].startswith(prefix)
    ]
    if subresources:
        made["subresources"] = subresources
    return made
