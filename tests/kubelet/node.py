"""A whole node for tests: API server, containerd, kubelet, each a process of its own, in a temporary directory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from peavine.base.clock import REAL
from peavine.client.rest import Client, wait_ready
from peavine.cmd.images import ensure_builtin_images
from peavine.cmd.kubelet import cgroup_root
from peavine.cmd.pki import ensure_node, ensure_pki
from peavine.kubelet import containerd
from peavine.kubelet.cri.client import CriClient
from peavine.kubelet.images.builtin import EXAMPLE_IMAGE
from peavine.machinery.errors import ApiError

T = TypeVar("T")
Object = dict[str, Any]
NODE = "node-under-test"
IMAGE = EXAMPLE_IMAGE


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class TestNode:
    __test__ = False

    def __init__(self, directory: Path, number: int) -> None:
        self.directory, self.number = directory, number
        self.port, self.kubelet_port = free_port(), free_port()
        self.address = f"10.{number}.0.1"
        self.bridge = f"pvk{number}"
        self.loop = asyncio.new_event_loop()
        # gRPC's channels take the current loop when they are made, outside of any task.
        asyncio.set_event_loop(self.loop)
        self.flags: list[str] = []
        self._api: subprocess.Popen[bytes] | None = None
        self.kubelet: subprocess.Popen[bytes] | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    # ---- life
    def start(self) -> None:
        d = self.directory
        net = d / "cni" / "net.d"
        net.mkdir(parents=True)
        bridge = {
            "type": "bridge",
            "bridge": self.bridge,
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(d / "cni" / "ipam"),
                "ranges": [[{"subnet": f"10.{self.number}.0.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
        (net / "10-test.conflist").write_text(
            json.dumps({"cniVersion": "0.4.0", "name": self.bridge, "plugins": plugins})
        )
        # A second runtime handler: runc under another runtime's name.
        (d / "bin").mkdir()
        (d / "bin" / "crun").symlink_to(shutil.which("runc") or "/usr/sbin/runc")
        os.environ["PATH"] = f"{d}/bin:{os.environ['PATH']}"
        pki = ensure_pki(d)
        self._api = self.spawn("apiserver", f"--data-dir={d}", f"--secure-port={self.port}", "--bind-address=127.0.0.1")
        ensure_node(pki, NODE, [self.address, "127.0.0.1"], f"https://127.0.0.1:{self.port}")
        self.run(containerd.start(d))
        self.cri = CriClient(str(containerd.Layout(d).socket))
        self.run(self._images())
        deadline = time.monotonic() + 20
        while not (d / "admin.kubeconfig").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._api.poll() is not None:
            raise RuntimeError("the API server ended: " + (d / "apiserver.log").read_text()[-3000:])
        self.client = Client.from_kubeconfig(d / "admin.kubeconfig")
        self.run(wait_ready(self.client, 20))
        self.run(self._seed())
        self.start_kubelet()
        nodes = self.client.resource("v1", "nodes")
        self.until(lambda: self.run(nodes.get(NODE)), lambda n: _true(n, "Ready"), "the node is Ready")
        # The controller that takes this taint away does not run here.
        self.run(nodes.patch(NODE, {"spec": {"taints": None}}))

    async def _images(self) -> None:
        await ensure_builtin_images(str(containerd.Layout(self.directory).socket))

    async def _seed(self) -> None:
        """What controllers would make, which do not run here."""
        accounts = self.client.resource("v1", "serviceaccounts")
        await accounts.create({"metadata": {"name": "default", "namespace": "default"}})
        await self.client.resource("v1", "configmaps").create(
            {"metadata": {"name": "kube-root-ca.crt", "namespace": "default"}, "data": {"ca.crt": "the authority"}}
        )

    def spawn(self, *command: str, path: str = "") -> subprocess.Popen[bytes]:
        log = open(self.directory / f"{command[0]}.log", "ab")  # noqa: SIM115
        return subprocess.Popen(
            [sys.executable, "-m", "peavine.cmd.main", *command],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"} if path else None,
        )

    def start_kubelet(self, *flags: str, path: str = "", wait: bool = True) -> None:
        """Start it; with `wait`, return once its server answers."""
        d = self.directory
        self.kubelet = self.spawn(
            "kubelet",
            f"--kubeconfig={d}/kubeconfigs/kubelet-{NODE}.kubeconfig",
            f"--hostname-override={NODE}",
            f"--node-ip={self.address}",
            f"--data-dir={d}",
            f"--port={self.kubelet_port}",
            f"--client-ca-file={d}/pki/ca.crt",
            f"--tls-cert-file={d}/pki/kubelet-{NODE}.crt",
            f"--tls-private-key-file={d}/pki/kubelet-{NODE}.key",
            "--cluster-dns=192.168.0.2",
            f"--pod-manifest-path={d}/manifests",
            "--max-pods=200",
            "--housekeeping-interval=1",
            "--address=0.0.0.0",
            *(flags or self.flags),
            path=path,
        )
        if wait:
            self.until(lambda: self.kubelet_get_or_empty("/healthz"), bool, "the kubelet's server answers")

    def kill_kubelet(self, number: int = signal.SIGKILL) -> None:
        assert self.kubelet is not None
        self.kubelet.send_signal(number)
        self.kubelet.wait(20)
        self.kubelet = None

    def restart_kubelet(self, *flags: str) -> None:
        self.kill_kubelet()
        self.start_kubelet(*flags)

    def stop(self) -> None:
        for process in (self.kubelet, self._api):
            if process is not None:
                process.terminate()
        for process in (self.kubelet, self._api):
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                process.kill()
        if hasattr(self, "client"):
            self.client.close()
        if hasattr(self, "cri"):
            self.run(self.cri.close())
        self.run(containerd.purge(self.directory, cgroup_root=cgroup_root(str(self.directory))))
        subprocess.run(["ip", "link", "del", self.bridge], check=False, capture_output=True)
        self.loop.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    # ---- doing
    def pod(self, name: str, *containers: Object, **spec: Any) -> Object:
        """A pod of this node; containers get the example image and the name `c` unless they say otherwise."""
        meta = spec.pop("metadata", {})
        filled = [{"name": f"c{i}" if i else "c", "image": IMAGE, **c} for i, c in enumerate(containers)]
        inits = [{"name": f"i{i}", "image": IMAGE, **c} for i, c in enumerate(spec.pop("initContainers", []))]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", **meta},
            "spec": {
                "nodeName": NODE,
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": False,
                "containers": filled,
                **({"initContainers": inits} if inits else {}),
                **spec,
            },
        }

    def create(self, obj: Object) -> Object:
        plural = {"Pod": "pods", "ConfigMap": "configmaps", "Secret": "secrets", "Service": "services"}
        plural |= {"PersistentVolume": "persistentvolumes", "PersistentVolumeClaim": "persistentvolumeclaims"}
        obj.setdefault("apiVersion", "v1")
        obj["metadata"].setdefault("namespace", "default")
        if obj["kind"] == "PersistentVolume":
            obj["metadata"].pop("namespace")
        return self.run(self.client.resource(obj["apiVersion"], plural[obj["kind"]]).create(obj))

    def get(self, name: str) -> Object:
        return self.run(self.client.resource("v1", "pods").get(name, "default"))

    def until(self, look: Callable[[], T], wanted: Callable[[T], Any], what: str, seconds: float = 20) -> T:
        deadline = time.monotonic() + seconds
        found: Any = None
        while time.monotonic() < deadline:
            try:
                found = look()
                if wanted(found):
                    return found
            except ApiError as error:
                found = error
            time.sleep(0.05)
        shown = found.get("status", found) if isinstance(found, dict) else found
        raise AssertionError(f"never: {what}; last: {json.dumps(shown, default=str)[:2500]}\n{self.log_tail()}")

    def log_tail(self) -> str:
        return (self.directory / "kubelet.log").read_text()[-2500:]

    def wait(self, name: str, wanted: Callable[[Object], Any], what: str = "", seconds: float = 20) -> Object:
        return self.until(lambda: self.get(name), wanted, what or f"pod {name}", seconds)

    def start_pod(self, pod: Object, seconds: float = 20) -> Object:
        """Create it, and return it once it is ready."""
        self.create(pod)
        return self.wait(pod["metadata"]["name"], lambda p: _true(p, "Ready"), "the pod is Ready", seconds)

    def finish_pod(self, pod: Object, seconds: float = 20) -> Object:
        """Create it, and return it once it has ended."""
        self.create(pod)
        return self.wait(
            pod["metadata"]["name"], lambda p: p["status"].get("phase") in ("Succeeded", "Failed"), "has ended", seconds
        )

    def delete(self, name: str, grace: int | None = None, *, wait: bool = True, seconds: float = 20) -> None:
        pods = self.client.resource("v1", "pods")
        self.run(pods.delete(name, "default", grace_period_seconds=grace))
        if wait:
            self.gone(name, seconds)

    def gone(self, name: str, seconds: float = 20) -> None:
        def missing() -> bool:
            try:
                self.get(name)
            except ApiError as error:
                return error.code == 404
            return False

        self.until(missing, bool, f"pod {name} is gone", seconds)

    def container_id(self, pod: Object, name: str = "c") -> str:
        status = pod["status"]
        every = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
        every += status.get("ephemeralContainerStatuses") or []
        return str(next(s for s in every if s["name"] == name)["containerID"].rpartition("/")[2])

    def exec(self, pod: Object, *command: str, container: str = "c") -> str:
        result = self.run(self.cri.exec_sync(self.container_id(pod, container), command, 10))
        assert result.exit_code == 0, (result.exit_code, result.stdout, result.stderr)
        return result.stdout.decode()

    def raw(self, path: str, **query: Any) -> str:
        async def ask() -> bytes:
            return await (await self.client.raw("GET", path, query=query)).read()

        return self.run(ask()).decode()

    def logs(self, name: str, container: str = "c", **query: Any) -> str:
        return self.raw(f"/api/v1/namespaces/default/pods/{name}/log", container=container, **query)

    def kubelet_get(self, path: str, **query: Any) -> str:
        """Straight from the kubelet, as the API server."""
        return self.run(self._kubelet_get(path, query))

    def kubelet_get_or_empty(self, path: str) -> str:
        try:
            return self.kubelet_get(path)
        except ConnectionError:
            return ""

    def kubelet_post(self, path: str, **query: Any) -> str:
        return self.run(self._kubelet_get(path, query, "POST"))

    async def _kubelet_get(self, path: str, query: dict[str, Any], method: str = "GET") -> str:
        from peavine.client.config import ClientConfig

        pki = self.directory / "pki"
        config = ClientConfig(
            server=f"https://127.0.0.1:{self.kubelet_port}",
            ca=(pki / "ca.crt").read_text(),
            certificate=(pki / "apiserver-kubelet-client.crt").read_text(),
            key=(pki / "apiserver-kubelet-client.key").read_text(),
        )
        client = Client(config, clock=REAL)
        try:
            return (await (await client.raw(method, path, query=query)).read()).decode()
        finally:
            client.close()

    def events(self, name: str) -> list[tuple[str, str]]:
        """(reason, message) of every event about the pod."""
        found = self.run(
            self.client.resource("v1", "events").list("default", field_selector=f"involvedObject.name={name}")
        )
        return [(e["reason"], e["message"]) for e in found["items"]]

    def wait_event(self, name: str, reason: str, text: str = "", seconds: float = 20) -> str:
        found = self.until(
            lambda: [m for r, m in self.events(name) if r == reason and text in m],
            bool,
            f"event {reason} {text!r} of {name} (have {self.events(name)})",
            seconds,
        )
        return found[0]

    @property
    def pods_dir(self) -> Path:
        return self.directory / "kubelet" / "pods"


def _true(obj: Object, type_: str) -> bool:
    return any(c["type"] == type_ and c["status"] == "True" for c in (obj.get("status") or {}).get("conditions") or [])


def usable() -> str:
    """Why no node can be started here; empty if one can."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [tool for tool in ("containerd", "runc", "ctr", "catatonit", "busybox") if not shutil.which(tool)]
    if missing:
        return f"needs {', '.join(missing)}"
    if not Path("/usr/lib/cni/bridge").exists():
        return "needs the CNI plugins (containernetworking-plugins)"
    return ""
