"""A whole cluster inside the process: API server, and as many of the other components as a test wants.

    async with AsyncCluster(nodes=2) as cluster:
        await cluster.client.resource("v1", "nodes").list()

It runs in the caller's event loop; `Cluster` (hosts.py) is the same for code that is not async. State is in memory and
in one temporary directory; both are gone afterwards. No root, no containers: pods run on simulated nodes.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from peavine.apiserver.config import Config
from peavine.apiserver.server import ApiServer
from peavine.base.clock import Clock, SimulatedClock
from peavine.base.lifetimes import Scope, scope
from peavine.client import Client
from peavine.client.transport import awaiting
from peavine.controllers import CONTROLLERS
from peavine.store import Store
from peavine.testing.clock import SkippingClock, clock_of_loop, settle
from peavine.testing.pki import NODES_USER, copy_pki, kubeconfigs
from peavine.testing.requests import WRITES, Request, Requests
from peavine.testing.snapshot import Snapshot
from peavine.testing.stages import Scenario, load_scenario

ADDRESS = "127.0.0.1"
DEFAULT_VERSION = "1.37"


class AsyncCluster:
    """`async with AsyncCluster(...) as cluster:` in the running loop.

    `controllers`: True for all that are on by default, or the names of some. `scheduler` and `nodes` add the scheduler
    and simulated nodes. `client` is an administrator; `kubeconfig` a file for any other client. `kubernetes_version`
    ("1.25" to "1.37") chooses whose groups and fields are served, and `feature_gates` ({"EnvFiles": False}) switches
    some of them. `state` is a store to serve, a new one else.
    `stages`: what pods do on simulated nodes, as a scenario file or a list of scripts (see `stages.py`). Time passes by
    itself, and `advance` skips it; with a `SimulatedClock` it stands still otherwise.
    """

    def __init__(
        self,
        *,
        controllers: bool | Iterable[str] = True,
        scheduler: bool = True,
        nodes: int = 1,
        clock: Clock | None = None,
        kubernetes_version: str = DEFAULT_VERSION,
        feature_gates: dict[str, bool] | None = None,
        state: Store | None = None,
        stages: str | Path | Iterable[dict[str, Any]] = (),
        controller_options: dict[str, Any] | None = None,
        **config: Any,
    ) -> None:
        if controllers is True:
            self._controllers = list(CONTROLLERS)
        else:
            self._controllers = list(controllers or ())
        self._scheduler, self._nodes = scheduler, nodes
        surface = {"kubernetes_version": kubernetes_version, "feature_gates": feature_gates or {}}
        self._given_clock, self._config = clock, {**surface, **config}
        self._controller_options, self._state = controller_options or {}, state
        of_file = isinstance(stages, (str, Path))
        self._scenario = load_scenario(stages) if of_file else Scenario(list(stages), [])  # type: ignore[arg-type]
        self._stack = contextlib.AsyncExitStack()
        self._lost: set[str] = set()

    async def __aenter__(self) -> Self:
        self._clock = self._given_clock or clock_of_loop()
        self.directory = Path(tempfile.mkdtemp(prefix="peavine-test-"))
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        try:
            tasks = await self._stack.enter_async_context(scope())
            await self._start_server(tasks)
            await self._start_components(tasks)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.aclose()

    async def _start_server(self, tasks: Scope) -> None:
        pki = copy_pki(self.directory, ADDRESS, self._clock)
        config = Config(
            bind_address=ADDRESS,
            advertise_address=ADDRESS,
            tls_cert_file=str(pki.cert("apiserver")),
            tls_private_key_file=str(pki.key("apiserver")),
            client_ca_file=str(pki.cert("ca")),
            requestheader_client_ca_file=str(pki.cert("front-proxy-ca")),
            requestheader_allowed_names=("front-proxy-client",),
            proxy_client_cert_file=str(pki.cert("front-proxy-client")),
            proxy_client_key_file=str(pki.key("front-proxy-client")),
            kubelet_client_certificate=str(pki.cert("apiserver-kubelet-client")),
            kubelet_client_key=str(pki.key("apiserver-kubelet-client")),
            kubelet_certificate_authority=str(pki.cert("ca")),
            service_account_signing_key_file=str(pki.service_account_key),
            service_account_key_files=(str(pki.service_account_public_key),),
            # The names of simulated nodes cannot be looked up.
            **{"secure_port": 0, "kubelet_preferred_address_types": ("InternalIP",), **self._config},
        )
        self.server = ApiServer(config, self._clock)
        self._stack.push_async_callback(self.server.stop)
        await self.server.start(tasks, self._state)
        self.requests = Requests(self._clock)
        self.requests.cut_off = self._cut_off
        self.server.filters.handler = self.requests.around(self.server.filters.handler)
        self.url = f"https://{ADDRESS}:{self.server.port}"
        self.pki = pki
        self.kubeconfig = kubeconfigs(pki, self.url)["admin"]
        self.client = Client.from_kubeconfig(self.kubeconfig, user_agent="peavine-testing")
        self._stack.callback(self.client.close)

    async def create_namespace(self, name: str) -> None:
        """A namespace, ready for pods: it has its default ServiceAccount where that controller runs."""
        meta = {"name": name}
        await self.client.resource("v1", "namespaces").create(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}
        )
        if "serviceaccount-controller" in self._controllers:
            await self._default_account(name)

    async def _default_account(self, namespace: str) -> None:
        accounts = self.client.resource("v1", "serviceaccounts")
        listed = await accounts.list(namespace)
        if any(a["metadata"]["name"] == "default" for a in listed["items"]):
            return
        version = listed["metadata"]["resourceVersion"]
        async for type_, account in accounts.watch(namespace, resource_version=version):
            if type_ == "ADDED" and account["metadata"]["name"] == "default":
                return

    async def delete_namespace(self, name: str) -> None:
        """Begin to delete a namespace; returns before it is gone."""
        await self.client.resource("v1", "namespaces").delete(name)

    async def get(self, path: str) -> dict[str, Any]:
        """GET a path of the API as the administrator: `get("/api/v1/namespaces/default/pods")`."""
        answer: dict[str, Any] = await self.client.json("GET", path)
        return answer

    async def objects(self, namespace: str) -> list[dict[str, Any]]:
        """Everything in a namespace but Events and Secrets, of every kind that is served, by kind and name."""
        found = [
            obj
            for (group, plural), cached in self.server.cache.resources.items()
            if cached.namespaced and plural not in ("events", "secrets")
            for obj in self.server.lister.list(group, plural, namespace)
        ]
        return sorted(found, key=lambda obj: (obj["kind"], obj["metadata"]["name"]))

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once: what falls due on the way happens, in order, and is done when this returns.

        "Done" covers what runs in this event loop; give programs in other threads and processes their own time. All
        other timers of this loop pass too. Years are too much: certificates end.
        """
        if isinstance(self._clock, (SimulatedClock, SkippingClock)):
            await self._clock.advance(seconds, self._settle)
        else:
            raise TypeError(f"a {type(self._clock).__name__} cannot be advanced")

    async def _settle(self) -> None:
        # Neither in the server's hands nor on the way to it: a heartbeat must not be overtaken by the time it tells.
        requests = self.requests
        await settle(lambda: requests.busy > 0 or awaiting() > requests.delayed, lambda: requests.handled)

    def lose_node(self, name: str) -> None:
        """Cut a simulated node off: its heartbeats, and what becomes of its pods, no longer arrive."""
        self._lost.add(name)

    def return_node(self, name: str) -> None:
        """Let a lost node be heard again."""
        self._lost.discard(name)

    async def drop_watches(self, resource: str = "*") -> int:
        """End the watches of a resource (a shell pattern), as a server does that stops; clients should come again.

        Returns how many there were. To make their next ones fail too: `requests.fail(verb="watch", code=410,
        reason="Expired", times=1)`.
        """
        dropped = 0
        for (_, plural), cached in self.server.cache.resources.items():
            if fnmatch.fnmatchcase(plural, resource):
                for watcher in cached.watchers.every():
                    watcher.sink.end("dropped by a test")
                    dropped += 1
        return dropped

    def _cut_off(self, request: Request) -> bool:
        if not self._lost or request.user != NODES_USER or request.verb not in WRITES:
            return False
        if request.resource in ("nodes", "leases"):
            # What is created has no name in its path; nodes register at their start, before any is lost.
            return request.name in self._lost or request.verb == "create"
        pod = (
            self.server.lister.get("", "pods", request.namespace, request.name) if request.resource == "pods" else None
        )
        return pod is not None and pod["spec"].get("nodeName") in self._lost

    async def snapshot(self) -> Snapshot:
        """The state now, to come back to with `reset`."""
        return await Snapshot.take(self.server.store)

    async def reset(self, snapshot: Snapshot) -> None:
        """Back to `snapshot`: what was made since is gone, what was changed is as it was."""
        await snapshot.restore(self.server.store)

    async def _start_components(self, tasks: Scope) -> None:
        if self._controllers:
            from peavine.cmd.controller_manager import run_controllers

            client = Client.from_kubeconfig(self.pki.kubeconfig("controller-manager"), user_agent="controller-manager")
            options = {
                "root_ca": self.pki.ca_pem(),
                "service_account_private_key_file": str(self.pki.service_account_key),
                "cluster_cidr": "172.7.0.0/16",
                "node_cidr_mask_size": 24,
                **self._controller_options,
            }
            tasks.start(run_controllers(client, self._controllers, options, clock=self._clock), name="controllers")
        if self._scheduler:
            from peavine.scheduler.scheduler import run_scheduler

            client = Client.from_kubeconfig(self.pki.kubeconfig("scheduler"), user_agent="scheduler")
            tasks.start(run_scheduler(client, clock=self._clock), name="scheduler")
        if self._nodes:
            client = Client.from_kubeconfig(self.pki.kubeconfig("nodes"), user_agent="kubelet")
            tasks.start(self._simulate_nodes(client), name="nodes")

    async def _simulate_nodes(self, client: Client) -> None:
        if self._scenario.stages:
            from peavine.testing.kwok import Kwok

            return await Kwok(client, self._scenario.stages, self._nodes, clock=self._clock).run()
        from peavine.cmd.kubelet import run_with, simulated_options
        from peavine.cmd.pki import ensure_node

        flags = simulated_options(str(self.directory), "node")
        ensure_node(self.pki, "node", [ADDRESS], self.url)
        flags.tls_cert_file = str(self.pki.cert("kubelet-node"))
        flags.tls_private_key_file = str(self.pki.key("kubelet-node"))
        flags.client_ca_file = str(self.pki.cert("ca"))
        if self._scenario.scripts:
            scripts = self.directory / "stages.json"
            scripts.write_text(json.dumps(self._scenario.scripts))
            flags.simulated_stages = str(scripts)
        await run_with(flags, client, simulated_nodes=self._nodes, clock=self._clock)
