"""Who is logged in: random ids, credentials in memory only, an end for everyone."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from typing import Any

from peavine.base.clock import Clock
from peavine.dashboard.upstream import Upstream

IDLE_SECONDS_MAX = 30 * 60.0
AGE_SECONDS_MAX = 12 * 3600.0
SWEEP_SECONDS = 30.0
SESSIONS_MAX = 500
COOKIE = "peavine-session"


@dataclass
class Session:
    upstream: Upstream
    user: dict[str, Any]  # UserInfo, as the API server told it
    born: float
    seen: float
    id: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def may_write(self, csrf: str) -> bool:
        return hmac.compare_digest(self.csrf.encode(), csrf.encode())


class TooMany(Exception):
    """No room for another session until one ends."""


class Sessions:
    """The sessions by id. Logging out ends what the session has under way, too."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def begin(self, upstream: Upstream, user: dict[str, Any]) -> Session:
        """Raises TooMany."""
        self.expire()
        if len(self._sessions) >= SESSIONS_MAX:
            raise TooMany
        now = self._clock.monotonic()
        session = Session(upstream, user, now, now)
        self._sessions[session.id] = session
        return session

    def find(self, cookies: str) -> Session | None:
        """The live session that a Cookie header names; being asked for keeps it alive."""
        for cookie in cookies.split(";"):
            name, _, value = cookie.strip().partition("=")
            session = self._sessions.get(value) if name == COOKIE else None
            if session is not None:
                if self._expired(session):
                    self.end(session)
                    return None
                session.seen = self._clock.monotonic()
                return session
        return None

    def end(self, session: Session) -> None:
        if self._sessions.pop(session.id, None) is not None:
            session.upstream.close()

    def expire(self) -> None:
        for session in [s for s in self._sessions.values() if self._expired(s)]:
            self.end(session)

    def upstreams(self) -> list[Upstream]:
        """The ways to the API server of all who are logged in."""
        return [s.upstream for s in self._sessions.values() if not self._expired(s)]

    def close(self) -> None:
        for session in list(self._sessions.values()):
            self.end(session)

    def _expired(self, session: Session) -> bool:
        now = self._clock.monotonic()
        idle = now - session.seen > IDLE_SECONDS_MAX and not session.upstream.busy
        return idle or now - session.born > AGE_SECONDS_MAX

    async def run(self) -> None:
        """End sessions in time, with the watches and shells that they still have."""
        while True:
            await self._clock.sleep(SWEEP_SECONDS)
            self.expire()
