"""The error of a gRPC call; apart from the channel, so that naming it does not load gRPC."""

from __future__ import annotations


class RpcError(Exception):
    """A call failed. `code` is the gRPC status name (`NOT_FOUND`, `UNAVAILABLE`, …), `message` its detail."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"rpc error: code = {_camel(code)} desc = {message}")
        self.code, self.message = code, message


def _camel(code: str) -> str:
    return "".join(part.capitalize() for part in code.split("_"))
