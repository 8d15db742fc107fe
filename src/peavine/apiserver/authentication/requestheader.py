"""Users by the word of an authenticating proxy: headers, believed only from a holder of a front-proxy certificate."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote

from peavine.apiserver.authentication.certificates import Authorities
from peavine.apiserver.authentication.user import User
from peavine.apiserver.requests import RequestInfo
from peavine.base.clock import REAL, Clock
from peavine.machinery import errors


class RequestHeaderAuthenticator:
    def __init__(
        self,
        proxy_ca: Authorities,
        allowed_names: Iterable[str] = (),
        *,
        username_headers: Iterable[str] = ("x-remote-user",),
        uid_headers: Iterable[str] = ("x-remote-uid",),
        group_headers: Iterable[str] = ("x-remote-group",),
        extra_prefixes: Iterable[str] = ("x-remote-extra-",),
        clock: Clock = REAL,
    ) -> None:
        """`allowed_names`: common names that may speak for users; none named means every holder may."""
        self.proxy_ca, self.allowed, self.clock = proxy_ca, frozenset(allowed_names), clock
        self.username_headers = tuple(h.lower() for h in username_headers)
        self.uid_headers = tuple(h.lower() for h in uid_headers)
        self.group_headers = tuple(h.lower() for h in group_headers)
        self.extra_prefixes = tuple(h.lower() for h in extra_prefixes)

    async def authenticate(self, info: RequestInfo) -> User | None:
        if info.peer_certificate is None:
            return None
        certificate = self.proxy_ca.verify(info.peer_certificate, info.peer_chain)
        if certificate is None:
            return None
        if not certificate.not_before <= self.clock.time() <= certificate.not_after:
            raise errors.unauthorized()
        if self.allowed and certificate.common_name not in self.allowed:
            raise errors.unauthorized()
        name = next((info.headers[h] for h in self.username_headers if info.headers.get(h)), "")
        if not name:
            return None
        uid = next((info.headers[h] for h in self.uid_headers if info.headers.get(h)), "")
        groups = tuple(value for header in self.group_headers for value in info.header_values(header) if value)
        extra: dict[str, list[str]] = {}
        for key, value in info.raw_headers:
            for prefix in self.extra_prefixes:
                if key.startswith(prefix):
                    extra.setdefault(unquote(key[len(prefix) :]).lower(), []).append(value)
        return User(name, uid, groups, extra)

    def strip(self, info: RequestInfo) -> None:
        """Forget the headers, so that nothing behind the filter, a proxied backend say, believes them again."""
        known = (*self.username_headers, *self.uid_headers, *self.group_headers)

        def believed(key: str) -> bool:
            return key in known or key.startswith(self.extra_prefixes)

        if any(believed(key) for key in info.headers):
            info.raw_headers = [(key, value) for key, value in info.raw_headers if not believed(key)]
            for key in [key for key in info.headers if believed(key)]:
                del info.headers[key]
