"""What a command says when it fails, and the exit code it says it with."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from peavine.machinery.errors import ApiError


class CliError(Exception):
    """A failure for the user: printed as `error: text`, or as it is when `bare`."""

    def __init__(self, text: str, *, code: int = 1, bare: bool = False) -> None:
        super().__init__(text)
        self.code, self.bare = code, bare

    def shown(self) -> str:
        text = str(self)
        return text if self.bare else f"error: {text}"


class UsageError(CliError):
    """Wrong flags or arguments of a command."""

    def __init__(self, text: str, command: str) -> None:
        super().__init__(f"{text}\nSee 'kubectl {command} -h' for help and examples")


_BY_CODE = {
    403: ("Forbidden", "the server does not allow access to the requested resource"),
    404: ("NotFound", "the server could not find the requested resource"),
    405: ("MethodNotAllowed", "the server does not allow this method on the requested resource"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
}


def shown_api_error(error: ApiError, *, doing: str = "") -> str:
    """An answer of the server as kubectl words it. `doing` is `error when creating "file"`."""
    return printable(_worded(error, doing))


def _worded(error: ApiError, doing: str) -> str:
    details: dict[str, Any] = error.details or {}
    if error.reason == "Invalid" and error.code == 422:
        who = "The request is invalid"
        if details.get("kind") or details.get("name"):
            who = f'The {details.get("kind", "")} "{details.get("name", "")}" is invalid'
        causes = [f"{c.get('field', '')}: {c.get('message', '')}" for c in details.get("causes") or ()]
        causes = list(dict.fromkeys(causes))
        if len(causes) == 1:
            return f"{who}: {causes[0]}"
        if causes:
            return f"{who}: \n" + "\n".join(f"* {cause}" for cause in causes)
        return who if who != "The request is invalid" or not error.message else f"{who}: {error.message}"
    if error.code == 401:
        return "error: You must be logged in to the server (Unauthorized)"
    if not error.reason and error.code in _BY_CODE:  # not a Status: whoever answered does not speak the API
        reason, text = _BY_CODE[error.code]
        return f"Error from server ({reason}): {text}"
    message = f"{doing}: {error.message}" if doing else error.message
    reason = f" ({error.reason})" if error.reason else ""
    return f"Error from server{reason}: {message}"


_CONTROL = {code: "^" + chr((code & 0x1F) + 64) for code in (*range(32), 0x7F, 0x9B) if chr(code) not in "\t\n"}


def printable(text: str) -> str:
    """Text of the cluster made safe for a terminal: control characters, escapes among them, are shown as `^X`."""
    return text if text.isprintable() else text.translate(_CONTROL)
