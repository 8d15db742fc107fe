"""The protobuf form of objects."""

from __future__ import annotations

from typing import Any

from peavine.machinery.errors import ApiError
from peavine.machinery.schema import Schema


class ProtobufError(ValueError):
    """The bytes are no protobuf object of a known kind."""


def encode(obj: Any, schema: Schema) -> bytes:
    raise ApiError(406, "NotAcceptable", "protobuf is not served yet")


def decode(data: bytes, schema: Schema) -> Any:
    raise ProtobufError("protobuf is not read yet")
