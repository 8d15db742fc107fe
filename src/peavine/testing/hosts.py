"""A cluster for code that is not async: `with Cluster(...) as cluster:`, in a thread or in a child process.

Both hosts do the same: run an `AsyncCluster` in an event loop of its own, and carry calls to it.
"""

from __future__ import annotations

import asyncio
import operator
import pickle
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any, Protocol, Self

from peavine.testing.cluster import AsyncCluster
from peavine.testing.requests import Request
from peavine.testing.snapshot import Snapshot

LENGTH_BYTES = 8


class Host(Protocol):
    """Where an `AsyncCluster` lives. `start` raises what starting it raised; `call` what the method raised."""

    def start(self) -> None: ...
    def call(self, method: str, *args: Any, **named: Any) -> Any: ...
    def stop(self) -> None: ...


class Cluster:
    """`AsyncCluster`, with the same options and methods, for code that blocks.

    With `process=True` it lives in a child process, which takes 0.8 s to start and no time from the test's own Python;
    a `clock` or a `state` cannot be handed over to it. It ends with its parent, however that ends.
    """

    def __init__(self, *, process: bool = False, **options: Any) -> None:
        self._host: Host = ChildHost(options) if process else ThreadHost(options)
        self.requests = HostedRequests(self._host)

    def __enter__(self) -> Self:
        self._host.start()
        self.kubeconfig: Path = self._host.call("kubeconfig")
        self.url: str = self._host.call("url")
        return self

    def __exit__(self, *error: Any) -> None:
        self._host.stop()

    def snapshot(self) -> Snapshot:
        """The state now, to come back to with `reset`."""
        return self._host.call("snapshot")

    def reset(self, snapshot: Snapshot) -> None:
        """Back to `snapshot`: what was made since is gone, what was changed is as it was."""
        self._host.call("reset", snapshot)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once; see `AsyncCluster.advance`."""
        self._host.call("advance", seconds)

    def drop_watches(self, resource: str = "*") -> int:
        """End the watches of a resource (a shell pattern); see `AsyncCluster.drop_watches`."""
        return self._host.call("drop_watches", resource)

    def lose_node(self, name: str) -> None:
        """Cut a simulated node off; `return_node` ends it."""
        self._host.call("lose_node", name)

    def return_node(self, name: str) -> None:
        """Let a lost node be heard again."""
        self._host.call("return_node", name)

    def get(self, path: str) -> dict[str, Any]:
        """GET a path of the API as the administrator: `cluster.get("/api/v1/namespaces/default/pods")`."""
        return self._host.call("get", path)

    def objects(self, namespace: str) -> list[dict[str, Any]]:
        """Everything in a namespace but Events and Secrets, by kind and name."""
        return self._host.call("objects", namespace)

    def create_namespace(self, name: str) -> None:
        """A namespace, ready for pods: it has its default ServiceAccount where that controller runs."""
        self._host.call("create_namespace", name)

    def delete_namespace(self, name: str) -> None:
        """Begin to delete a namespace; returns before it is gone."""
        self._host.call("delete_namespace", name)


class HostedRequests:
    """The `Requests` of a cluster that lives elsewhere."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @property
    def seen(self) -> list[Request]:
        """Everything since `forget`, oldest first."""
        return self._host.call("requests.seen")

    def fail(self, *, times: int | None = None, code: int = 500, reason: str = "InternalError", **where: str) -> None:
        """Answer matching requests with an error, `times` times (for ever unless named)."""
        self._host.call("requests.fail", times=times, code=code, reason=reason, **where)

    def delay(self, seconds: float, *, times: int | None = None, **where: str) -> None:
        """Hold matching requests for `seconds` of the cluster's clock."""
        self._host.call("requests.delay", seconds, times=times, **where)

    def heal(self) -> None:
        """Forget all faults."""
        self._host.call("requests.heal")

    def forget(self) -> None:
        """Start counting anew."""
        self._host.call("requests.forget")

    def count(self, **where: str) -> int:
        """How many matching requests were seen."""
        return self._host.call("requests.count", **where)

    def writes(self, **where: str) -> list[Request]:
        """The matching requests that write."""
        return self._host.call("requests.writes", **where)


class ThreadHost:
    """In a thread of this process."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._running: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, AsyncCluster]] = Future()
        self._thread = threading.Thread(target=self._run, name="peavine cluster", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._loop, self._stop, self._cluster = self._running.result()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            if self._running.done():
                raise
            self._running.set_exception(error)

    async def _main(self) -> None:
        async with AsyncCluster(**self._options) as cluster:
            stop = asyncio.Event()
            self._running.set_result((asyncio.get_running_loop(), stop, cluster))
            await stop.wait()

    def call(self, method: str, *args: Any, **named: Any) -> Any:
        """The attribute of the cluster at the path `method`; called with the arguments, and awaited, if it can be."""
        return asyncio.run_coroutine_threadsafe(self._call(method, args, named), self._loop).result()

    async def _call(self, method: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        found = operator.attrgetter(method)(self._cluster)
        if callable(found):
            found = found(*args, **named)
        return await found if asyncio.iscoroutine(found) else found

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


class ChildHost:
    """In a child process, which reads calls from its standard input and writes what became of them."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._turn = threading.Lock()

    def start(self) -> None:
        command = [sys.executable, "-m", "peavine.testing.hosts"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            self._ask(self._options)
        except BaseException:
            self.stop()
            raise

    def call(self, method: str, *args: Any, **named: Any) -> Any:
        return self._ask((method, args, named))

    def _ask(self, question: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._turn:
            _write(self._process.stdin, question)
            answer = _read(self._process.stdout)
        if answer is None:
            raise RuntimeError(f"the cluster's process ended with exit code {self._process.wait()}")
        result, error = answer
        if error is not None:
            raise error
        return result

    def stop(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()  # at the end of its input it stops
        self._process.wait()
        self._process.stdout.close()


def _write(file: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message)
    file.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)
    file.flush()


def _read(file: IO[bytes]) -> Any:
    """The next message; None at the end."""
    length = file.read(LENGTH_BYTES)
    return pickle.loads(file.read(int.from_bytes(length, "big"))) if length else None


def _serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """The child's side: the first message is the cluster's options, each other one is a call."""
    host: ThreadHost | None = None
    while (question := _read(questions)) is not None:
        result, error = None, None
        try:
            if host is None:
                starting = ThreadHost(question)
                starting.start()
                host = starting
            else:
                method, args, named = question
                result = host.call(method, *args, **named)
        except Exception as raised:
            error = raised
        _write(answers, (result, error))
    if host is not None:
        host.stop()


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
