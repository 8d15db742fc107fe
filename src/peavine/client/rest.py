"""REST for any resource: objects in and out are plain dicts, errors are `machinery.errors.ApiError`."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from peavine.base.clock import REAL, Clock
from peavine.client.bodies import dumps, loads
from peavine.client.config import ClientConfig, ConfigError, load_kubeconfig
from peavine.client.response import Response, Unreachable
from peavine.machinery.errors import ApiError
from peavine.machinery.names import GVR, split_group_version

if TYPE_CHECKING:
    import ssl

    from peavine.client.transport import Upgraded

PATCH_TYPES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
TOKEN_REREAD_SECONDS = 60.0
FOLLOW_SECONDS = 10.0
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
RETRIES_MAX = 5

Object = dict[str, Any]


class Client:
    """A connection pool to one API server, as one user. Not bound to a loop until its first request.

    `transport` is the class that carries the requests: `client.transport.Transport` unless named.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        user_agent: str = "",
        clock: Clock = REAL,
        context: ssl.SSLContext | None = None,
        transport: Any = None,
    ) -> None:
        self.config = config
        self.clock = clock
        # Called with the Warning header of any answer that has one.
        self.on_warning: Callable[[str], None] | None = None
        # Called with the method and the target of each request.
        self.on_request: Callable[[str, str], None] | None = None
        self._context = context
        secure = config.server.startswith("https")
        if transport is None:
            from peavine.client.transport import Transport as transport
        self._transport = transport(
            config.server,
            self._tls if secure else None,
            config.tls_server_name,
            proxy=config.proxy,
            timeout_seconds=config.timeout_seconds,
        )
        self._stamp = config.origin.stamp() if config.origin else ()
        self._looked = clock.monotonic()
        self.agent = user_agent or config.user_agent
        self.token, self._token_read = config.token, float("-inf")

    @classmethod
    def from_kubeconfig(cls, path: str | os.PathLike[str], *, context: str = "", user_agent: str = "") -> Client:
        """A client of the file's user, following the file."""
        return cls(load_kubeconfig(path, context), user_agent=user_agent)

    def _tls(self) -> ssl.SSLContext:
        self._follow()
        if self._context is None:
            self._context = self.config.ssl_context()
        return self._context

    def _follow(self) -> None:
        """Take what has changed in the kubeconfig or its files; kept connections show the old identity, and go."""
        self._looked = self.clock.monotonic()
        origin = self.config.origin
        if origin is None or (stamp := origin.stamp()) == self._stamp:
            return
        try:
            config = load_kubeconfig(origin.path, origin.context)
            context = config.ssl_context() if config.server.startswith("https") else None
        except (ConfigError, OSError, ValueError):
            return  # half of a change; the rest will come
        self.config, self._context, self._stamp = config, context, stamp
        self.token = config.token or self.token
        self._transport.renew()

    def resource(self, api_version: str, plural: str) -> Resource:
        """The endpoints of one resource: `client.resource("apps/v1", "deployments")`."""
        return Resource(self, GVR(*split_group_version(api_version), plural))

    async def raw(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """One request; any status below 400 is returned with its body unread.

        Raises ApiError for an error answer, Unreachable if there was none. 429 with Retry-After is retried, as
        client-go does.
        """
        for attempt in range(RETRIES_MAX + 1):
            answer = await self.answer(method, path, query=query, body=body, headers=headers)
            if answer.status < 400:
                return answer
            retry_after = answer.headers.get("retry-after", "")
            error = _error(answer, await answer.read())
            if answer.status != 429 or not retry_after.isdigit() or attempt == RETRIES_MAX:
                raise error
            await self.clock.sleep(int(retry_after))
        raise AssertionError("unreachable: the loop returns or raises")

    async def answer(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """One request, once; the answer, whatever its status. Raises Unreachable."""
        request = self._request(method, path, query, body, headers)
        if self.on_request is not None:
            self.on_request(method, request.split(b" ", 2)[1].decode("latin-1"))
        answer = await self._transport.exchange(request, idempotent=method in ("GET", "HEAD"))
        if self.on_warning is not None and "warning" in answer.headers:
            self.on_warning(answer.headers["warning"])
        return answer

    async def upgrade(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, headers: Mapping[str, str]
    ) -> Upgraded:
        """Open a raw stream (SPDY, WebSocket). Raises ApiError if the server refuses."""
        from peavine.client.transport import Upgraded

        answer = await self._transport.upgrade(self._request(method, path, query, b"", headers))
        if isinstance(answer, Upgraded):
            return answer
        raise _error(answer, await answer.read())

    async def json(self, method: str, path: str, body: Any = None, **more: Any) -> Object:
        """`raw` with JSON in and out."""
        data = b"" if body is None else dumps(body)
        answer = await self.raw(method, path, body=data, **more)
        return loads(await answer.read())

    def unlimited(self) -> None:
        """Requests from here on may last: watches and followed logs."""
        self._transport.timeout_seconds = 0.0

    def close(self) -> None:
        self._transport.close()

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: bytes,
        headers: Mapping[str, str] | None,
    ) -> bytes:
        if self.clock.monotonic() - self._looked > FOLLOW_SECONDS:
            self._follow()
        target = self._transport.prefix + quote(path, safe="/:@!$&'()*+,;=~%")
        if query:
            target += "?" + urlencode(query, doseq=True)
        head = {
            "Host": self._transport.authority,
            "User-Agent": self.agent,
            "Accept": "application/json",
            **self._transport.headers,
            **self._credentials(),
        }
        if body or method in ("POST", "PUT", "PATCH"):
            head["Content-Type"] = "application/json"
            head["Content-Length"] = str(len(body))
        head.update(headers or {})
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body

    def _credentials(self) -> dict[str, str]:
        headers = {}
        if self.config.token_file and self.clock.monotonic() - self._token_read > TOKEN_REREAD_SECONDS:
            with open(self.config.token_file) as file:
                self.token = file.read().strip()
            self._token_read = self.clock.monotonic()
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        elif self.config.username:
            basic = base64.b64encode(f"{self.config.username}:{self.config.password}".encode()).decode()
            headers["Authorization"] = f"Basic {basic}"
        if self.config.impersonate:
            headers["Impersonate-User"] = self.config.impersonate
        if self.config.impersonate_uid:
            headers["Impersonate-Uid"] = self.config.impersonate_uid
        # One header line a value: dicts cannot repeat a name, so the lines are joined here.
        if groups := self.config.impersonate_groups:
            headers["Impersonate-Group"] = "\r\nImpersonate-Group: ".join(groups)
        for key, values in self.config.impersonate_extra.items():
            name = "Impersonate-Extra-" + quote(key, safe="!#$&'*+.^_`|~-")
            headers[name] = f"\r\n{name}: ".join(values)
        return headers


class Resource:
    """The verbs of one resource. `namespace=None` means cluster-scoped, or all namespaces for list and watch.

    With `metadata_only`, answers to get, list, watch and patch are PartialObjectMetadata.
    """

    def __init__(self, client: Client, gvr: GVR, *, metadata_only: bool = False) -> None:
        self.client, self.gvr = client, gvr
        form = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
        self._accept = {"Accept": form.format("")} if metadata_only else {}
        self._accept_list = {"Accept": form.format("List")} if metadata_only else {}

    async def get(self, name: str, namespace: str | None = None, *, subresource: str | None = None) -> Object:
        return await self.client.json("GET", self.gvr.path(namespace, name, subresource), headers=self._accept)

    async def list(
        self,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str = "",
    ) -> Object:
        """One page (everything unless `limit`), as the List object."""
        query = {
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "limit": limit,
            "continue": continue_token,
            "resourceVersion": resource_version,
        }
        given = {k: v for k, v in query.items() if v}
        return await self.client.json("GET", self.gvr.path(namespace), query=given, headers=self._accept_list)

    async def create(self, obj: Object, namespace: str | None = None, **query: Any) -> Object:
        where = self.gvr.path(namespace or obj.get("metadata", {}).get("namespace"))
        return await self.client.json("POST", where, obj, query=query)

    async def create_subresource(
        self, name: str, subresource: str, obj: Object, namespace: str | None = None
    ) -> Object:
        """POST to a subresource: `binding`, `eviction`, `token`."""
        return await self.client.json("POST", self.gvr.path(namespace, name, subresource), obj)

    async def update(self, obj: Object, subresource: str | None = None) -> Object:
        """PUT the whole object; a `metadata.resourceVersion` in it must be the current one (ApiError 409)."""
        meta = obj["metadata"]
        return await self.client.json("PUT", self.gvr.path(meta.get("namespace"), meta["name"], subresource), obj)

    async def patch(
        self,
        name: str,
        body: Any,
        namespace: str | None = None,
        *,
        type: str = "merge",
        subresource: str | None = None,
        field_manager: str | None = None,
        force: bool = False,
    ) -> Object:
        """`type` is merge, json, strategic or apply (server-side apply, which needs `field_manager`)."""
        query: dict[str, Any] = {"fieldManager": field_manager} if field_manager else {}
        if force:
            query["force"] = "true"
        return await self.client.json(
            "PATCH",
            self.gvr.path(namespace, name, subresource),
            body,
            query=query,
            headers={"Content-Type": PATCH_TYPES[type], **self._accept},
        )

    async def delete(
        self,
        name: str,
        namespace: str | None = None,
        *,
        grace_period_seconds: int | None = None,
        propagation_policy: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Object:
        preconditions = {k: v for k, v in (("uid", uid), ("resourceVersion", resource_version)) if v}
        options = {
            "gracePeriodSeconds": grace_period_seconds,
            "propagationPolicy": propagation_policy,
            "preconditions": preconditions or None,
        }
        body = {"kind": "DeleteOptions", "apiVersion": "v1", **{k: v for k, v in options.items() if v is not None}}
        return await self.client.json("DELETE", self.gvr.path(namespace, name), body)

    async def delete_collection(self, namespace: str | None = None, **query: Any) -> Object:
        return await self.client.json("DELETE", self.gvr.path(namespace), query=query)

    async def watch(
        self,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = True,
        timeout_seconds: int = 0,
        initial_events: bool = False,
    ) -> AsyncIterator[tuple[str, Object]]:
        """Events after `resource_version`, until the server ends the stream.

        With `initial_events` and no version, what there is comes first, object by object, then a bookmark with the
        annotation `INITIAL_EVENTS_END`: a list that nobody has to hold as a whole. Bookmarks are passed on as
        ("BOOKMARK", obj). Raises ApiError (410 among them) for an ERROR event, Unreachable if the connection breaks.
        """
        query: dict[str, Any] = {"watch": "1", "resourceVersion": resource_version}
        if initial_events:
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        if label_selector:
            query["labelSelector"] = label_selector
        if field_selector:
            query["fieldSelector"] = field_selector
        if bookmarks:
            query["allowWatchBookmarks"] = "true"
        if timeout_seconds:
            query["timeoutSeconds"] = timeout_seconds
        answer = await self.client.raw("GET", self.gvr.path(namespace), query=query, headers=self._accept)
        rest = b""
        try:
            async for piece in answer.chunks():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    event = loads(line)
                    if event["type"] == "ERROR":
                        raise ApiError.from_status(event["object"])
                    yield event["type"], event["object"]
        finally:
            answer.close()


def _error(answer: Response, body: bytes) -> ApiError:
    try:
        status = loads(body)
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        error = ApiError.from_status(status, answer.status)
    else:
        error = ApiError(answer.status, "", body.decode("utf-8", "replace")[:1000] or f"HTTP {answer.status}")
    error.headers = dict(answer.headers)
    return error


async def wait_ready(client: Client, seconds: float = 30.0) -> None:
    """Return once `/readyz` answers. Raises TimeoutError."""
    import asyncio

    async with asyncio.timeout(seconds):
        while True:
            try:
                await (await client.raw("GET", "/readyz")).read()
                return
            except (Unreachable, ApiError):
                # The server cannot tell a client that does not know it yet: this is the one place that polls.
                await client.clock.sleep(0.02)
