"""The real kubectl, where there is one, against the streams and a stand-in for the kubelet."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from peavine.apiserver.http import HttpServer, Response
from peavine.apiserver.streams import Backend, Streams, serve
from peavine.base.lifetimes import scope
from tests.apiserver.streams.test_streams import FAILURE, SUCCESS, Kubelet


def kubectls():
    """Every kubectl on the machine: the one on PATH, and versions kept beside it by a Cloud SDK."""
    found = [shutil.which("kubectl")] if shutil.which("kubectl") else []
    beside = Path(found[0]).resolve().parent if found else None
    for version in ("1.27", "1.33"):
        path = beside / f"kubectl.{version}" if beside else None
        if path is not None and path.exists():
            found.append(str(path))
    return found


pytestmark = pytest.mark.skipif(not kubectls(), reason="needs kubectl")

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "namespace": "default"},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
    "status": {"phase": "Running"},
}
DISCOVERY = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [{"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get"]}],
    },
    "/api/v1/namespaces/default/pods/p": POD,
}


async def kubectl(path, tmp_path, kubelet, *arguments, stdin=b"", until=None):
    """Run kubectl against a server that knows one pod; (exit code, stdout, stderr)."""
    kubelet_server = await asyncio.start_server(kubelet, "127.0.0.1", 0)
    port = kubelet_server.sockets[0].getsockname()[1]

    async def handler(exchange):
        info = exchange.info
        if info.path.endswith(("/exec", "/portforward")):
            asked = {name: info.parameter(name) == "true" for name in ("stdin", "stdout", "stderr", "tty")}
            streams = Streams(**asked) if info.path.endswith("/exec") else None
            return await serve(exchange, Backend("127.0.0.1", port, "/exec/x"), streams)
        found = DISCOVERY.get(info.path)
        return Response(200 if found else 404, json.dumps(found or {"kind": "Status", "code": 404}).encode())

    async with scope() as tasks:
        api = await HttpServer(handler).listen("127.0.0.1", 0, tasks)
        process = await asyncio.create_subprocess_exec(
            path, f"--server=http://127.0.0.1:{api}", f"--cache-dir={tmp_path}", *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={"HOME": str(tmp_path), "KUBECONFIG": "/dev/null"},
        )  # fmt: skip
        try:
            if until is not None:
                return await until(process)
            out, err = await process.communicate(stdin)
            return process.returncode, out, err
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
            kubelet_server.close()


@pytest.mark.parametrize("path", kubectls())
async def test_exec_sends_stdin_and_gets_stdout_stderr_and_success(path, tmp_path):
    kubelet = Kubelet(result=SUCCESS)
    code, out, err = await kubectl(path, tmp_path, kubelet, "exec", "-i", "p", "--", "cat", stdin=b"hello")
    assert (code, out) == (0, b"HELLO"), err
    assert b"warned" in err


@pytest.mark.parametrize("path", kubectls())
async def test_exec_ends_with_the_commands_exit_code(path, tmp_path):
    code, _, err = await kubectl(path, tmp_path, Kubelet(result=FAILURE), "exec", "-i", "p", "--", "cat", stdin=b"x")
    assert code == 7, err


@pytest.mark.parametrize("path", kubectls())
async def test_port_forward_carries_a_connection(path, tmp_path):
    async def until(process):
        line = await process.stdout.readline()
        local = int(line.split(b"127.0.0.1:")[1].split()[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", local)
        writer.write(b"ping")
        answer = await reader.readexactly(4)
        writer.close()
        return answer

    assert await kubectl(path, tmp_path, Kubelet(), "port-forward", "p", ":80", until=until) == b"PING"
