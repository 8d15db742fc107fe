"""A gRPC channel whose calls take and give dicts. Over a Unix socket or TCP; one channel a service, kept."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from peavine.kubelet.rpc.codec import Codec, Message
from peavine.kubelet.rpc.errors import RpcError

# Log answers of ExecSync and long image lists go past gRPC's 4 MiB; the same cap as upstream's client.
MESSAGE_BYTES_MAX = 16 << 20
# gRPC's default is to wait up to 2 min between connection attempts: a restarted runtime must be found again at once.
RECONNECT_MILLISECONDS_MAX = 500


# What gRPC understands as a target; anything else is the path of a Unix socket.
SCHEMES = ("unix:", "ipv4:", "ipv6:", "dns:")


class Channel:
    """One connection to a server: a path, or a gRPC target such as `unix:///run/x.sock` or `ipv4:10.0.0.1:80`."""

    def __init__(self, target: str, codec: Codec) -> None:
        import grpc.aio

        self.target = target
        self._codec = codec
        self._channel = grpc.aio.insecure_channel(
            target if target.startswith(SCHEMES) else f"unix://{os.path.abspath(target)}",
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
                ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.min_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", RECONNECT_MILLISECONDS_MAX),
                # A Unix socket has no authority that a server could check.
                ("grpc.default_authority", "localhost"),
            ],
        )
        self._methods: dict[str, Any] = {}

    async def call(
        self,
        path: str,
        request_type: str,
        response_type: str,
        request: Message,
        timeout: float | None = None,
        *,
        metadata: tuple[tuple[str, str], ...] | None = None,
    ) -> Message:
        """One unary call. Raises RpcError."""
        import grpc.aio

        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self._channel.unary_unary(
                path,
                request_serializer=self._codec.encoder(request_type),
                response_deserializer=self._codec.decoder(response_type),
            )
        try:
            return await method(request, timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise RpcError(error.code().name, error.details() or "") from error
        except grpc.aio.UsageError as error:
            raise RpcError("UNAVAILABLE", str(error)) from error

    async def stream(
        self, path: str, request_type: str, response_type: str, request: Message
    ) -> AsyncIterator[Message]:
        """The answers of a server-streaming call. Raises RpcError when the stream breaks."""
        import grpc.aio

        method = self._channel.unary_stream(
            path,
            request_serializer=self._codec.encoder(request_type),
            response_deserializer=self._codec.decoder(response_type),
        )
        call = method(request)
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise RpcError(error.code().name, error.details() or "") from error
        finally:
            call.cancel()

    async def close(self) -> None:
        await self._channel.close()
