"""HTTP/1.1 on httptools: connections, bodies, streams, upgrades, limits, TLS. It knows no API: a handler answers.

What lives here could serve any application; what reads a path or an object belongs in `endpoints`.
"""

from peavine.apiserver.http.messages import Exchange, RawConnection, Response
from peavine.apiserver.http.server import HttpServer, Limits

__all__ = ["Exchange", "HttpServer", "Limits", "RawConnection", "Response"]
