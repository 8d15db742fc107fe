"""A fresh store for each test, of each kind: memory, SQLite in a temporary directory, and a real etcd."""

import asyncio
import itertools
import shutil
import socket
import subprocess
import time

import pytest

from peavine.store import open_store
from peavine.store.check import check


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_etcd(directory, client_port, peer_port):
    client, peer = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
    return subprocess.Popen(
        [
            *("etcd", "--name", "test", "--data-dir", str(directory), "--log-level", "error"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"test={peer}"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"ETCD_UNSUPPORTED_ARCH": "arm64", "PATH": "/usr/bin:/bin"},
    )


@pytest.fixture(scope="session")
def etcd_url(tmp_path_factory):
    if not shutil.which("etcd"):
        pytest.skip("etcd is not installed: the store on etcd is not tested")
    for _ in range(3):  # another process may take a port between the look and the use
        port = free_port()
        process = start_etcd(tmp_path_factory.mktemp("etcd"), port, free_port())
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        if process.poll() is None:
            break
    assert process.poll() is None, "etcd did not start"
    yield f"etcd://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


@pytest.fixture(params=["memory", "sqlite", "etcd"])
def store_url(request, tmp_path):
    if request.param == "memory":
        return "memory://"
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/state.db"
    return request.getfixturevalue("etcd_url")


_numbers = itertools.count(1)


def on_each_store(test, checked=True):
    """A test `async def (store, prefix)`, run against each store, its keys below `prefix`; then the checker runs."""

    async def main(url):
        store = await open_store(url)
        prefix = f"/registry/{next(_numbers)}/"
        try:
            async with asyncio.timeout(60):
                await test(store, prefix)
            if checked:
                assert await check(store, prefix) == []
        finally:
            await store.close()

    def run(store_url):
        asyncio.run(main(store_url))

    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    return run


async def collect(watch, events_wanted):
    """Events of a watch until there are so many; asserts that their revisions rise and the batches' too."""
    events, told = [], 0
    async with asyncio.timeout(20):
        while len(events) < events_wanted:
            batch = await anext(watch)
            assert batch.revision >= told
            assert all(told < e.kv.mod_revision <= batch.revision for e in batch.events)
            told = batch.revision
            events += batch.events
    return events
