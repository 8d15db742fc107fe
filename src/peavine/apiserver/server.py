"""The API server put together: store, cache, registry, security and HTTP, and the chain that every request passes."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from peavine.api.kind import Kind
from peavine.apiserver import security
from peavine.apiserver.admission.chain import build_chain
from peavine.apiserver.admission.request import CREATE
from peavine.apiserver.allocation import ServiceAllocator
from peavine.apiserver.allocation.addresses import Addresses
from peavine.apiserver.allocation.ports import Ports, StoreLedger
from peavine.apiserver.audit import Auditor
from peavine.apiserver.authorization.reviews import Reviews
from peavine.apiserver.bootstrap.presence import Presence
from peavine.apiserver.bootstrap.reconcile import BootstrapOptions, bootstrap, kubernetes_service
from peavine.apiserver.cache import Cache
from peavine.apiserver.cache.cache import CacheLister
from peavine.apiserver.config import Config
from peavine.apiserver.customresources import CustomResources
from peavine.apiserver.discovery import Discovery
from peavine.apiserver.endpoints import health
from peavine.apiserver.endpoints.dispatch import dispatch, not_served
from peavine.apiserver.endpoints.negotiation import JSON, Output
from peavine.apiserver.endpoints.rendering import encode
from peavine.apiserver.filters import Filters
from peavine.apiserver.http import Exchange, HttpServer, Response
from peavine.apiserver.http.tls import server_context
from peavine.apiserver.metrics import CONTENT_TYPE, ApiMetrics
from peavine.apiserver.proxying.aggregation import Aggregator
from peavine.apiserver.proxying.locations import Locations
from peavine.apiserver.registry import Registry, WriteRequest
from peavine.apiserver.registry.writer import RegistryWriter
from peavine.apiserver.requests import RequestInfo
from peavine.apiserver.upkeep import Upkeep
from peavine.base.certfiles import CertificateFiles
from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import Scope, scope
from peavine.machinery import errors
from peavine.machinery.features import Features
from peavine.machinery.schema import Schema
from peavine.store import Store, open_store
from peavine.store.interface import StoreError

log = logging.getLogger(__name__)

Object = dict[str, Any]


class ApiServer:
    """`async with scope() as s: await server.start(s)`; then it serves until the scope ends. One per event loop."""

    def __init__(self, config: Config, clock: Clock = REAL) -> None:
        self.config, self.clock = config, clock
        self.port = 0
        self.ready = False
        self.stopping = False
        self.store: Store = None  # type: ignore[assignment]
        self.cache: Cache = None  # type: ignore[assignment]
        self.registry: Registry = None  # type: ignore[assignment]
        self.openapi: Any = None
        self.upkeep: Upkeep = None  # type: ignore[assignment]
        self.metrics = ApiMetrics()
        self.auditor: Auditor | None = None
        self.presence: Presence | None = None
        self.http: HttpServer = None  # type: ignore[assignment]

    # --- lifetime ------------------------------------------------------------------------------
    async def start(self, tasks: Scope, store: Store | None = None) -> None:
        """Open the store, fill the cache, listen. Ready when this returns."""
        config = self.config
        self.upkeep = Upkeep(tasks, self.clock)
        self.store = store or await open_store(config.store, **config.store_options)
        if config.encryption_provider_config:
            from peavine.apiserver.encryption import EncryptedStore

            encrypted = EncryptedStore.open(self.store, config.encryption_provider_config, self.clock)
            self.upkeep.keep("encryption", encrypted.run)
            self.store = encrypted  # type: ignore[assignment]
        self.cache = Cache(self.store, self.clock)
        self.features = Features(config.kubernetes_version, config.feature_gates)
        schema = Schema.load(config.kubernetes_version).without(self.features.disabled_fields())
        self.registry = registry = Registry(self.store, self.cache, schema, self.clock)
        registry.event_ttl_seconds = config.event_ttl_seconds
        self.lister = CacheLister(self.cache)
        self.writer = RegistryWriter(registry)
        self._build_security()
        self.locations = Locations(self.lister, config)
        self.discovery = Discovery(registry, "")
        await self.cache.start(tasks)
        self.aggregator = Aggregator(self.lister, self.writer, self.discovery, self.locations, config, self.clock)
        await self._bootstrap()
        self.custom_resources = CustomResources(registry, self.lister, self.writer, self.clock)
        await self.custom_resources.start(self.upkeep)  # type: ignore[arg-type]
        tls = None
        if config.tls_cert_file:
            authorities = (config.client_ca_file, config.requestheader_client_ca_file)
            tls = server_context(config.tls_cert_file, config.tls_private_key_file, authorities)
            files = CertificateFiles(tls, config.tls_cert_file, config.tls_private_key_file)
            self.upkeep.start(files.follow(self.clock), name="certificate")
        self.upkeep.keep("allocator", self.allocator.run)
        self.upkeep.keep("compaction", self._compact)
        self.filters = self._build_filters()
        self.http = HttpServer(self.filters.handle, tls=tls, clock=self.clock)
        self.port = await self.http.listen(config.bind_address, config.secure_port, tasks)
        self.discovery.address = f"{config.advertise_address}:{self.port}"
        await self._appear()
        if config.enable_aggregation:
            self.aggregator.start(self.upkeep)
        self.ready = True
        log.info("serving on %s:%d", config.bind_address, self.port)

    def _build_security(self) -> None:
        config = self.config
        self.issuer = security.token_issuer(config, self.lister, self.clock)
        self.authenticator = security.authenticator(config, self.lister, self.issuer, self.clock)
        self.authorizer = security.authorizer(config, self.lister, self.clock)
        if config.authorization_config:
            from peavine.apiserver.authorization.webhook import follow

            path, authorizer = config.authorization_config, self.authorizer
            self.upkeep.keep("authorization-config", lambda: follow(authorizer, path, self.clock))
        ranges = config.service_cluster_ip_range.split(",")
        first, _, last = config.service_node_port_range.partition("-")
        ports = Ports(StoreLedger(self.store), int(first), int(last))
        self.allocator = ServiceAllocator(Addresses(self.lister, self.writer, ranges), ports, self.clock)
        self.reviews = Reviews(self.authorizer, self.authenticator, self.clock)
        self.registry.chain = build_chain(
            self.lister,
            self.writer,
            config.enable_admission_plugins,
            config.disable_admission_plugins,
            config.admission_config,
            authorizer=self.authorizer,
            clock=self.clock,
            last=[self.allocator],
            registry=self.registry,
        )

    def _build_filters(self) -> Filters:
        config = self.config
        self.auditor = security.auditor(config, self.clock, self.upkeep)
        return Filters(
            self._routed,
            authenticator=self.authenticator,
            authorizer=self.authorizer,
            fairness=security.fairness(config, self.lister, self.writer, self.cache, self.clock, self.upkeep),
            auditor=self.auditor,
            metrics=self.metrics,
            timeout_seconds=config.request_timeout_seconds,
            cbor=self.features.enabled("CBORServingAndStorage"),
        )

    async def _bootstrap(self) -> None:
        """The objects that a cluster has from its first moment."""
        config = self.config
        self.options = BootstrapOptions(
            service_ranges=tuple(config.service_cluster_ip_range.split(",")),
            secure_port=config.secure_port,
            client_ca=_text(config.client_ca_file),
            requestheader_ca=_text(config.requestheader_client_ca_file),
            requestheader_allowed_names=config.requestheader_allowed_names,
            rbac="RBAC" in config.authorization_modes,
        )
        await bootstrap(self.lister, self.writer, self.options, self.clock)

    async def _appear(self) -> None:
        """The Service `kubernetes`, and this server among its endpoints."""
        config = self.config
        self.options.secure_port = self.port
        if ipaddress.ip_address(config.advertise_address).is_loopback:
            log.info("advertising %s: nobody else reaches it, so no endpoints are published", config.advertise_address)
            if self.lister.get("", "services", "default", "kubernetes") is None:
                service = kubernetes_service(self.options)
                with contextlib.suppress(errors.ApiError):  # another server was first
                    await self.writer.create("", "v1", "services", "default", service)
            return
        self.presence = Presence(
            self.lister,
            self.writer,
            self.options,
            advertise_address=config.advertise_address,
            advertise_port=self.port,
            identity=f"{config.advertise_address}:{self.port}",
            clock=self.clock,
        )
        try:
            await self.presence.appear()
        except errors.ApiError as error:
            log.warning("the kubernetes Service is not up to date yet: %s", error)
        self.upkeep.keep("presence", self.presence.run)

    async def _compact(self) -> None:
        """Forget history older than one to two intervals."""
        before = 0
        while True:
            await self.clock.sleep(self.config.compaction_interval_seconds)
            try:
                if before:
                    await self.store.compact(before)
                before = await self.store.revision()
            except StoreError as error:
                log.warning("compaction at %d failed: %s", before, error)

    async def stop(self) -> None:
        """Stop accepting, let requests under way finish, close the store."""
        self.stopping = True
        self.ready = False
        if self.presence is not None:
            await self.presence.leave()
        if self.config.shutdown_delay_seconds:
            await self.clock.sleep(self.config.shutdown_delay_seconds)
        if self.http is not None:
            self.http.stop_listening()
            for resource in self.cache.resources.values():
                for watcher in resource.watchers.every():
                    watcher.sink.end("shutting down")
            await self.http.drain(self.config.shutdown_grace_seconds)
        if self.upkeep is not None:
            await self.upkeep.stop()
        if self.auditor is not None:
            self.auditor.close()
        if self.store is not None:
            await self.store.close()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with scope() as tasks:
            await self.start(tasks)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await asyncio.shield(self.stop())

    # --- requests ------------------------------------------------------------------------------
    async def _routed(self, exchange: Exchange) -> Response | None:
        info = exchange.info
        first, *rest = info.path.strip("/").split("/")
        if first == "apis" and len(rest) >= 2 and (service := self.aggregator.remote(rest[0], rest[1])) is not None:
            return await self.aggregator.serve(exchange, service)
        if info.is_resource:
            if not self.discovery.serves(info.group, info.version) and not self.registry.sees_all(info.user):
                if info.prefix == "apis":
                    return health.text(404, "404 page not found\n")
                raise not_served()
            return await dispatch(self, exchange)
        if first in ("api", "apis"):
            if info.method not in ("GET", "HEAD"):
                raise errors.ApiError(405, "MethodNotAllowed", "the server does not allow this method", details={})
            response = self.discovery.answer(info)
            if response is None:
                raise not_served()
            return response
        special = self.paths().get(first)
        if special is not None:
            return await special(info)
        output = Output(JSON)
        body = encode({"paths": self.known_paths()}, Output(JSON, pretty=True))
        return Response(200 if info.path == "/" else 404, body.rstrip(b"\n"), output.media_type)

    def paths(self) -> dict[str, Callable[[RequestInfo], Awaitable[Response]]]:
        """First part of a path that is no resource -> what answers it."""
        return {
            "healthz": self._health,
            "livez": self._health,
            "readyz": self._health,
            "version": self._version,
            "metrics": self._metrics,
            "openid": self._openid,
            ".well-known": self._openid,
            "openapi": self._openapi,
        }

    def known_paths(self) -> list[str]:
        """What GET / lists."""
        found = ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis", "/apis/"]
        for group, versions in self.discovery.versions().items():
            if group:
                found.append(f"/apis/{group}")
                found += [f"/apis/{group}/{version}" for version in versions]
        for root in ("healthz", "livez", "readyz"):
            found.append(f"/{root}")
            found += [f"/{root}/{name}" for name in self.checks()]
        found += ["/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/version"]
        return sorted(found)

    # --- paths that are no resources -----------------------------------------------------------
    def checks(self) -> health.Checks:
        async def fine() -> str | None:
            return None

        async def etcd() -> str | None:
            try:
                await asyncio.wait_for(self.store.revision(), 5)
            except (StoreError, TimeoutError) as error:
                return str(error) or "timeout"
            return None

        async def synced() -> str | None:
            return None if self.cache.ready else "the cache is not filled"

        async def started() -> str | None:
            return None if self.ready or self.stopping else "not started"

        async def shutdown() -> str | None:
            return "process is shutting down" if self.stopping else None

        return {
            "ping": fine,
            "log": fine,
            "etcd": etcd,
            "etcd-readiness": etcd,
            "informer-sync": synced,
            "poststarthook/start-apiserver-admission-initializer": started,
            "poststarthook/crd-informer-synced": synced,
            "poststarthook/rbac/bootstrap-roles": started,
            "shutdown": shutdown,
        }

    async def _health(self, info: RequestInfo) -> Response:
        checks = self.checks()
        if not info.path.startswith("/readyz"):
            checks = {k: v for k, v in checks.items() if k not in ("shutdown", "etcd-readiness", "informer-sync")}
        return await health.answer_health(info, checks)

    async def _version(self, info: RequestInfo) -> Response:
        return health.version(self.config.kubernetes_version)

    async def _metrics(self, info: RequestInfo) -> Response:
        return Response(200, self.metrics.exposition(self), CONTENT_TYPE)

    async def _openid(self, info: RequestInfo) -> Response:
        if self.issuer is None:
            raise not_served()
        if info.path == "/openid/v1/jwks":
            return Response(200, encode(self.issuer.jwks(), Output()), "application/jwk-set+json")
        if info.path == "/.well-known/openid-configuration":
            return Response(200, encode(self.issuer.openid_configuration(), Output()))
        raise not_served()

    async def _openapi(self, info: RequestInfo) -> Response:
        if self.openapi is None:
            from peavine.apiserver.openapi import OpenApi

            self.openapi = OpenApi(self.discovery, self.config.kubernetes_version)
        return self.openapi.answer(info)

    # --- requests of kinds that are not stored -------------------------------------------------
    async def virtual(self, exchange: Exchange, kind: Kind, namespace: str, name: str) -> Response:
        from peavine.apiserver.endpoints.virtual import answer_virtual

        return await answer_virtual(self, exchange, kind, namespace, name)

    async def token_request(self, request: WriteRequest, obj: Object) -> Object:
        if self.issuer is None:
            raise errors.ApiError(501, "NotImplemented", "this server signs no service account tokens")
        review = request.admission(CREATE, obj, None)
        await self.registry.chain.admit(review)
        await self.registry.chain.validate(review)
        return self.issuer.token_request(request.namespace, request.name, obj)

    async def review(self, info: RequestInfo, kind: Kind, namespace: str, obj: Object) -> Object:
        """The answer to a review of access, rules, a token or oneself."""
        if (kind.group, kind.plural) not in Reviews.RESOURCES:
            raise errors.ApiError(501, "NotImplemented", f"{kind.plural} is not implemented")
        assert info.user is not None
        return await self.reviews.create(kind.plural, info.user, namespace, obj)


def _text(path: str) -> str:
    if not path:
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()
