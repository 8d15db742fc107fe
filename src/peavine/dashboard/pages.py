"""The built page: read into memory once, compressed once, served under a strict content security policy."""

from __future__ import annotations

import gzip
from pathlib import Path

from peavine.dashboard.http import Answer, Request

STATIC = Path(__file__).parent / "static"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Pages:
    """Files by path. Only names read at the start are served: no path of a request ever reaches the disk."""

    def __init__(self, folder: Path = STATIC) -> None:
        self._files: dict[str, tuple[str, bytes, bytes]] = {}
        for file in sorted(folder.iterdir()) if folder.is_dir() else []:
            if file.suffix in KINDS:
                body = file.read_bytes()
                packed = gzip.compress(body, 9, mtime=0)
                self._files["/" + file.name] = (KINDS[file.suffix], body, packed)
        if "/index.html" in self._files:
            self._files["/"] = self._files["/index.html"]

    def answer(self, request: Request) -> Answer:
        text = [("Content-Type", "text/plain; charset=utf-8")]
        if request.method not in ("GET", "HEAD"):
            return Answer(405, b"method not allowed\n", [*text, ("Allow", "GET, HEAD")])
        if request.path not in self._files:
            return Answer(404, b"404 page not found\n", text)
        kind, body, packed = self._files[request.path]
        # Names of scripts and styles change with their content; the page that names them must be asked for again.
        lasting = "no-cache" if kind.startswith("text/html") else "public, max-age=31536000, immutable"
        headers = [("Content-Type", kind), ("Cache-Control", lasting), ("Vary", "Accept-Encoding")]
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Answer(200, packed, [*headers, ("Content-Encoding", "gzip")])
        return Answer(200, body, headers)
