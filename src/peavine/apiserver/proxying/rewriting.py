"""Pages and redirects of proxied pods, services and nodes: their own links are led through the proxy again.

Follows upstream's `util/proxy/transport.go`: of HTML pages only, and only links to the backend's root.
"""

from __future__ import annotations

import gzip
import posixpath
import re
import zlib
from dataclasses import dataclass
from html import escape, unescape
from html.parser import HTMLParser
from itertools import accumulate
from urllib.parse import urlsplit

PAGE_BYTES_MAX = 8 << 20  # larger ones pass as they are
_RAW = -15  # Go's deflate has no zlib frame

# Element -> its attributes that hold a URL.
LINKS: dict[str, tuple[str, ...]] = {
    "a": ("href",), "applet": ("codebase",), "area": ("href",), "audio": ("src",), "base": ("href",),
    "blockquote": ("cite",), "body": ("background",), "button": ("formaction",), "command": ("icon",), "del": ("cite",),
    "embed": ("src",), "form": ("action",), "frame": ("longdesc", "src"), "head": ("profile",), "html": ("manifest",),
    "iframe": ("longdesc", "src"), "img": ("longdesc", "src", "usemap"), "input": ("formaction", "src", "usemap"),
    "ins": ("cite",), "link": ("href",), "object": ("classid", "codebase", "data", "usemap"), "q": ("cite",),
    "script": ("src",), "source": ("src",), "video": ("poster", "src"),
}  # fmt: skip
_ATTRIBUTE = re.compile(r"""([^\s=>"'/]+)(\s*=\s*)("[^"]*"|'[^']*'|[^\s>"']+)""")


@dataclass(frozen=True)
class Rewriting:
    """`prefix` is the proxy's path, `hosts` are the names by which the backend may call itself."""

    prefix: str
    hosts: frozenset[str]

    def url(self, url: str) -> str:
        try:
            parts = urlsplit(url)
        except ValueError:
            return url
        if (parts.netloc and parts.netloc not in self.hosts) or not parts.path.startswith("/"):
            return url
        path = parts.path
        if not path.startswith(self.prefix):
            path = posixpath.normpath(self.prefix + path) + ("/" if path.endswith("/") else "")
        return parts._replace(scheme="", netloc="", path=path).geturl()

    def page(self, data: bytes) -> bytes:
        """An HTML document with its links rewritten; everything else stays byte for byte."""
        text = data.decode("utf-8", "surrogateescape")
        found = _Links(text)
        parts, at = [], 0
        for start, tag, raw in found.tags:
            parts += [text[at:start], self._tag(tag, raw)]
            at = start + len(raw)
        return "".join([*parts, text[at:]]).encode("utf-8", "surrogateescape")

    def _tag(self, tag: str, raw: str) -> str:
        wanted = LINKS[tag]

        def rewritten(match: re.Match[str]) -> str:
            name, between, value = match.groups()
            if name.lower() not in wanted:
                return match[0]
            quoted = value[0] in "\"'"
            url = unescape(value[1:-1] if quoted else value)
            new = self.url(url)
            return match[0] if new == url else f'{name}{between}"{escape(new)}"'

        return _ATTRIBUTE.sub(rewritten, raw)


class _Links(HTMLParser):
    """Where the tags stand that may hold links: (offset, name, as written)."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self.tags: list[tuple[int, str, str]] = []
        self._lines = [0, *accumulate(len(line) for line in text.split("\n"))]
        self._lines = [length + number for number, length in enumerate(self._lines)]
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        raw = self.get_starttag_text()
        if tag in LINKS and raw:
            line, column = self.getpos()
            self.tags.append((self._lines[line - 1] + column, tag, raw))


def unpacked(data: bytes, encoding: str) -> bytes | None:
    """A body without its content encoding; None where it has another one than upstream knows, or is broken."""
    try:
        if encoding == "gzip":
            return gzip.decompress(data)
        if encoding == "deflate":
            return zlib.decompress(data, _RAW)
    except (OSError, EOFError, zlib.error):
        return None
    return data if not encoding else None


def packed(data: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.compress(data)
    return zlib.compress(data, wbits=_RAW) if encoding == "deflate" else data
