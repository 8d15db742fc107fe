"""One cluster, one dashboard and one browser for all tests of a module: in a loop of their own, in a thread.

Simulated nodes run the pods; `metrics.k8s.io` tells set figures. Each test opens a session of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from peavine.base.lifetimes import scope
from peavine.client import Client, ClientConfig, load_kubeconfig
from peavine.cmd.kubelet import run_with, simulated_options
from peavine.cmd.pki import ensure_node
from peavine.testing import AsyncCluster
from tests.dashboard.browser import Page, browser
from tests.dashboard.metrics import serve_metrics, use
from tests.dashboard.serving import serving

TOKENS = 'admin-token,admin,u1,"system:masters"\nviewer-token,viewer,u2,"dev"\n'
ROWS = "[...document.querySelectorAll('.rows tbody a')].map(a => a.textContent)"
BUTTONS = "[...document.querySelectorAll('main .actions button')].map(b => b.textContent)"
NAMESPACE = "shop"
RBAC = "rbac.authorization.k8s.io"

Object = dict[str, Any]


def pod_template(name: str, image: str = "web:1") -> Object:
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 60}
    ports = [{"name": "http", "containerPort": 8080}]
    containers = [
        {"name": name, "image": image, "ports": ports, "readinessProbe": probe},
        {"name": "beside", "image": "beside:1"},
    ]
    return {"metadata": {"labels": {"app": name}}, "spec": {"containers": containers}}


def workload(kind: str, name: str, image: str = "web:1", **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": pod_template(name, image), **spec},
    }


def thing(api_version: str, kind: str, name: str, namespace: str = NAMESPACE, **content: Any) -> Object:
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, **content}


class Stage:
    """`stage.play(story)` runs a coroutine function (it is given the stage) where cluster and browser live."""

    def __init__(self) -> None:
        self.cluster: AsyncCluster
        self.page: Page
        self.address = ""
        self.read_only_address = ""
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event
        self._ready: threading.Event = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="dashboard stage")

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def play(self, story: Callable[[Stage], Coroutine[Any, Any, None]], seconds: float = 120.0) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(seconds):
                await story(self)

        asyncio.run_coroutine_threadsafe(bounded(), self._loop).result()

    async def _run(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        directory = Path(tempfile.mkdtemp(prefix="pvd-"))
        try:
            (directory / "tokens.csv").write_text(TOKENS)
            tokens = str(directory / "tokens.csv")
            async with (
                AsyncCluster(nodes=0, token_auth_file=tokens) as self.cluster,
                simulated(self.cluster, directory),
            ):
                await furnish(self.cluster)
                given = load_kubeconfig(self.cluster.kubeconfig)
                where = ClientConfig(given.server, given.ca)
                async with serving(where) as served, serving(where, read_only=True) as careful, browser() as self.page:
                    self.address, self.read_only_address = served.base, careful.base
                    self._ready.set()
                    await self._over.wait()
        except BaseException as error:
            self._failure = error
            self._ready.set()
            if not isinstance(error, Exception):
                raise
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    # What stories do
    async def create(self, plural: str, obj: Object) -> Object:
        return await self.cluster.client.resource(obj["apiVersion"], plural).create(obj)

    async def crowd(self, count: int) -> None:
        """Pods p-0000 and so on in a namespace of their own, that no scheduler takes."""
        await self.cluster.create_namespace("crowd")
        pods = self.cluster.client.resource("v1", "pods")
        gate = asyncio.Semaphore(32)
        spec = {"schedulerName": "nobody", "containers": [{"name": "c", "image": "i"}]}

        async def create(number: int) -> None:
            async with gate:
                await pods.create(thing("v1", "Pod", f"p-{number:04}", "crowd", spec=spec))

        await asyncio.gather(*(create(number) for number in range(count)))

    async def get(self, api_version: str, plural: str, name: str) -> Object:
        return await self.cluster.client.resource(api_version, plural).get(name, NAMESPACE)

    async def log_in(self, token: str = "admin-token", *, address: str = "", language: str = "en") -> Page:
        """A fresh session, in the page that is open."""
        await self.open_login(address, language)
        await self.page.fill("input[name=token]", token)
        await self.page.click("button.primary")
        await self.page.until("document.querySelector('.overview')")
        return self.page

    async def open_login(self, address: str = "", language: str = "en") -> Page:
        page = self.page
        await page.send("Network.clearBrowserCookies")
        await page.open(address or self.address)
        await page.evaluate(f"localStorage.clear(); localStorage.setItem('language', '{language}')")
        await page.open((address or self.address) + "/?fresh#/overview")
        await page.until("document.querySelector('.login')")
        page.problems.clear()
        page.requests.clear()
        page.refused.clear()
        return page

    async def go(self, place: str) -> None:
        await self.page.evaluate(f"location.hash = '#/{place}'")

    async def see(self, words: str, within: str = "main", seconds: float = 60.0) -> None:
        """Until the page shows these words."""
        await self.page.until(f"document.querySelector({within!r}).innerText.includes({words!r})", seconds)


@contextlib.asynccontextmanager
async def simulated(cluster: AsyncCluster, directory: Path) -> AsyncIterator[None]:
    """Two nodes whose kubelet answers the API server, for logs, and lets what ended begin again at once."""
    options = simulated_options(str(directory), "node")
    ensure_node(cluster.pki, "node", ["127.0.0.1"], cluster.url)
    options.tls_cert_file = str(cluster.pki.cert("kubelet-node"))
    options.tls_private_key_file = str(cluster.pki.key("kubelet-node"))
    options.client_ca_file = str(cluster.pki.cert("ca"))
    options.crash_backoff_seconds, options.crash_backoff_seconds_max = 0.2, 0.5
    client = Client.from_kubeconfig(cluster.pki.kubeconfig("nodes"), user_agent="kubelet")
    async with scope() as tasks:
        tasks.start(run_with(options, client, simulated_nodes=2))
        yield
        tasks.cancel()


async def furnish(cluster: AsyncCluster) -> None:
    """A small shop: two tiers, a database, an agent on each node, a job in the night, and who may do what."""
    client = cluster.client
    await cluster.create_namespace(NAMESPACE)

    async def create(plural: str, obj: Object) -> None:
        await client.resource(obj["apiVersion"], plural).create(obj)

    await create("deployments", workload("Deployment", "web", replicas=2))
    await create("deployments", workload("Deployment", "api", replicas=1))
    await create("statefulsets", workload("StatefulSet", "db", replicas=1, serviceName="db"))
    await create("daemonsets", workload("DaemonSet", "agent"))
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    await create("services", thing("v1", "Service", "front", spec={"selector": {"app": "web"}, "ports": ports}))
    backend = {"service": {"name": "front", "port": {"number": 80}}}
    await create("ingresses", thing("networking.k8s.io/v1", "Ingress", "door", spec={"defaultBackend": backend}))
    allowed = {
        "podSelector": {"matchLabels": {"app": "db"}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "api"}}}], "ports": [{"port": 5432}]}],
    }
    await create("networkpolicies", thing("networking.k8s.io/v1", "NetworkPolicy", "only-api", spec=allowed))
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    nightly = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    await create("cronjobs", thing("batch/v1", "CronJob", "nightly", spec=nightly))
    role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"}
    subject = {"apiGroup": RBAC, "kind": "User", "name": "viewer"}
    await create(
        "clusterrolebindings",
        thing(f"{RBAC}/v1", "ClusterRoleBinding", "viewers", "", roleRef=role, subjects=[subject]),
    )
    await serve_metrics(client)
    for node in (await client.resource("v1", "nodes").list())["items"]:
        await use(client, "nodes", node["metadata"]["name"], cpu="750m", memory="900Mi")
