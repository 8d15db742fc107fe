"""The kubelet on the simulated runtime: the same workers, no root, no containers."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from peavine.base.lifetimes import scope
from peavine.client.rest import Client, wait_ready
from peavine.cmd.kubelet import run_with, simulated_options
from peavine.cmd.pki import ensure_node, ensure_pki
from peavine.kubelet.cri.runtime import RpcError
from peavine.kubelet.cri.simulated import PREFIX, SimulatedRuntime
from peavine.machinery.errors import ApiError
from tests.kubelet.node import free_port

Object = dict[str, Any]


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory, port = tmp_path_factory.mktemp("api"), free_port()
    with open(directory / "log", "wb") as log:
        command = ["apiserver", f"--data-dir={directory}", f"--secure-port={port}", "--bind-address=127.0.0.1"]
        process = subprocess.Popen(
            [sys.executable, "-m", "peavine.cmd.main", *command, "--store=memory://"], stdout=log, stderr=log
        )
    try:
        path, deadline = directory / "admin.kubeconfig", time.monotonic() + 20
        while not path.exists():
            assert process.poll() is None and time.monotonic() < deadline, (directory / "log").read_text()
            time.sleep(0.02)
        yield path
    finally:
        process.terminate()
        process.wait(10)


@asynccontextmanager
async def cluster(kubeconfig: Path, tmp_path: Path, nodes: int = 1) -> AsyncIterator[Client]:
    client = Client.from_kubeconfig(kubeconfig)
    await wait_ready(client, 20)
    async with scope() as tasks:
        options = simulated_options(str(tmp_path), "sim")
        options.crash_backoff_seconds = 0.2
        pki = kubeconfig.parent / "pki"
        ensure_node(ensure_pki(kubeconfig.parent), "sim", ["127.0.0.1"], "https://127.0.0.1")
        options.tls_cert_file, options.tls_private_key_file = str(pki / "kubelet-sim.crt"), str(pki / "kubelet-sim.key")
        options.client_ca_file = str(pki / "ca.crt")
        tasks.start(run_with(options, Client.from_kubeconfig(kubeconfig), simulated_nodes=nodes))
        yield client
        pods = client.resource("v1", "pods")
        for pod in (await pods.list())["items"]:
            await pods.delete(pod["metadata"]["name"], "default", grace_period_seconds=0)
        found = client.resource("v1", "nodes")
        for node in (await found.list())["items"]:
            await found.delete(node["metadata"]["name"])
        tasks.cancel()
    client.close()


def pod(name: str, *containers: Object, annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    filled = [
        {"name": f"c{i}" if i else "c", "image": "example.com/app:1", **c} for i, c in enumerate(containers or [{}])
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "annotations": {PREFIX + k: v for k, v in (annotations or {}).items()},
        },
        "spec": {"nodeName": "sim", "automountServiceAccountToken": False, "containers": filled, **spec},
    }


async def create(client: Client, obj: Object) -> Object:
    try:
        await client.resource("v1", "serviceaccounts").create({"metadata": {"name": "default", "namespace": "default"}})
    except ApiError as error:
        assert error.code == 409
    return await client.resource("v1", "pods").create(obj)


async def until(client: Client, name: str, wanted: Callable[[Object], Any], seconds: float = 10) -> Object:
    found: Object = {}
    async with asyncio.timeout(seconds):
        try:
            while True:
                found = await client.resource("v1", "pods").get(name, "default")
                if wanted(found):
                    return found
                await asyncio.sleep(0.03)
        except asyncio.CancelledError:
            print(found.get("status"))
            raise


def is_ready(found: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in found["status"].get("conditions") or [])


def test_a_pod_runs_is_logged_executed_in_and_goes(kubeconfig: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(kubeconfig, tmp_path) as client:
            await create(client, pod("one", annotations={"logs": "scripted words", "exec": "you said $CMD"}))
            found = await until(client, "one", is_ready)
            assert found["status"]["phase"] == "Running" and found["status"]["podIP"].startswith("172.7.")
            answer = await client.raw("GET", "/api/v1/namespaces/default/pods/one/log")
            assert await answer.read() == b"scripted words\n"
            await client.resource("v1", "pods").delete("one", "default")
            with pytest.raises(ApiError):
                await until(client, "one", lambda p: False)

    asyncio.run(scenario())
    # Nothing of the pod touches the disk.
    assert not (tmp_path / "kubelet" / "pods").exists()


def test_scripts_say_how_containers_end_and_when_they_are_ready(kubeconfig: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(kubeconfig, tmp_path) as client:
            await create(client, pod("done", annotations={"run-for": "0.1"}, restartPolicy="Never"))
            await create(client, pod("broken", annotations={"run-for": "0", "exit-code": "4"}, restartPolicy="Never"))
            probe = {"readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1}}
            await create(client, pod("slow", probe, annotations={"ready-after": "0.5"}))
            await create(client, pod("crash", annotations={"run-for": "0", "exit-code": "1"}))
            await create(client, pod("missing", {"image": "unpullable.invalid/x:1"}))
            await create(client, pod("with-init", {}, initContainers=[{"name": "i", "image": "x:1"}]))
            await until(client, "done", lambda p: p["status"]["phase"] == "Succeeded")
            broken = await until(client, "broken", lambda p: p["status"]["phase"] == "Failed")
            assert broken["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 4
            await until(client, "slow", is_ready)
            await until(client, "with-init", is_ready)
            await until(
                client,
                "missing",
                lambda p: "ImagePull" in str(p["status"].get("containerStatuses")),
            )
            crash = await until(client, "crash", lambda p: "CrashLoopBackOff" in str(p["status"]))
            assert crash["status"]["containerStatuses"][0]["restartCount"] >= 1

    asyncio.run(scenario())


def test_one_process_carries_many_nodes(kubeconfig: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(kubeconfig, tmp_path, nodes=30) as client:
            nodes = client.resource("v1", "nodes")
            async with asyncio.timeout(15):
                while sum(is_ready(n) for n in (await nodes.list())["items"]) < 30:
                    await asyncio.sleep(0.05)
            for number in range(30):
                await create(client, {**(p := pod(f"p{number}")), "spec": {**p["spec"], "nodeName": f"sim-{number}"}})
            for number in range(30):
                found = await until(client, f"p{number}", is_ready)
                assert found["status"]["hostIP"] == "127.0.0.1"
            gc.collect()

    asyncio.run(scenario())


def test_a_stages_file_scripts_pods_that_say_nothing_themselves() -> None:
    async def scenario() -> None:
        stages = [
            {"match": {"pod": "web-*"}, "script": {"logs": "from the file", "exec-code": 3}},
            {"match": {"labels": {"tier": "db"}}, "script": {"logs": "a database"}},
        ]
        runtime = SimulatedRuntime(stages=stages)
        meta = {"name": "web-1", "namespace": "n", "uid": "u"}
        config = {"metadata": {"name": "c"}, "image": {"image": "x"}}
        sandbox = await runtime.run_sandbox({"metadata": meta, "labels": {"tier": "db"}})
        container = await runtime.create_container(sandbox, config, {})
        await runtime.start_container(container)
        assert runtime.log_text(container) == "a database"
        assert (await runtime.exec_sync(container, ["x"])).exit_code == 3

    asyncio.run(scenario())


def test_a_runtime_that_refuses_to_stop_a_container_does_not_end_the_kubelet(
    kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = iter([RpcError("UNKNOWN", "ttrpc: closed")])
    stop = SimulatedRuntime.stop_container

    async def refuse_once(self: SimulatedRuntime, container_id: str, timeout: int) -> None:
        for refusal in refusals:
            raise refusal
        await stop(self, container_id, timeout)

    monkeypatch.setattr(SimulatedRuntime, "stop_container", refuse_once)

    async def scenario() -> None:
        async with cluster(kubeconfig, tmp_path) as client:
            await create(client, pod("sticky"))
            await until(client, "sticky", is_ready)
            await client.resource("v1", "pods").delete("sticky", "default")
            with pytest.raises(ApiError):
                await until(client, "sticky", lambda p: False)
            await create(client, pod("after"))
            await until(client, "after", is_ready)

    asyncio.run(scenario())


@pytest.mark.slow
def test_exec_attach_and_port_forward_answer_from_the_script(kubeconfig: Path, tmp_path: Path) -> None:
    async def kubectl(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "peavine.cmd.main", "kubectl", f"--kubeconfig={kubeconfig}", *words]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode()

    async def forwarded() -> bytes:
        command = [sys.executable, "-m", "peavine.cmd.main", "kubectl", f"--kubeconfig={kubeconfig}"]
        process = await asyncio.create_subprocess_exec(
            *command, "port-forward", "pod/scripted", ":80", stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            line = (await process.stdout.readline()).decode()
            port = int(line.split(" -> ")[0].rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"echo me")
            answer = await reader.readexactly(7)
            writer.close()
            return answer
        finally:
            process.terminate()
            await process.wait()

    async def scenario() -> None:
        async with cluster(kubeconfig, tmp_path) as client:
            script = {"exec": "ran $CMD", "exec-code": "3", "logs": "what it wrote"}
            await create(client, pod("scripted", annotations=script))
            await until(client, "scripted", is_ready)
            async with asyncio.timeout(60):
                code, text = await kubectl("exec", "scripted", "--", "do", "it")
                assert code == 3 and text.startswith("ran do it\n")
                code, text = await kubectl("attach", "scripted")
                assert code == 0 and "what it wrote" in text
                assert await forwarded() == b"echo me"

    asyncio.run(scenario())


def test_resting_pods_are_packed_and_wake_to_what_they_were(kubeconfig: Path, tmp_path: Path) -> None:
    from peavine.kubelet import kubelet as subject

    kept: list[subject.Kubelet] = []
    made = subject.Kubelet.__init__

    async def scenario() -> None:
        async with cluster(kubeconfig, tmp_path) as client:
            await create(client, pod("sleeper", annotations={"logs": "still known"}))
            found = await until(client, "sleeper", is_ready)
            (worker,) = kept[0].workers.values()
            async with asyncio.timeout(10):
                while not worker.resting:
                    await asyncio.sleep(0.01)
            assert worker.pod["metadata"]["uid"] == found["metadata"]["uid"]
            assert [c.state for c in worker.record.containers] == ["running"]
            answer = await client.raw("GET", "/api/v1/namespaces/default/pods/sleeper/log")
            assert await answer.read() == b"still known\n"
            labels = {"metadata": {"labels": {"now": "labelled"}}}
            await client.resource("v1", "pods").patch("sleeper", labels, "default")
            async with asyncio.timeout(10):
                while not (worker.resting and worker.pod["metadata"].get("labels")):
                    await asyncio.sleep(0.01)
            await client.resource("v1", "pods").delete("sleeper", "default")
            with pytest.raises(ApiError):
                await until(client, "sleeper", lambda p: False)

    def note(self: subject.Kubelet, *args: Any, **more: Any) -> None:
        made(self, *args, **more)
        kept.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject.Kubelet, "__init__", note)
        asyncio.run(scenario())
