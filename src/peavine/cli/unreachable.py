"""What to say when there is no server."""

from __future__ import annotations

from urllib.parse import urlsplit

from peavine.cli.session import Session


def shown_unreachable(session: Session, error: Exception) -> str:
    cause = error.__cause__ or error
    host = urlsplit(session.config.server).netloc
    if isinstance(cause, ConnectionRefusedError) or "refused" in str(error).lower() or "refused" in str(cause).lower():
        return f"The connection to the server {host} was refused - did you specify the right host or port?"
    return f"Unable to connect to the server: {error}"
