"""The connecting subresources: which node, service or pod a request means, and what it is asked."""

from __future__ import annotations

from typing import Any

from peavine.api.kind import Kind, Subresource
from peavine.apiserver.http import Exchange, Response
from peavine.machinery import errors


async def dispatch(
    server: Any, exchange: Exchange, kind: Kind, sub: Subresource, namespace: str, name: str
) -> Response | None:
    raise errors.ApiError(501, "NotImplemented", f"{kind.plural}/{sub.name} is not implemented yet")
