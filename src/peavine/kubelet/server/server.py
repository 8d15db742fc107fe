"""Routes of the kubelet's server, under upstream's paths."""

from __future__ import annotations

import json
import logging
import os
import ssl
from typing import TYPE_CHECKING, Any

from peavine.base.lifetimes import scope
from peavine.kubelet.cri.runtime import RpcError
from peavine.kubelet.server import streaming
from peavine.kubelet.server.access import Access
from peavine.kubelet.server.http import Answer, HttpError, HttpServer, Request
from peavine.kubelet.server.tls import server_context

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet
    from peavine.kubelet.pods.worker import PodWorker

log = logging.getLogger(__name__)
Object = dict[str, Any]
CERTIFICATE_SECONDS = 10.0


class KubeletServer:
    def __init__(self, kubelet: Kubelet) -> None:
        self.kubelet = kubelet
        self._access = Access(kubelet)
        self.port = 0
        self._http: HttpServer | None = None

    async def listen(self) -> int:
        options = self.kubelet.options
        node = next(iter(self.kubelet.nodes.values()))
        self._context = server_context(options, [node.hostname, *node.ips])
        self._loaded_at = self._certificate_time()
        self._http = HttpServer(self.handle, context=self._context)
        self.port = await self._http.listen(options.address, options.port)
        for node in self.kubelet.nodes.values():
            node.port = self.port
        return self.port

    async def run(self) -> None:
        assert self._http is not None
        async with scope() as tasks:
            tasks.start(self._follow_certificate(), name="serving certificate")
            await self._http.run()

    def _certificate_time(self) -> float:
        path = self.kubelet.options.tls_cert_file
        try:
            return os.stat(path).st_mtime if path else 0.0
        except OSError:
            return 0.0

    async def _follow_certificate(self) -> None:
        """A renewed certificate is taken up without a restart."""
        while True:
            await self.kubelet.clock.sleep(CERTIFICATE_SECONDS)
            self.take_certificate()

    def take_certificate(self) -> None:
        """Show the certificate that is in the file now: new connections get it."""
        options, changed = self.kubelet.options, self._certificate_time()
        if changed and changed != self._loaded_at:
            try:
                self._context.load_cert_chain(options.tls_cert_file, options.tls_private_key_file)
                self._loaded_at = changed
            except (OSError, ssl.SSLError) as error:
                log.warning("the renewed certificate is not used yet: %s", error)

    async def handle(self, request: Request) -> Answer:
        if request.path == "/healthz/ping":
            return Answer(body=b"ok")
        await self._access.check(request)
        parts = request.path.strip("/").split("/")
        handler = getattr(self, f"_{parts[0].lower()}", None) if parts[0] in ROUTES else None
        if handler is None:
            raise HttpError(404, "404 page not found")
        if parts[0] in DEBUGGING and not self.kubelet.options.debugging_handlers:
            raise HttpError(405, "Debug endpoints are disabled.")
        try:
            return await handler(request, parts[1:])
        except RpcError as error:
            raise HttpError(404 if error.code == "NOT_FOUND" else 500, str(error)) from error

    # ---- finding
    def _worker(self, namespace: str, name: str, uid: str = "") -> PodWorker:
        """The pod's worker; of several with this name (one being taken down) the newest."""
        known = self.kubelet.pods.get(namespace, name)
        found = self.kubelet.workers.get(known["metadata"]["uid"]) if known is not None else None
        if found is not None and uid in ("", found.uid):
            return found
        found = None
        for worker in self.kubelet.workers.values():
            if worker.resting:
                continue
            meta = worker.pod["metadata"]
            if meta["name"] == name and meta.get("namespace", "default") == namespace and uid in ("", worker.uid):
                found = worker
        if found is None:
            raise HttpError(404, f'pod "{name}" does not exist')
        return found

    def _container(self, worker: PodWorker, name: str) -> Any:
        container = worker.record.latest(name)
        if container is None:
            raise HttpError(404, f'container not found ("{name}")')
        return container

    # ---- plain answers
    async def _healthz(self, request: Request, rest: list[str]) -> Answer:
        if rest and rest[0] == "syncloop" and not self.kubelet.watch.healthy:
            return Answer(500, b"container runtime is down\n")
        return Answer(body=b"ok")

    async def _pods(self, request: Request, rest: list[str]) -> Answer:
        items = [{**w.pod, "status": w.reporter.status or {}} for w in self.kubelet.workers.values()]
        return _json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    _runningpods = _pods

    async def _configz(self, request: Request, rest: list[str]) -> Answer:
        from peavine.kubelet.configuration import describe

        return _json({"kubeletconfig": describe(self.kubelet.options)})

    async def _metrics(self, request: Request, rest: list[str]) -> Answer:
        from peavine.kubelet.server import metrics

        text, content_type = await metrics.render(self.kubelet, rest[0] if rest else "")
        return Answer(body=text, content_type=content_type)

    async def _stats(self, request: Request, rest: list[str]) -> Answer:
        from peavine.kubelet.server import stats

        if rest != ["summary"]:
            raise HttpError(404, "404 page not found")
        return _json(await stats.summary(self.kubelet, only_cpu_memory=request.flag("only_cpu_and_memory")))

    async def _containerlogs(self, request: Request, rest: list[str]) -> Answer:
        from peavine.kubelet.server import logs

        if len(rest) != 3:
            raise HttpError(400, '{"message": "missing pod or container name"}')
        worker = self._worker(rest[0], rest[1])
        return logs.answer(self.kubelet, worker, rest[2], request)

    async def _logs(self, request: Request, rest: list[str]) -> Answer:
        from peavine.kubelet.server import systemlogs

        return await systemlogs.answer(self.kubelet.options, "/".join(rest), request)

    # ---- commands
    async def _run(self, request: Request, rest: list[str]) -> Answer:
        _, container = self._target(rest)
        result = await self.kubelet.runtime.exec_sync(container.id, request.first("cmd").split(" "))
        return Answer(body=result.stdout + result.stderr)

    def _target(self, rest: list[str]) -> tuple[PodWorker, Any]:
        if len(rest) == 3:
            worker = self._worker(rest[0], rest[1])
        elif len(rest) == 4:
            worker = self._worker(rest[0], rest[1], rest[2])
        else:
            raise HttpError(404, "404 page not found")
        return worker, self._container(worker, rest[-1])

    async def _exec(self, request: Request, rest: list[str]) -> Answer:
        _, container = self._target(rest)
        return await streaming.execute(self.kubelet, request, container)

    async def _attach(self, request: Request, rest: list[str]) -> Answer:
        worker, container = self._target(rest)
        return await streaming.attach(self.kubelet, request, worker, container)

    async def _portforward(self, request: Request, rest: list[str]) -> Answer:
        if len(rest) not in (2, 3):
            raise HttpError(404, "404 page not found")
        worker = self._worker(rest[0], rest[1], rest[2] if len(rest) == 3 else "")
        return await streaming.port_forward(self.kubelet, request, worker)

    async def _checkpoint(self, request: Request, rest: list[str]) -> Answer:
        worker, container = self._target(rest)
        directory = self.kubelet.paths.checkpoints
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        import time

        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.kubelet.clock.time()))
        meta = worker.pod["metadata"]
        name = f"checkpoint-{meta['name']}_{meta.get('namespace', 'default')}-{container.name}-{stamp}.tar"
        timeout = int(request.first("timeout", "0") or 0)
        await self.kubelet.runtime.checkpoint(container.id, str(directory / name), timeout)
        return _json({"items": [str(directory / name)]})


ROUTES = frozenset(
    (
        "healthz",
        "pods",
        "runningpods",
        "configz",
        "metrics",
        "stats",
        "containerLogs",
        "logs",
        "run",
        "exec",
        "attach",
        "portForward",
        "checkpoint",
    )
)


DEBUGGING = frozenset(("containerLogs", "logs", "run", "exec", "attach", "portForward"))


def _json(value: Any) -> Answer:
    return Answer(body=json.dumps(value).encode(), content_type="application/json")
