"""CSI drivers, device plugins and registries: what third parties bring to a node."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kubelet import drivers
from tests.kubelet.node import NODE, TestNode
from tests.kubelet.test_pods_on_containerd import FOREVER, condition, sh

pytestmark = pytest.mark.root


@contextmanager
def driver(node: TestNode, kind: str) -> Iterator[Path]:
    where = node.directory / kind
    where.mkdir(exist_ok=True)
    for left in where.iterdir():
        left.unlink()
    command = [
        sys.executable,
        "-m",
        "tests.kubelet.drivers",
        kind.partition("-")[0],
        str(node.directory / "kubelet"),
        str(where),
    ]
    process = subprocess.Popen(command, cwd=Path(__file__).resolve().parents[2])
    try:
        yield where
    finally:
        process.kill()
        process.wait()
        for socket in ("plugins_registry/test-reg.sock", "plugins_registry/dra-reg.sock", "device-plugins/gadget.sock"):
            (node.directory / "kubelet" / socket).unlink(missing_ok=True)


def calls(where: Path) -> list[tuple[str, dict]]:
    file = where / "calls"
    return [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def test_csi_volumes_are_staged_published_and_taken_back(node: TestNode) -> None:
    with driver(node, "csi") as where:
        node.until(lambda: (where / "registered").exists(), bool, "the driver is registered")
        csinode = node.run(node.client.resource("storage.k8s.io/v1", "csinodes").get(NODE))
        assert csinode["spec"]["drivers"] == [
            {"name": drivers.DRIVER, "nodeID": "the-node", "topologyKeys": ["test.peavine.io/zone"]}
        ]
        described = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSIDriver",
            "metadata": {"name": drivers.DRIVER},
            "spec": {
                "attachRequired": True,
                "podInfoOnMount": True,
                "volumeLifecycleModes": ["Persistent", "Ephemeral"],
            },
        }
        node.run(node.client.resource("storage.k8s.io/v1", "csidrivers").create(described))
        csi = {"driver": drivers.DRIVER, "volumeHandle": "disk-1", "fsType": "ext4"}
        node.create({"kind": "PersistentVolume", "metadata": {"name": "csi1"}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "x", "csi": csi,
            "claimRef": {"namespace": "default", "name": "csi-claim"},
        }})  # fmt: skip
        node.create({"kind": "PersistentVolumeClaim", "metadata": {"name": "csi-claim"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "x", "volumeName": "csi1",
            "resources": {"requests": {"storage": "1Gi"}},
        }})  # fmt: skip
        claims = node.client.resource("v1", "persistentvolumeclaims")
        node.run(claims.patch("csi-claim", {"status": {"phase": "Bound"}}, "default", subresource="status"))
        volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "csi-claim"}}]
        container = {**sh("echo kept > /v/f; sleep 1000"), "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
        node.create(node.pod("stored", container, volumes=volumes))
        node.wait_event("stored", "FailedMount", "attach")
        digest = hashlib.sha256(f"disk-1{drivers.DRIVER}{NODE}".encode()).hexdigest()
        attachments = node.client.resource("storage.k8s.io/v1", "volumeattachments")
        attachment = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "VolumeAttachment",
            "metadata": {"name": f"csi-{digest}"},
            "spec": {"attacher": drivers.DRIVER, "nodeName": NODE, "source": {"persistentVolumeName": "csi1"}},
        }
        node.run(attachments.create(attachment))
        status = {"status": {"attached": True, "attachmentMetadata": {"device": "sdb"}}}
        node.run(attachments.patch(f"csi-{digest}", status, subresource="status"))
        node.wait("stored", lambda p: condition(p, "Ready").get("status") == "True")
        assert [call for call, _ in calls(where)] == ["stage", "publish"]
        published = calls(where)[1][1]
        assert published["publish_context"] == {"device": "sdb"}
        assert published["volume_context"]["csi.storage.k8s.io/pod.name"] == "stored"
        node.until(lambda: (where / "disk-1" / "f").exists(), bool, "the file")
        # The volume grows while the pod runs: the controller has done its part, the node does its own.
        pending = [{"type": "FileSystemResizePending", "status": "True"}]
        shown = {"phase": "Bound", "capacity": {"storage": "1Gi"}, "conditions": pending}
        node.run(claims.patch("csi-claim", {"status": shown}, "default", subresource="status"))
        volumes_api = node.client.resource("v1", "persistentvolumes")
        node.run(volumes_api.patch("csi1", {"spec": {"capacity": {"storage": "2Gi"}}}))
        grown = node.until(
            lambda: node.run(claims.get("csi-claim", "default"))["status"],
            lambda status: status.get("capacity") == {"storage": "2Gi"},
            "the claim shows the new size",
        )
        assert not grown.get("conditions")
        assert [call for call, _ in calls(where)] == ["stage", "publish", "expand"]
        assert calls(where)[2][1]["capacity_range"] == {"required_bytes": 2 << 30}
        node.wait_event("stored", "FileSystemResizeSuccessful")
        node.kill_kubelet()
        node.start_kubelet()
        node.delete("stored")
        assert [call for call, _ in calls(where)][3:] == ["unpublish", "unstage"]
        inline = [{"name": "v", "csi": {"driver": drivers.DRIVER, "volumeAttributes": {"size": "small"}}}]
        node.start_pod(node.pod("inline", {**FOREVER, "volumeMounts": container["volumeMounts"]}, volumes=inline))
        call, request = calls(where)[-1]
        assert call == "publish" and request["volume_context"]["csi.storage.k8s.io/ephemeral"] == "true"
        assert request["volume_context"]["size"] == "small"
        node.delete("inline")
        assert calls(where)[-1][0] == "unpublish"


def pod_resources(node: TestNode) -> dict:
    """What the kubelet's own socket tells agents of the node."""
    from peavine.kubelet.plugins import podresources
    from peavine.kubelet.rpc import Channel, Codec

    async def ask() -> dict:
        channel = Channel(str(node.directory / "kubelet" / "pod-resources" / "kubelet.sock"), Codec(podresources.CODEC))
        try:
            words = ("ListPodResourcesRequest", "ListPodResourcesResponse")
            return await channel.call(podresources.SERVICE + "List", *words, {}, 10)
        finally:
            await channel.close()

    return node.run(ask())


