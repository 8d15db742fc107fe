"""/healthz, /livez, /readyz, /version and /metrics."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable
from typing import Any

from peavine.apiserver.endpoints.negotiation import Output
from peavine.apiserver.endpoints.rendering import encode
from peavine.apiserver.http import Response
from peavine.apiserver.requests import RequestInfo

# Name of a check -> what it asks: None when all is well, else what is wrong.
Checks = dict[str, Callable[[], Awaitable[str | None]]]


async def answer_health(info: RequestInfo, checks: Checks) -> Response:
    """`/readyz`, `/readyz/CHECK`, with `?verbose` and `?exclude=CHECK`."""
    root, _, single = info.path.strip("/").partition("/")
    if single:
        check = checks.get(single)
        if check is None:
            return text(404, "404 page not found\n")
        problem = await check()
        return text(200, "ok") if problem is None else text(500, f"internal server error: {problem}\n")
    excluded = set(info.query.get("exclude", ()))
    lines, failed = [], []
    for name, check in checks.items():
        if name in excluded:
            excluded.discard(name)
            lines.append(f"[+]{name} excluded: ok")
            continue
        problem = await check()
        if problem is None:
            lines.append(f"[+]{name} ok")
        else:
            failed.append(name)
            lines.append(f"[-]{name} failed: reason withheld")
    if excluded:
        names = ", ".join(f'"{name}"' for name in sorted(excluded))
        lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
    if failed:
        return text(500, "\n".join(lines) + f"\n{root} check failed\n")
    if "verbose" in info.query:
        return text(200, "\n".join(lines) + f"\n{root} check passed\n")
    return text(200, "ok")


def text(status: int, words: str) -> Response:
    headers = [("X-Content-Type-Options", "nosniff")]
    return Response(status, words.encode(), "text/plain; charset=utf-8", headers)


# Clients, upstream's conformance tests among them, want hexadecimal digits here: these spell "peavine".
GIT_COMMIT = b"peavine".hex()


def version(kubernetes_version: str) -> Response:
    """What `kubectl version` shows of the server."""
    major, _, minor = kubernetes_version.partition(".")
    info: dict[str, Any] = {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": f"v{kubernetes_version}.0",
        "gitCommit": GIT_COMMIT,
        "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z",
        "goVersion": "go1.26",
        "compiler": "gc",
        "platform": f"linux/{'arm64' if platform.machine() == 'aarch64' else 'amd64'}",
    }
    return Response(200, encode(info, Output(pretty=True)).rstrip(b"\n"))
