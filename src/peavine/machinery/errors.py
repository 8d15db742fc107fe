"""Errors as the API speaks them: `Status` objects, and the field errors that make an `Invalid` one.

Follows apimachinery's `api/errors` and `util/validation/field`: reasons, codes, causes and the wording of messages
are the wire contract that clients match on.
"""

from __future__ import annotations

import copyreg
import json
from collections.abc import Iterable, Sequence
from typing import Any

# FieldError.type -> (cause reason, words that open the message)
_FIELD_TYPES = {
    "NotFound": ("FieldValueNotFound", "Not found"),
    "Required": ("FieldValueRequired", "Required value"),
    "Duplicate": ("FieldValueDuplicate", "Duplicate value"),
    "Invalid": ("FieldValueInvalid", "Invalid value"),
    "NotSupported": ("FieldValueNotSupported", "Unsupported value"),
    "Forbidden": ("FieldValueForbidden", "Forbidden"),
    "TooLong": ("FieldValueTooLong", "Too long"),
    "TooMany": ("FieldValueTooMany", "Too many"),
    "Internal": ("InternalError", "Internal error"),
    "TypeInvalid": ("FieldValueTypeInvalid", "Invalid value"),
}


def _shown(value: Any) -> str:
    """A value as upstream prints it in a message: strings quoted, the rest as JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (int, float)):
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class FieldError:
    """One thing wrong with one field. `field` is a path such as `spec.containers[0].name`."""

    __slots__ = ("detail", "field", "type", "value")

    def __init__(self, type: str, field: str, value: Any = None, detail: str = "") -> None:
        self.type, self.field, self.value, self.detail = type, field, value, detail

    def body(self) -> str:
        """The message without the path."""
        words = _FIELD_TYPES[self.type][1]
        if self.type not in ("Required", "Forbidden", "TooLong", "Internal"):
            words += ": " + _shown(self.value)
        return f"{words}: {self.detail}" if self.detail else words

    def __str__(self) -> str:
        return f"{self.field}: {self.body()}"

    def __repr__(self) -> str:
        return f"FieldError({self})"

    def cause(self) -> dict[str, str]:
        return {"reason": _FIELD_TYPES[self.type][0], "message": self.body(), "field": self.field}


def required(field: str, detail: str = "") -> FieldError:
    return FieldError("Required", field, "", detail)


def invalid_value(field: str, value: Any, detail: str) -> FieldError:
    return FieldError("Invalid", field, value, detail)


def not_supported(field: str, value: Any, supported: Iterable[str]) -> FieldError:
    listed = ", ".join(json.dumps(s) for s in supported)
    return FieldError("NotSupported", field, value, f"supported values: {listed}" if listed else "")


def duplicate(field: str, value: Any) -> FieldError:
    return FieldError("Duplicate", field, value)


def forbidden_field(field: str, detail: str) -> FieldError:
    return FieldError("Forbidden", field, "", detail)


def field_not_found(field: str, value: Any) -> FieldError:
    return FieldError("NotFound", field, value)


def too_long(field: str, bytes_max: int) -> FieldError:
    return FieldError("TooLong", field, "", f"may not be more than {bytes_max} bytes")


def too_many(field: str, actual: int, items_max: int) -> FieldError:
    return FieldError("TooMany", field, actual, f"must have at most {items_max} items")


class ApiError(Exception):
    """An answer that is a `Status` of kind Failure. Raised by the server, and by the client that received one."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message
        self.details = details or {}
        # Upstream tells "no details" (absent) from "details, all empty" (`{}`): clients see the difference.
        self._shows_details = details is not None
        self.headers = headers or {}

    def __reduce__(self) -> tuple[Any, ...]:
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]

    def status(self) -> dict[str, Any]:
        """The `Status` object of this error (`meta/v1`)."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self._shows_details:
            status["details"] = self.details
        status["code"] = self.code
        return status

    @classmethod
    def from_status(cls, status: dict[str, Any], code: int = 500) -> ApiError:
        return cls(
            int(status.get("code") or code),
            status.get("reason") or "",
            status.get("message") or "",
            details=status.get("details"),
        )


def _details(name: str = "", resource: str = "", group: str = "", **more: Any) -> dict[str, Any]:
    details: dict[str, Any] = {"name": name, "group": group, "kind": resource, **more}
    return {k: v for k, v in details.items() if v}


def _qualified(resource: str, group: str) -> str:
    return f"{resource}.{group}" if group else resource


def not_found(resource: str, name: str, group: str = "") -> ApiError:
    message = f'{_qualified(resource, group)} "{name}" not found'
    return ApiError(404, "NotFound", message, details=_details(name, resource, group))


def already_exists(resource: str, name: str, group: str = "") -> ApiError:
    message = f'{_qualified(resource, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, details=_details(name, resource, group))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(resource: str, name: str, group: str = "", why: str = MODIFIED) -> ApiError:
    message = f'Operation cannot be fulfilled on {_qualified(resource, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, details=_details(name, resource, group))


def forbidden(resource: str, name: str, why: str, group: str = "") -> ApiError:
    if resource:
        shown = f'{_qualified(resource, group)} "{name}"' if name else _qualified(resource, group)
        message = f"{shown} is forbidden: {why}"
    else:
        message = f"forbidden: {why}"
    return ApiError(403, "Forbidden", message, details=_details(name, resource, group))


def aggregate(errors: Sequence[FieldError]) -> str:
    """Several messages as one: distinct ones, in brackets where there is more than one."""
    messages = list(dict.fromkeys(str(e) for e in errors))
    return messages[0] if len(messages) == 1 else "[" + ", ".join(messages) + "]"


def invalid(kind: str, name: str, errors: Sequence[FieldError], group: str = "") -> ApiError:
    """422: the object is well-formed but breaks a rule; one cause a field error. `group` of the kind."""
    qualified = _qualified(kind, group)
    message = f'{qualified} "{name}" is invalid' + (": " + aggregate(errors) if errors else "")
    details = _details(name, kind, group, causes=[e.cause() for e in errors])
    return ApiError(422, "Invalid", message, details=details)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unauthorized(message: str = "Unauthorized") -> ApiError:
    return ApiError(401, "Unauthorized", message)


def method_not_supported(resource: str, verb: str, group: str = "") -> ApiError:
    message = f"{verb} is not supported on resources of kind {json.dumps(_qualified(resource, group))}"
    return ApiError(405, "MethodNotAllowed", message, details=_details("", resource, group))


def not_acceptable(media_types: Iterable[str]) -> ApiError:
    listed = ", ".join(media_types)
    return ApiError(406, "NotAcceptable", f"only the following media types are accepted: {listed}")


def unsupported_media_type(media_types: Iterable[str]) -> ApiError:
    listed = ", ".join(media_types)
    message = f"the body of the request was in an unknown format - accepted media types include: {listed}"
    return ApiError(415, "UnsupportedMediaType", message)


def too_large(message: str) -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", f"Request entity is too large: {message}")


def expired(message: str) -> ApiError:
    """410: a continue token or revision that has been compacted."""
    return ApiError(410, "Expired", message)


def too_many_requests(message: str, retry_after_seconds: int = 1) -> ApiError:
    return ApiError(
        429,
        "TooManyRequests",
        message,
        details={"retryAfterSeconds": retry_after_seconds} if retry_after_seconds else None,
        headers={"Retry-After": str(retry_after_seconds)},
    )


def timeout(message: str) -> ApiError:
    return ApiError(504, "Timeout", f"Timeout: {message}")


def internal(message: str) -> ApiError:
    return ApiError(
        500, "InternalError", f"Internal error occurred: {message}", details={"causes": [{"message": message}]}
    )


def unavailable(message: str) -> ApiError:
    return ApiError(503, "ServiceUnavailable", message)
