"""The chain that every request passes: who asks, is there room, may they, what is answered, what is written down."""

from __future__ import annotations

import asyncio
import gzip
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from peavine.apiserver.audit import Auditor
from peavine.apiserver.audit.auditor import Record
from peavine.apiserver.authentication.impersonation import impersonate
from peavine.apiserver.authentication.user import Authenticator, User
from peavine.apiserver.authorization.attributes import Attributes, Authorizer, decide, refusal
from peavine.apiserver.config import seconds_of
from peavine.apiserver.deadlines import Deadlines
from peavine.apiserver.endpoints.negotiation import Output, negotiate
from peavine.apiserver.endpoints.rendering import encode
from peavine.apiserver.http import Exchange, Response
from peavine.apiserver.http.messages import warning_headers
from peavine.apiserver.metrics import ApiMetrics
from peavine.apiserver.requests import RequestInfo, resolve
from peavine.machinery import errors
from peavine.store.interface import StoreError, Unavailable

log = logging.getLogger(__name__)

# Answers from this size on are compressed for clients that take it; in a thread from the second.
GZIP_FROM_BYTES = 128 << 10
GZIP_IN_THREAD_FROM_BYTES = 512 << 10
STREAMING = frozenset(("attach", "exec", "proxy", "log", "portforward"))
READ_VERBS = frozenset(("get", "list", "watch"))

Handler = Callable[[Exchange], Awaitable[Response | None]]


class Fairness(Protocol):
    async def enter(self, info: RequestInfo, user: User) -> Any: ...


class Filters:
    """`handle` answers one request: every failure on the way becomes a Status."""

    def __init__(
        self,
        handler: Handler,
        *,
        authenticator: Authenticator,
        authorizer: Authorizer,
        fairness: Fairness | None = None,
        auditor: Auditor | None = None,
        metrics: ApiMetrics | None = None,
        timeout_seconds: float = 60.0,
        cbor: bool = False,
    ) -> None:
        self.handler, self.authenticator, self.authorizer = handler, authenticator, authorizer
        self.fairness, self.auditor, self.metrics = fairness, auditor, metrics or ApiMetrics()
        self.timeout_seconds, self.cbor = timeout_seconds, cbor
        self.deadlines = Deadlines()

    async def handle(self, exchange: Exchange) -> Response | None:
        info = exchange.info
        info.cbor = self.cbor
        began = time.perf_counter()
        exchange.extra_headers.append(("Audit-Id", info.audit_id))
        response: Response | None
        try:
            resolve(info)
            if long_running(info):
                response = await self._known(exchange)
            elif "timeout" in info.query:
                async with asyncio.timeout(self._seconds(info)):
                    response = await self._known(exchange)
            else:
                response = await self.deadlines.limited(self.timeout_seconds, self._known(exchange))
        except TimeoutError:
            response = failure(info, errors.timeout("request did not complete within the allotted timeout"))
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            response = failure(info, as_api_error(error, info))
        record: Record | None = info.notes.pop("audit", None)
        if exchange.answered or response is None:
            if record is not None:
                record.complete(info.notes.get("status", 200))
            self.metrics.observe(info, info.notes.get("status", 200), time.perf_counter() - began, 0)
            # What failed after its answer began has none to give: the connection then ends, unfinished as it is.
            return response
        if record is not None:
            if record.wants_request:
                record.request_body = info.body
            shown = record.wants_response or response.status >= 400
            record.complete(response.status, response.body if shown else b"")
        exchange.extra_headers += warning_headers(info)
        if not any(name == "Cache-Control" for name, _ in response.headers):
            response.headers.append(("Cache-Control", "no-cache, private"))
        self.metrics.observe(info, response.status, time.perf_counter() - began, len(response.body))
        if len(response.body) >= GZIP_FROM_BYTES and info.method == "GET":
            await compress(info, response)
        return response

    async def _known(self, exchange: Exchange) -> Response | None:
        """Who asks; from here on the request is written down."""
        info = exchange.info
        try:
            info.user = await self.authenticator.authenticate(info)
            if any(name.startswith("impersonate-") for name in info.headers):
                await impersonate(info, self.authorizer)
        finally:
            self._audit(exchange)
        assert info.user is not None
        if self.fairness is None or (info.subresource in STREAMING and info.is_resource):
            return await (self._followed(exchange) if long_running(info) else self._allowed(exchange))
        admitted = await self.fairness.enter(info, info.user)
        try:
            exchange.extra_headers += admitted.headers
            info.notes["release"] = admitted.release  # a watch gives its seat back when its first events are sent
            if long_running(info):
                return await self._followed(exchange)
            counted = "readOnly" if info.verb in READ_VERBS else "mutating"
            self.metrics.in_flight[counted] += 1
            try:
                return await self._allowed(exchange)
            finally:
                self.metrics.in_flight[counted] -= 1
        finally:
            admitted.leave()

    async def _followed(self, exchange: Exchange) -> Response | None:
        """A watch or stream, counted while it lasts."""
        info, counts = exchange.info, self.metrics.long_running
        verb = "WATCH" if info.verb == "watch" else "CONNECT"
        key = (verb, info.group, info.version, info.resource, info.subresource)
        counts[key] = counts.get(key, 0) + 1
        try:
            return await self._allowed(exchange)
        finally:
            counts[key] -= 1

    def _audit(self, exchange: Exchange) -> None:
        if self.auditor is None:
            return
        info = exchange.info
        record = self.auditor.begin(info)
        if record is not None:
            info.notes["audit"] = record
            exchange.on_start = record.started

    async def _allowed(self, exchange: Exchange) -> Response | None:
        info = exchange.info
        assert info.user is not None
        attributes = Attributes.of(info, info.user)
        decision = await decide(self.authorizer, attributes)
        notes = info.audit_annotations
        notes["authorization.k8s.io/decision"] = "allow" if decision.allowed else "forbid"
        notes["authorization.k8s.io/reason"] = decision.reason
        if not decision.allowed:
            words = refusal(attributes, decision.reason)
            raise errors.forbidden(info.resource, info.name, words, info.group)
        return await self.handler(exchange)

    def _seconds(self, info: RequestInfo) -> float:
        """How long a request may take: what it says itself, up to the server's limit. Raises ApiError 400."""
        asked = info.parameter("timeout")
        if not asked:
            return self.timeout_seconds
        try:
            return min(seconds_of(asked), self.timeout_seconds) or self.timeout_seconds
        except ValueError:
            raise errors.bad_request("invalid timeout specified in the request URL") from None


