"""The dashboard's routes: the static page, log in and out, and the API server behind a session."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import scope
from peavine.client import ClientConfig
from peavine.client.transport import Unreachable
from peavine.dashboard.credentials import Unusable, with_certificate, with_kubeconfig, with_token
from peavine.dashboard.history import SCOPE, Recorder
from peavine.dashboard.http import Answer, Request
from peavine.dashboard.pages import CSP, Pages
from peavine.dashboard.sessions import AGE_SECONDS_MAX, COOKIE, Session, Sessions, TooMany
from peavine.dashboard.upstream import SAFE_METHODS, Forbidden, Upstream, check

CSRF_HEADER = "x-peavine-csrf"
PROXY = "/api/k8s"
HISTORY = "/api/history"
# What the API server says is data: even if someone makes it look like a page, it must not run as one.
DATA_CSP = "default-src 'none'; frame-ancestors 'none'; sandbox"
SELF_REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}


class Dashboard:
    """`handle` answers one request. Holds the sessions; `close` forgets them."""

    def __init__(
        self, cluster: ClientConfig, *, read_only: bool = False, clock: Clock = REAL, pages: Pages | None = None
    ) -> None:
        self._cluster, self._read_only = cluster, read_only
        self._sessions = Sessions(clock)
        self._recorder = Recorder(self._sessions, clock)
        self._pages = pages or Pages()

    async def run(self) -> None:
        """Ends sessions in time, and samples metrics while there are any."""
        async with scope() as tasks:
            tasks.start(self._recorder.run(), name="metrics' history")
            await self._sessions.run()

    def close(self) -> None:
        self._sessions.close()

    async def handle(self, request: Request) -> Answer:
        answer = await self._route(request)
        names = {name.lower() for name, _ in answer.headers}
        answer.headers += [
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ]
        is_data = request.path.startswith("/api/")
        answer.headers.append(("Content-Security-Policy", DATA_CSP if is_data else CSP))
        if "cache-control" not in names:
            answer.headers.append(("Cache-Control", "no-store"))
        return answer

    async def _route(self, request: Request) -> Answer:
        path = request.path
        if not path.startswith("/api/"):
            return self._pages.answer(request)
        if not _same_origin(request):
            return _failure(403, "Forbidden", "requests of other sites are not answered")
        if path == "/api/login":
            return await self._log_in(request)
        session = self._sessions.find(request.headers.get("cookie", ""))
        if path == "/api/session" and request.method == "GET":
            return _json(200, self._told(session) if session else {"user": None})
        if session is None:
            return _failure(401, "Unauthorized", "log in first")
        if request.method not in SAFE_METHODS and not session.may_write(request.headers.get(CSRF_HEADER, "")):
            return _failure(403, "Forbidden", f"the {CSRF_HEADER} header is missing or wrong")
        if path == "/api/logout" and request.method == "POST":
            self._sessions.end(session)
            return _json(200, {}, [("Set-Cookie", _cookie(request, "", 0))])
        if path.startswith(PROXY + "/"):
            return await self._proxy(request, session)
        if path.startswith(HISTORY + "/") and request.method == "GET":
            return await self._history(request, session)
        return _failure(404, "NotFound", "no such page")

    async def _log_in(self, request: Request) -> Answer:
        # Another site can make a browser send a form, but no header of its own choice.
        if request.method != "POST" or request.headers.get(CSRF_HEADER) != "login":
            return _failure(403, "Forbidden", f"log in by POST with {CSRF_HEADER}: login")
        try:
            config = self._credentials(request.body)
        except Unusable as error:
            return _failure(400, "BadRequest", str(error))
        upstream = Upstream(config)
        try:
            user = await _who_am_i(upstream)
            session = self._sessions.begin(upstream, user)
        except Unusable as error:
            upstream.close()
            return _failure(401, "Unauthorized", str(error))
        except Unreachable as error:
            upstream.close()
            return _failure(502, "BadGateway", f"the API server does not answer: {error}")
        except TooMany:
            upstream.close()
            return _failure(503, "ServiceUnavailable", "too many sessions")
        return _json(200, self._told(session), [("Set-Cookie", _cookie(request, session.id, int(AGE_SECONDS_MAX)))])

    def _credentials(self, body: bytes) -> ClientConfig:
        try:
            given = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Unusable("not JSON") from error
        if isinstance(given, dict) and isinstance(given.get("token"), str):
            return with_token(self._cluster, given["token"])
        if isinstance(given, dict) and isinstance(given.get("kubeconfig"), str):
            return with_kubeconfig(self._cluster, given["kubeconfig"], str(given.get("context") or ""))
        if isinstance(given, dict) and isinstance(given.get("certificate"), str):
            return with_certificate(self._cluster, given["certificate"], str(given.get("key") or ""))
        raise Unusable("give a token, a client certificate or a kubeconfig")

    def _told(self, session: Session) -> dict[str, Any]:
        return {
            "user": session.user,
            "csrf": session.csrf,
            "readOnly": self._read_only,
            "server": self._cluster.server,
        }

    async def _history(self, request: Request, session: Session) -> Answer:
        where, query = request.path[len(HISTORY) + 1 :], parse_qs(request.query)
        top = query.get("top", ["0"])[0]
        if not SCOPE.fullmatch(where) or not top.isdecimal():
            return _failure(404, "NotFound", "no such history")
        try:
            name = query.get("name", [""])[0]
            return _json(*await self._recorder.ask(session.upstream, where, name=name, top=int(top[:6])))
        except Unreachable as error:
            return _failure(502, "BadGateway", f"the API server does not answer: {error}")

    async def _proxy(self, request: Request, session: Session) -> Answer:
        target = request.target[len(PROXY) :]
        try:
            check(request, request.raw_path[len(PROXY) :], read_only=self._read_only)
            if request.upgrade:
                return await session.upstream.tunnel(request, target)
            return await session.upstream.forward(request, target)
        except Forbidden as error:
            return _failure(403, "Forbidden", str(error))
        except Unreachable as error:
            return _failure(502, "BadGateway", f"the API server does not answer: {error}")


async def _who_am_i(upstream: Upstream) -> dict[str, Any]:
    """The user that the credentials stand for. Raises Unusable if they stand for nobody, Unreachable."""
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    headers = {"accept": "application/json", "content-type": "application/json"}
    answer = await upstream.send("POST", path, headers, orjson.dumps(SELF_REVIEW))
    body = await answer.read()
    if answer.status != 201:
        raise Unusable("the API server does not accept these credentials")
    user = orjson.loads(body).get("status", {}).get("userInfo", {})
    if user.get("username") in (None, "", "system:anonymous"):
        raise Unusable("the API server does not know these credentials")
    return user


def _same_origin(request: Request) -> bool:
    """A browser tells where a request comes from; what tells nothing is no browser that could be misused."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    if origin is None:
        return not request.upgrade
    return urlsplit(origin).netloc.lower() == request.headers["host"].lower()


def _cookie(request: Request, value: str, seconds: int) -> str:
    secure = "; Secure" if request.secure else ""
    return f"{COOKIE}={value}; Path=/api; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"


def _json(status: int, body: Any, headers: list[tuple[str, str]] | None = None) -> Answer:
    return Answer(status, orjson.dumps(body), [("Content-Type", "application/json"), *(headers or [])])


def _failure(status: int, reason: str, message: str) -> Answer:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": status,
    }
    return _json(status, body)
