"""Upgraded connections through the API server: exec, attach, port-forward, and raw pass-through for proxies.

SPDY passes through as bytes. A WebSocket of kubectl's own (v5 exec, tunnelled port-forward) ends here and goes on as
SPDY, so a kubelet need not know it. What decides where a request goes belongs in `proxying`.
"""

from peavine.apiserver.streams.backend import Backend
from peavine.apiserver.streams.passthrough import pass_through
from peavine.apiserver.streams.serve import Streams, serve

__all__ = ["Backend", "Streams", "pass_through", "serve"]
