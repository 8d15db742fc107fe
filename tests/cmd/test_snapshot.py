"""A cluster's state goes into one file, and comes back from it elsewhere."""

import asyncio
import io
import tarfile

import pytest

from peavine.client import Client
from peavine.cmd.restore import restore
from peavine.cmd.snapshot import save
from peavine.machinery.errors import ApiError
from peavine.store import check
from peavine.store.backup import copy, revive
from peavine.store.sqlite import SqliteStore
from tests.cmd.test_up import free_port, peavine


def test_a_copy_taken_while_somebody_writes_is_sound_and_goes_on_far_above(tmp_path):
    async def main():
        store = SqliteStore(tmp_path / "state.db")
        for n in range(50):
            await store.put(f"/registry/a/{n % 20}", b"%d" % n)
        await store.delete("/registry/a/3")
        writing = asyncio.gather(*(store.put(f"/registry/b/{n}", b"x") for n in range(100)))
        copied = await asyncio.to_thread(copy, tmp_path / "state.db", tmp_path / "copy.db")
        await writing
        last = await store.revision()
        await store.close()
        assert 19 <= copied.objects <= 119 and copied.revision <= last
        revived = revive(tmp_path / "copy.db", bump=1000)
        assert revived == (copied.revision + 1000, copied.objects)
        store = SqliteStore(tmp_path / "copy.db")
        assert await check.check(store) == []
        assert (await store.get("/registry/a/9"))[0].value == b"49"
        assert (await store.put("/registry/a/3", b"again")).mod_revision == revived.revision + 1
        await store.close()

    asyncio.run(main())


@pytest.mark.slow
def test_a_cluster_comes_back_elsewhere_with_its_objects_and_its_keys(tmp_path):
    first, second, file = tmp_path / "first", tmp_path / "second", tmp_path / "it.tar.gz"

    async def main():
        await asyncio.to_thread(peavine, "up", "--api-only", f"--data-dir={first}", f"--secure-port={free_port()}")
        maps = Client.from_kubeconfig(first / "admin.kubeconfig").resource("v1", "configmaps")
        before = await maps.create({"metadata": {"name": "kept"}, "data": {"a": "1"}}, "default")
        said = await asyncio.to_thread(peavine, "snapshot", f"--data-dir={first}", f"--output={file}")
        assert "objects at revision" in said.stdout and file.stat().st_mode & 0o077 == 0
        late = await maps.create({"metadata": {"name": "late"}}, "default")
        await asyncio.to_thread(peavine, "down", f"--data-dir={first}")

        await asyncio.to_thread(peavine, "restore", str(file), f"--data-dir={second}")
        again = await asyncio.to_thread(peavine, "restore", str(file), f"--data-dir={second}", check=False)
        assert again.returncode == 1 and "there is a cluster" in again.stderr
        await asyncio.to_thread(peavine, "up", f"--data-dir={second}")
        # The kubeconfig of the first is good for the second: the same keys, address and port.
        maps = Client.from_kubeconfig(first / "admin.kubeconfig").resource("v1", "configmaps")
        kept = await maps.get("kept", "default")
        assert kept["metadata"]["uid"] == before["metadata"]["uid"] and kept["data"] == {"a": "1"}
        with pytest.raises(ApiError, match="not found"):
            await maps.get("late", "default")
        with pytest.raises(ApiError) as gone:
            async for _ in maps.watch("default", resource_version=late["metadata"]["resourceVersion"]):
                raise AssertionError("a watch from before the snapshot cannot go on")
        assert gone.value.code == 410
        made = await maps.create({"metadata": {"name": "new"}}, "default")
        assert int(made["metadata"]["resourceVersion"]) > int(late["metadata"]["resourceVersion"])

    try:
        asyncio.run(main())
    finally:
        for directory in (first, second):
            peavine("down", "--purge", f"--data-dir={directory}", check=False)


def test_what_is_no_snapshot_is_refused_and_makes_nothing(tmp_path):
    other = tmp_path / "other.tar.gz"
    with tarfile.open(other, "w:gz") as archive:
        entry = tarfile.TarInfo("../evil")
        entry.size = 2
        archive.addfile(entry, io.BytesIO(b"hi"))
    with pytest.raises(ValueError, match="is not a snapshot"):
        restore(other, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(FileNotFoundError, match="there is no store"):
        save(tmp_path, tmp_path / "file")
    assert not (tmp_path / "file").exists()