def test_device_plugins_offer_resources_that_containers_get(node: TestNode) -> None:
    kubelet_socket = node.directory / "kubelet" / "device-plugins" / "kubelet.sock"
    node.until(kubelet_socket.exists, bool, "the registration socket")
    with driver(node, "device"):
        nodes = node.client.resource("v1", "nodes")
        found = node.until(
            lambda: node.run(nodes.get(NODE)), lambda n: drivers.RESOURCE in n["status"]["capacity"], "the resource"
        )
        assert found["status"]["capacity"][drivers.RESOURCE] == "3"
        assert found["status"]["allocatable"][drivers.RESOURCE] == "2"
        one = {"limits": {drivers.RESOURCE: "1"}, "requests": {drivers.RESOURCE: "1"}}
        pod = node.start_pod(node.pod("gadgeteer", {**FOREVER, "resources": one}))
        assert node.exec(pod, "sh", "-c", "echo $GADGETS; cat /gadget; ls /dev/gadget").split() == [
            "one",
            "mounted/dev/gadget",
        ]
        (told,) = [p for p in pod_resources(node)["pod_resources"] if p["name"] == "gadgeteer"]
        assert told["containers"] == [
            {"name": "c", "devices": [{"resource_name": drivers.RESOURCE, "device_ids": ["one"]}]}
        ]
        other = node.start_pod(node.pod("gadgeteer2", {**FOREVER, "resources": one}))
        assert node.exec(other, "sh", "-c", "echo $GADGETS").strip() == "two"
        refused = node.finish_pod(node.pod("gadgeteer3", {**FOREVER, "resources": one}))
        assert refused["status"]["reason"] == f"OutOf{drivers.RESOURCE}"
        for name in ("gadgeteer", "gadgeteer2", "gadgeteer3"):
            node.delete(name, 0)


