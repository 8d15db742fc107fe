"""A gRPC server on a Unix socket whose methods take and give dicts: for registrations, and for the tests' drivers."""

# ruff: noqa: ASYNC240 -- local files: shorter than a thread switch
from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from peavine.kubelet.rpc.codec import Codec, Message

Unary = Callable[[Message], Awaitable[Message]]
Streaming = Callable[[Message], AsyncIterator[Message]]


class Server:
    """`add(...)` methods, then `start(path)`."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._methods: dict[str, Any] = {}
        self._server: Any = None

    def add(
        self, path: str, request_type: str, response_type: str, answer: Unary | Streaming, *, stream: bool = False
    ) -> None:
        """`path` as in `/package.Service/Method`."""
        import grpc

        make = grpc.unary_stream_rpc_method_handler if stream else grpc.unary_unary_rpc_method_handler
        called: Any

        if stream:

            async def called(request: Message, context: Any) -> Any:
                async for message in answer(request):  # type: ignore[union-attr]
                    yield message

        else:

            async def called(request: Message, context: Any) -> Any:
                return await answer(request)  # type: ignore[misc]

        self._methods[path] = make(
            called,
            request_deserializer=self._codec.decoder(request_type),
            response_serializer=self._codec.encoder(response_type),
        )

    async def start(self, path: Path) -> None:
        """Listen on the socket; one that is left over is replaced."""
        import grpc
        import grpc.aio

        methods = self._methods

        class Handler(grpc.GenericRpcHandler):
            def service(self, details: Any) -> Any:
                return methods.get(details.method)

        path.unlink(missing_ok=True)
        self._server = grpc.aio.server(handlers=[Handler()])
        self._server.add_insecure_port(f"unix://{path}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0.5)
