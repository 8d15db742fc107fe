"""CVE-2020-8555: whoever may make storage classes, claims and pods cannot make the control plane call an address."""

import asyncio
import contextlib

from peavine.controllers import CONTROLLERS
from tests.controllers.conftest import cluster, eventually

# What upstream's plugins of that time sent requests to: parameters of classes, and sources of volumes.
CLASSES = {
    "kubernetes.io/glusterfs": lambda address: {"resturl": f"http://{address}/", "restuser": "x", "restuserkey": "y"},
    "kubernetes.io/quobyte": lambda address: {"quobyteAPIServer": f"http://{address}"},
    "kubernetes.io/scaleio": lambda address: {"gateway": f"http://{address}/api", "system": "s"},
    "kubernetes.io/storageos": lambda address: {"adminSecretName": "s", "pool": address},
    "kubernetes.io/rbd": lambda address: {"monitors": address},
    "example.com/webhook": lambda address: {"url": f"http://{address}/"},
}


def sources(address):
    host, _, _ = address.partition(":")
    return {
        "quobyte": {"registry": address, "volume": "v"},
        "rbd": {"monitors": [address], "image": "i"},
        "iscsi": {"targetPortal": address, "iqn": "iqn.2001-04.com.example:storage", "lun": 0},
        "cephfs": {"monitors": [address]},
        "nfs": {"server": host, "path": "/"},
    }


@contextlib.asynccontextmanager
async def trap():
    """(address, who came): a server that nobody has a reason to call."""
    came = []

    async def caught(reader, writer):
        came.append(writer.get_extra_info("peername"))
        writer.close()

    server = await asyncio.start_server(caught, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", came
    server.close()


def test_cve_2020_8555_controllers_call_no_address_that_an_object_names():
    async def main():
        names = [name for name in CONTROLLERS if "volume" in name or "attach" in name or "claim" in name]
        assert len(names) > 4
        async with trap() as (address, came), cluster(*names) as (client, _):
            claims, events = client.resource("v1", "persistentvolumeclaims"), client.resource("v1", "events")
            for n, (provisioner, parameters) in enumerate(CLASSES.items()):
                meta = {"name": f"forged-{n}"}
                class_ = {"metadata": meta, "provisioner": provisioner, "parameters": parameters(address)}
                await client.resource("storage.k8s.io/v1", "storageclasses").create(class_)
                resources = {"requests": {"storage": "1Gi"}}
                spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": meta["name"], "resources": resources}
                await claims.create({"metadata": {**meta, "namespace": "default"}, "spec": spec})
            for name, source in sources(address).items():
                spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], name: source,
                        "persistentVolumeReclaimPolicy": "Delete", "storageClassName": name}  # fmt: skip
                await client.resource("v1", "persistentvolumes").create({"metadata": {"name": name}, "spec": spec})
                resources = {"requests": {"storage": "1Gi"}}
                wanted = {"accessModes": ["ReadWriteOnce"], "storageClassName": name, "resources": resources}
                await claims.create({"metadata": {"name": name, "namespace": "default"}, "spec": wanted})

            async def looked_at():
                """Every forged claim was considered: there is something to be said about it, or it is bound."""
                told = {e["involvedObject"]["name"] for e in (await events.list("default"))["items"]}
                found = (await claims.list("default"))["items"]
                bound = {c["metadata"]["name"] for c in found if (c.get("status") or {}).get("phase") == "Bound"}
                return {c["metadata"]["name"] for c in found} <= told | bound and len(bound) == len(sources(""))

            await eventually(looked_at, 60)
            for name in sources(address):  # and to be deleted again, which plugins did by a call too
                await claims.delete(name, "default")

            async def released():
                found = (await client.resource("v1", "persistentvolumes").list())["items"]
                return all((v.get("status") or {}).get("phase") != "Bound" for v in found)

            await eventually(released, 60)
            assert came == []
            await asyncio.open_connection(*address.split(":"))
            await eventually(lambda: came)  # the trap would have seen it

    asyncio.run(main())