def claim_for(node: TestNode, name: str, pod: dict) -> dict:
    """A ResourceClaim that the scheduler, which does not run here, has allocated and reserved for the pod."""
    claims = node.client.resource("resource.k8s.io/v1", "resourceclaims")
    requests = [{"name": "gpu", "exactly": {"deviceClassName": "gpus"}}]
    body = {"metadata": {"name": name, "namespace": "default"}, "spec": {"devices": {"requests": requests}}}
    node.run(claims.create({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", **body}))
    result = {"request": "gpu", "driver": drivers.DRA_DRIVER, "pool": "pool", "device": "gpu-0"}
    user = {"resource": "pods", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    status = {"allocation": {"devices": {"results": [result]}}, "reservedFor": [user]}
    return node.run(claims.patch(name, {"status": status}, "default", subresource="status"))


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_claimed_devices_are_prepared_injected_and_given_back(node: TestNode, version: str) -> None:
    name = f"gpu-user-{version}"
    pod = node.pod(
        name,
        {**FOREVER, "resources": {"claims": [{"name": "accelerator", "request": "gpu"}]}},
        FOREVER,
        resourceClaims=[{"name": "accelerator", "resourceClaimName": f"claim-{version}"}],
    )
    with driver(node, f"dra-{version}") as where:
        (where / "broken").touch()
        node.until(lambda: (where / "registered").exists(), bool, "the driver is registered")
        made = node.create(pod)
        node.wait_event(name, "FailedPrepareDynamicResources", "failed to fetch ResourceClaim")
        claim = claim_for(node, f"claim-{version}", made)
        node.wait_event(name, "FailedPrepareDynamicResources", "no such device")
        (where / "broken").unlink()
        running = node.wait(name, lambda p: condition(p, "Ready").get("status") == "True", seconds=30)
        script = "echo $GPU; cat /weights; echo; ls /dev/gpu0"
        assert node.exec(running, "sh", "-c", script).split() == [f"claim-{version}", "seventeen", "/dev/gpu0"]
        assert node.exec(running, "sh", "-c", "echo [$GPU]; ls /weights || true", container="c1").startswith("[]")
        (told,) = [p for p in pod_resources(node)["pod_resources"] if p["name"] == name]
        (dynamic,) = told["containers"][0]["dynamic_resources"]
        assert dynamic["claim_name"] == f"claim-{version}" and dynamic["claim_resources"][0]["device_name"] == "gpu-0"
        wanted = {"namespace": "default", "uid": claim["metadata"]["uid"], "name": f"claim-{version}"}
        assert calls(where)[-1] == ("prepare", {"claims": [wanted]})
        prepared = len(calls(where))
        node.restart_kubelet()
        node.until(lambda: len(calls(where)), lambda n: n == prepared, "nothing is prepared twice")
        node.delete(name)
        assert calls(where)[prepared:] == [("unprepare", {"claims": [wanted]})]
        node.run(node.client.resource("resource.k8s.io/v1", "resourceclaims").delete(f"claim-{version}", "default"))


def test_the_scheduler_allocates_what_the_driver_offers_and_the_kubelet_prepares_it(node: TestNode) -> None:
    api = "resource.k8s.io/v1"
    offered = {
        "driver": drivers.DRA_DRIVER,
        "nodeName": NODE,
        "pool": {"name": "scheduled", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "gpu-0"}],
    }
    request = {"name": "gpu", "exactly": {"deviceClassName": "scheduled-gpus"}}
    objects = (
        ("resourceslices", "ResourceSlice", "offer", offered, None),
        ("deviceclasses", "DeviceClass", "scheduled-gpus", {}, None),
        ("resourceclaims", "ResourceClaim", "wanted", {"devices": {"requests": [request]}}, "default"),
    )
    for plural, kind, name, spec, namespace in objects:
        meta = {"name": name, **({"namespace": namespace} if namespace else {})}
        node.run(
            node.client.resource(api, plural).create({"apiVersion": api, "kind": kind, "metadata": meta, "spec": spec})
        )
    container = {**FOREVER, "resources": {"claims": [{"name": "accelerator"}]}}
    pod = node.pod("scheduled", container, resourceClaims=[{"name": "accelerator", "resourceClaimName": "wanted"}])
    del pod["spec"]["nodeName"]
    scheduler = node.spawn("scheduler", f"--kubeconfig={node.directory}/admin.kubeconfig", "--leader-elect=false")
    try:
        with driver(node, "dra-v1") as where:
            node.until(lambda: (where / "registered").exists(), bool, "the driver is registered")
            running = node.start_pod(pod, seconds=60)
            assert running["spec"]["nodeName"] == NODE
            assert node.exec(running, "sh", "-c", "echo $GPU").strip() == "wanted"
            claim = node.run(node.client.resource(api, "resourceclaims").get("wanted", "default"))
            (result,) = claim["status"]["allocation"]["devices"]["results"]
            assert (result["driver"], result["device"]) == (drivers.DRA_DRIVER, "gpu-0")
            node.delete("scheduled")
            assert calls(where)[-1][0] == "unprepare"
    finally:
        scheduler.terminate()
        scheduler.wait(20)
        for plural, _, name, _, namespace in objects:
            node.run(node.client.resource(api, plural).delete(name, namespace))
