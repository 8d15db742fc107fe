"""A cluster's history: recorded, listed, and served again as it was at any moment of it."""

import asyncio
import gzip
import os
import signal
import subprocess
import sys

import pytest

from peavine.base.lifetimes import scope
from peavine.client import Client
from peavine.cmd import replay
from peavine.machinery.errors import ApiError
from peavine.testing import AsyncCluster
from peavine.testing.recorder import Recorder
from peavine.testing.recording import Change, Writer, read, until
from peavine.testing.replaying import Walk, replayed
from tests.controllers.conftest import eventually

API_ONLY = {"controllers": False, "scheduler": False, "nodes": 0}
DEFINITION = {
    "metadata": {"name": "wells.example.org"},
    "spec": {
        "group": "example.org",
        "scope": "Namespaced",
        "names": {"plural": "wells", "kind": "Well"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


async def history(path) -> None:
    """A map that changes, a secret, a namespace that goes, a custom resource."""
    async with AsyncCluster(**API_ONLY) as cluster, scope() as tasks:
        writer = Writer(path, {"server": cluster.url})
        recorder = Recorder(cluster.client, writer)
        recording = tasks.start(recorder.run(), name="recorder")
        await recorder.started.wait()
        maps = cluster.client.resource("v1", "configmaps")
        await maps.create({"metadata": {"name": "colors"}, "data": {"sky": "blue"}}, "default")
        await maps.patch("colors", {"data": {"sky": "red"}}, "default")
        secret = {"metadata": {"name": "key"}, "stringData": {"password": "open sesame"}}
        await cluster.client.resource("v1", "secrets").create(secret, "default")
        definitions = cluster.client.resource("apiextensions.k8s.io/v1", "customresourcedefinitions")
        await definitions.create(DEFINITION)
        wells = cluster.client.resource("example.org/v1", "wells")

        async def served():
            try:
                return bool(await wells.list("default"))
            except ApiError:
                return False

        await eventually(served, 10)
        await wells.create({"apiVersion": "example.org/v1", "kind": "Well", "metadata": {"name": "deep"}}, "default")
        await maps.delete("colors", "default")

        async def complete():
            writer.flush()
            names = {(c.name, c.type) for c in read(path)[1]}
            return {("default/deep", "ADDED"), ("default/colors", "DELETED")} <= names

        await eventually(complete, 20)
        recording.cancel()
        writer.close()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "history.gz"
    asyncio.run(history(path))
    return path


def revision_of(changes, value):
    return next(c.revision for c in changes if (c.object.get("data") or {}).get("sky") == value)


def test_every_revision_is_kept_and_no_secret(recorded):
    _, changes = read(recorded)
    assert [c.type for c in changes if c.name == "default/colors"] == ["ADDED", "MODIFIED", "DELETED"]
    assert [c.revision for c in changes] == sorted(c.revision for c in changes)
    assert b"open sesame" not in gzip.decompress(recorded.read_bytes())
    assert b"b3BlbiBzZXNhbWU" not in gzip.decompress(recorded.read_bytes())
    assert recorded.stat().st_mode & 0o077 == 0


def test_the_list_says_which_fields_changed(recorded, capsys):
    assert replay.main([str(recorded), "--list", "--only=default/colors"]) == 0
    shown = capsys.readouterr().out
    assert 'data.sky: "blue" -> "red"' in shown and "DELETED" in shown and "wells" not in shown


def test_any_moment_is_served_again_with_its_revisions(recorded):
    about, changes = read(recorded)
    blue, red = revision_of(changes, "blue"), revision_of(changes, "red")

    async def main():
        async with replayed(about, until(changes, revision=red)) as cluster:
            maps = cluster.client.resource("v1", "configmaps")
            now = await maps.get("colors", "default")
            assert (now["data"], int(now["metadata"]["resourceVersion"])) == ({"sky": "red"}, red)
            query = {"resourceVersion": blue, "resourceVersionMatch": "Exact"}
            listed = await cluster.client.json("GET", "/api/v1/namespaces/default/configmaps", query=query)
            before = {m["metadata"]["name"]: m.get("data") for m in listed["items"]}
            assert before["colors"] == {"sky": "blue"}
            with pytest.raises(ApiError, match="recording"):
                await maps.delete("colors", "default")
        async with replayed(about, changes, writable=True) as cluster:
            maps = cluster.client.resource("v1", "configmaps")
            assert "colors" not in {m["metadata"]["name"] for m in (await maps.list("default"))["items"]}
            wells = cluster.client.resource("example.org/v1", "wells")
            assert (await wells.get("deep", "default"))["metadata"]["name"] == "deep"
            await maps.create({"metadata": {"name": "more"}}, "default")

    asyncio.run(main())


def test_a_walk_goes_back_and_forward_at_one_address(recorded):
    about, changes = read(recorded)

    async def main():
        async with Walk(about, changes) as walk:
            url, maps = walk.cluster.url, Client.from_kubeconfig(walk.cluster.kubeconfig).resource("v1", "configmaps")
            await walk.to(revision_of(changes, "red"))
            assert (await maps.get("colors", "default"))["data"] == {"sky": "red"}
            await walk.step(-1)
            assert (await maps.get("colors", "default"))["data"] == {"sky": "blue"}
            await walk.step(-len(changes))
            assert walk.at == 0
            with pytest.raises(ApiError, match="not found"):
                await maps.get("colors", "default")
            await walk.step(len(changes))
            assert walk.at == len(walk.revisions) - 1 and walk.cluster.url == url

    asyncio.run(main())


def test_a_torn_file_is_good_up_to_the_tear(tmp_path):
    path = tmp_path / "torn.gz"
    writer = Writer(path, {})
    for n in range(1, 200):
        obj = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": f"m{n}", "namespace": "x"}}
        writer.write(Change(float(n), "ADDED", "v1/configmaps", n, obj))
        writer.flush()
    writer.close()
    path.write_bytes(path.read_bytes()[:-500])
    _, changes = read(path)
    assert 100 < len(changes) < 199 and changes[0].name == "x/m1"
    assert [c.revision for c in until(changes, moment=3.0)] == [1, 2, 3]
    (tmp_path / "other").write_bytes(gzip.compress(b'{"a": 1}\n'))
    with pytest.raises(ValueError, match="not a recording"):
        read(tmp_path / "other")


@pytest.mark.slow
def test_the_commands_record_and_serve_until_a_signal(tmp_path):
    peavine = [sys.executable, "-m", "peavine.cmd.main"]
    output, kubeconfig = tmp_path / "it.gz", tmp_path / "replay.kubeconfig"

    async def record():
        async with AsyncCluster(**API_ONLY) as cluster:
            command = [*peavine, "record", f"--kubeconfig={cluster.kubeconfig}", f"--output={output}"]
            process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            assert b"recording" in await process.stdout.readline()
            maps = cluster.client.resource("v1", "configmaps")
            await maps.create({"metadata": {"name": "one"}}, "default")

            async def written():
                return any(c.name == "default/one" for c in read(output)[1])

            await eventually(written, 20)
            process.send_signal(signal.SIGINT)
            said = (await process.communicate())[0]
            assert b"revisions in" in said and process.returncode == 0

    asyncio.run(record())
    serving = subprocess.Popen([*peavine, "replay", str(output), f"--kubeconfig={kubeconfig}"], stdout=subprocess.PIPE)
    try:
        assert b"serving revision" in serving.stdout.readline()

        async def look():
            return await Client.from_kubeconfig(kubeconfig).resource("v1", "configmaps").get("one", "default")

        assert asyncio.run(look())["metadata"]["name"] == "one"
        os.kill(serving.pid, signal.SIGTERM)
        assert serving.wait(20) == 0
    finally:
        serving.kill()
        serving.communicate()
    command = [*peavine, "replay", str(output), f"--kubeconfig={kubeconfig}", "--walk"]
    walked = subprocess.run(command, input="p\nnonsense\nn\nq\n", capture_output=True, text=True, timeout=60)
    last, before, wrong, forward, *_ = [line for line in walked.stdout.splitlines() if not line.startswith("  ")]
    assert "serving revision" in last and "is not n, p, q" in wrong, walked
    assert before != forward and forward in last
    assert "ADDED v1/configmaps default/one" in walked.stdout