def long_running(info: RequestInfo) -> bool:
    """Watches and streams: no timeout holds for them."""
    return info.verb in ("watch", "proxy") or (info.is_resource and info.subresource in STREAMING)


def as_api_error(error: Exception, info: RequestInfo) -> errors.ApiError:
    """What a client hears of a failure; bugs are logged."""
    if isinstance(error, errors.ApiError):
        return error
    if isinstance(error, Unavailable):
        return errors.unavailable(f"the store is not available: {error}")
    if isinstance(error, StoreError):
        return errors.internal(str(error))
    log.error("%s %s", info.method, info.path, exc_info=error)
    name = type(error).__name__
    return errors.internal(f"This request caused apiserver to panic. Look in the logs for details. ({name})")


def failure(info: RequestInfo, error: errors.ApiError) -> Response:
    """An error as a Status, in the form that the client asked for where that can be had."""
    status = error.status()
    more = getattr(error, "metadata", None)
    if more:
        status["metadata"] = more
    try:
        output = negotiate(info, None, ())
        body = encode(status, output)
    except errors.ApiError:
        output = Output()
        body = encode(status, output)
    response = Response(error.code, body, output.media_type, list(error.headers.items()))
    if error.code == 401:
        response.headers.append(("WWW-Authenticate", 'Basic realm="kubernetes-master"'))
    return response


async def compress(info: RequestInfo, response: Response) -> None:
    """Gzip a large body, quickly rather than well, if the client takes it."""
    if "gzip" not in info.headers.get("accept-encoding", ""):
        return
    if any(name == "Content-Encoding" for name, _ in response.headers):
        return
    if len(response.body) >= GZIP_IN_THREAD_FROM_BYTES:
        response.body = await asyncio.to_thread(gzip.compress, response.body, 1)
    else:
        response.body = gzip.compress(response.body, 1)
    response.headers += [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
