"""Exec and attach: standard streams over a WebSocket with one channel each (`v5.channel.k8s.io`).

Follows kubernetes/kubernetes' remotecommand protocol: 0 stdin, 1 stdout, 2 stderr, 3 the outcome, 4 terminal sizes,
255 the close of a channel.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import orjson

from peavine.base.lifetimes import scope
from peavine.cli.failures import CliError
from peavine.cli.resources import Target
from peavine.cli.session import Session
from peavine.wire.websocket import Closed, WebSocket

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_POLL_SECONDS = 0.2


class Channels:
    """A WebSocket whose messages begin with a channel's number."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.socket = WebSocket(client=True)
        self.protocol = connection.headers.get("sec-websocket-protocol", "")

    def send(self, channel: int, data: bytes) -> None:
        self.connection.write(self.socket.send(bytes((channel,)) + data))

    def close_channel(self, channel: int) -> None:
        if self.protocol.startswith("v5"):
            self.connection.write(self.socket.send(bytes((255, channel))))

    async def messages(self):  # type: ignore[no-untyped-def]
        """(channel, bytes), until the peer closes."""
        while True:
            data = await self.connection.read()
            for message in self.socket.receive(data or None):
                if isinstance(message, Closed):
                    return
                if message.data:
                    yield message.data[0], message.data[1:]
            output = self.socket.output()
            if output:
                self.connection.write(output)
            if not data:
                return


async def open_channels(session: Session, path: str, query: list[tuple[str, str]]) -> Channels:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Protocol": ", ".join(PROTOCOLS),
    }
    pairs: dict[str, list[str]] = {}
    for name, value in query:
        pairs.setdefault(name, []).append(value)
    connection = await session.client.upgrade("GET", path, query=pairs, headers=headers)
    return Channels(connection)


async def exchange(session: Session, path: str, query: list[tuple[str, str]], *, stdin: bool, tty: bool) -> int:
    """Join this process's streams to the remote ones; the remote exit code. Raises CliError for other outcomes."""
    channels = await open_channels(session, path, query)
    outcome: dict[str, Any] = {}
    out = sys.stdout.buffer
    err = sys.stderr.buffer
    with _raw_terminal(tty and stdin):
        async with scope() as tasks:
            if stdin:
                tasks.start(_pump_stdin(channels), name="stdin")
            if tty and sys.stdout.isatty():
                tasks.start(_pump_sizes(channels), name="sizes")
            async for channel, data in channels.messages():
                if channel == 1:
                    out.write(data)
                    out.flush()
                elif channel == 2:
                    err.write(data)
                    err.flush()
                elif channel == 3 and data:
                    outcome = (
                        orjson.loads(data) if data[:1] == b"{" else {"status": "Failure", "message": data.decode()}
                    )
            channels.connection.close()
            tasks.cancel()
    return _exit_code(outcome)


def _exit_code(outcome: dict[str, Any]) -> int:
    if outcome.get("status", "Success") == "Success":
        return 0
    if outcome.get("reason") == "NonZeroExitCode":
        for cause in (outcome.get("details") or {}).get("causes") or ():
            if cause.get("reason") == "ExitCode":
                return int(cause["message"])
    raise CliError(outcome.get("message", "the stream broke"))


async def _pump_stdin(channels: Channels) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    try:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while data := await reader.read(32768):
            channels.send(0, data)
    except (ValueError, PermissionError):  # a regular file: no pipe to wait on, read it as it is
        while data := sys.stdin.buffer.read(32768):
            channels.send(0, data)
    channels.close_channel(0)


async def _pump_sizes(channels: Channels) -> None:
    changed = asyncio.Event()
    changed.set()
    asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, changed.set)
    while True:
        await changed.wait()
        changed.clear()
        size = os.get_terminal_size(sys.stdout.fileno())
        channels.send(4, orjson.dumps({"Width": size.columns, "Height": size.lines}))


@contextlib.contextmanager
def _raw_terminal(wanted: bool) -> Iterator[None]:
    if not wanted or not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin.fileno())
    try:
        tty.setraw(sys.stdin.fileno())
        yield
    finally:
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)


async def attach_pod(session: Session, target: Target, container: str, *, stdin: bool, tty: bool) -> int:
    query = [("container", container), ("stdout", "true")]
    query += [("stdin", "true")] if stdin else []
    query += [("tty", "true")] if tty else [("stderr", "true")]
    return await exchange(session, target.path + "/attach", query, stdin=stdin, tty=tty)


async def wait_running(session: Session, target: Target, timeout_seconds: float) -> dict[str, Any]:
    """The pod, once it runs or has ended."""
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                pod = await session.get(target.path)
                if (pod.get("status") or {}).get("phase") in ("Running", "Succeeded", "Failed"):
                    return pod
                await session.client.clock.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise CliError("timed out waiting for the condition") from None


async def pod_of(session: Session, flags: Any, argument: str) -> Target:
    """The pod that an argument means: its name, `pod/name`, or the first pod of a workload or service."""
    from peavine.cli.resources import queries

    pods = await session.mapping("pods")
    if "/" not in argument:
        return Target(pods, session.namespace, argument)
    (query,) = await queries(session, [argument])
    if query.mapping.plural == "pods":
        return Target(pods, session.namespace, query.names[0])
    owner = await session.get(query.mapping.gvr.path(session.namespace, query.names[0]))
    spec = owner.get("spec") or {}
    selector = spec.get("selector") or {}
    selector = selector.get("matchLabels", selector) if query.mapping.plural not in ("services",) else selector
    text = ",".join(f"{key}={value}" for key, value in sorted(selector.items()) if isinstance(value, str))
    if not text:
        raise CliError(f"cannot attach to {query.mapping.named}/{query.names[0]}: it selects no pods")
    listed = (await session.get(f"/api/v1/namespaces/{session.namespace}/pods", labelSelector=text)).get("items") or []
    if not listed:
        raise CliError("timed out waiting for the condition")
    listed.sort(key=_rank)
    return Target(pods, session.namespace, listed[0]["metadata"]["name"], listed[0])


def _rank(pod: dict[str, Any]) -> tuple[Any, ...]:
    """Running and ready pods first, then the oldest."""
    status = pod.get("status") or {}
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())
    return (status.get("phase") != "Running", not ready, pod["metadata"].get("creationTimestamp", ""))


def default_container(pod: dict[str, Any], chosen: str, session: Session) -> str:
    """The container that a command means: the named one, the annotated one, else the first, with a word about it."""
    names = [c["name"] for c in pod["spec"].get("containers") or ()]
    if chosen:
        return chosen  # whether there is one, the server says
    annotated = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    if annotated in names:
        return str(annotated)
    if len(names) > 1:
        listed = ", ".join(names)
        session.warn(f'Defaulted container "{names[0]}" out of: {listed}')
    return names[0]
