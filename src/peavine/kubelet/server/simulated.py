"""exec, attach and port-forward where there is no container: SPDY answered from the script.

exec prints what the annotation says and ends with its code; attach prints the log; a forwarded port echoes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from peavine.kubelet.server.http import Answer, HttpError, Request
from peavine.wire.spdy import Data, Ping, Spdy, StreamOpened

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet

READ_BYTES = 64 * 1024
PROTOCOLS = ("v4.channel.k8s.io", "portforward.k8s.io")


async def stream(kubelet: Kubelet, request: Request, container_id: str, command: list[str]) -> Answer:
    offered = [p.strip() for p in request.headers.get("x-stream-protocol-version", "").split(",")]
    chosen = next((p for p in PROTOCOLS if p in offered), None)
    if request.headers.get("upgrade", "").upper() != "SPDY/3.1" or chosen is None:
        raise HttpError(400, f"unable to upgrade: simulated containers speak SPDY/3.1 with {' or '.join(PROTOCOLS)}")
    request.writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        + f"X-Stream-Protocol-Version: {chosen}\r\n\r\n".encode()
    )
    if chosen == "portforward.k8s.io":
        await _echo(request)
    else:
        await _execute(kubelet, request, container_id, command)
    return Answer(hijacked=True)


async def _execute(kubelet: Kubelet, request: Request, container_id: str, command: list[str]) -> None:
    wanted = {"error"}
    for stream_type, names in (("stdin", ("input", "stdin")), ("stdout", ("output", "stdout"))):
        if any(request.flag(name) for name in names):
            wanted.add(stream_type)
    if (request.flag("error") or request.flag("stderr")) and not request.flag("tty"):
        wanted.add("stderr")
    spdy = Spdy(client=False)
    streams: dict[str, int] = {}
    while wanted - streams.keys():
        data = await request.reader.read(READ_BYTES)
        if not data:
            return
        for event in spdy.receive(data):
            if isinstance(event, StreamOpened):
                streams[event.headers.get("streamtype", "")] = event.stream
                request.writer.write(spdy.reply(event.stream))
            elif isinstance(event, Ping):
                request.writer.write(spdy.ping(event.id))
    if command:
        result = await kubelet.runtime.exec_sync(container_id, command)
        output, code = result.stdout, result.exit_code
    else:
        output, code = kubelet.runtime.log_text(container_id).encode(), 0  # type: ignore[attr-defined]
    if "stdout" in streams and output:
        request.writer.write(spdy.data(streams["stdout"], output + b"\n"))
    status: dict[str, object] = {"metadata": {}, "status": "Success"}
    if code:
        status = {
            "metadata": {},
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": f"command terminated with non-zero exit code: exit status {code}",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
    request.writer.write(spdy.data(streams["error"], json.dumps(status).encode()))
    for identity in streams.values():
        request.writer.write(spdy.data(identity, b"", fin=True))
    await request.writer.drain()


async def _echo(request: Request) -> None:
    spdy, kinds = Spdy(client=False), {}
    while data := await request.reader.read(READ_BYTES):
        for event in spdy.receive(data):
            if isinstance(event, StreamOpened):
                kinds[event.stream] = event.headers.get("streamtype", "")
                request.writer.write(spdy.reply(event.stream))
            elif isinstance(event, Data) and kinds.get(event.stream) == "data":
                request.writer.write(spdy.data(event.stream, event.data, fin=event.fin))
            elif isinstance(event, Ping):
                request.writer.write(spdy.ping(event.id))
        await request.writer.drain()
