"""kr8s, lightkube and kopf, unmodified, do their main work against the server."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.apiserver.serving import ServerProcess

pytestmark = pytest.mark.slow

WIDGETS: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.clients.example.com"},
    "spec": {
        "group": "clients.example.com",
        "names": {"plural": "widgets", "kind": "Widget", "singular": "widget", "shortNames": ["wd"]},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                "subresources": {"status": {}},
            }
        ],
    },
}
POD = {"containers": [{"name": "c", "image": "i"}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server"), ["--disable-admission-plugins", "ServiceAccount"]) as server:
        yield server


def deployment(name: str, **labels: str) -> dict[str, Any]:
    own = {"app": name, **labels}
    spec = {"replicas": 1, "selector": {"matchLabels": own}, "template": {"metadata": {"labels": own}, "spec": POD}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": own}, "spec": spec}


def test_kr8s_makes_reads_changes_watches_and_deletes(server):
    kr8s = pytest.importorskip("kr8s")
    from kr8s.asyncio.objects import ConfigMap, CustomResourceDefinition, Deployment, new_class

    async def main() -> None:
        api = await kr8s.asyncio.api(kubeconfig=str(server.kubeconfig))
        assert (await api.version())["minor"] == "37"
        assert any(kind["name"] == "deployments" for kind in await api.api_resources())
        web = await Deployment({**deployment("kr8s"), "metadata": {"name": "kr8s", "namespace": "default"}}, api=api)
        await web.create()
        assert await web.exists() and web.replicas == 1
        await web.scale(3)
        await web.refresh()
        assert web.spec.replicas == 3
        await web.label(tier="front")
        await web.annotate({"note": "x"})
        await web.patch({"spec": {"paused": True}})
        await web.patch([{"op": "replace", "path": "/spec/paused", "value": False}], type="json")
        found = [one async for one in api.get("deployments", label_selector={"tier": "front"})]
        assert [one.name for one in found] == ["kr8s"] and found[0].annotations.note == "x"

        crd = await CustomResourceDefinition(WIDGETS, api=api)
        if not await crd.exists():
            await crd.create()
        while not (crd.raw.get("status") or {}).get("conditions"):  # null at first, which kr8s stumbles over
            await crd.refresh()
        await crd.wait("condition=Established", timeout=60)
        Widget = new_class(kind="Widget", version="clients.example.com/v1", namespaced=True, asyncio=True)
        widget = await Widget({"metadata": {"name": "w", "namespace": "default"}, "spec": {"size": 1}}, api=api)
        await widget.create()
        await widget.patch({"spec": {"size": 2}})
        assert (await Widget.get("w", api=api)).spec.size == 2

        seen = []
        maps = await ConfigMap({"metadata": {"name": "kr8s", "namespace": "default"}, "data": {"a": "1"}}, api=api)
        await maps.create()
        async with asyncio.timeout(60):
            async for event, obj in api.watch("configmaps", namespace="default"):
                if obj.name != "kr8s":
                    continue
                seen.append(event)
                if event == "ADDED":
                    await maps.patch({"data": {"a": "2"}})
                elif event == "MODIFIED":
                    await maps.delete()
                else:
                    break
        assert seen == ["ADDED", "MODIFIED", "DELETED"]
        await web.delete(propagation_policy="Background")
        assert not await web.exists()

    asyncio.run(main())


def test_lightkube_makes_reads_changes_watches_and_deletes(server):
    pytest.importorskip("lightkube")
    from lightkube import ApiError, Client, KubeConfig
    from lightkube.generic_resource import create_namespaced_resource
    from lightkube.models.autoscaling_v1 import ScaleSpec
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
    from lightkube.resources.apps_v1 import Deployment
    from lightkube.resources.core_v1 import ConfigMap, Namespace
    from lightkube.types import PatchType

    client = Client(KubeConfig.from_file(str(server.kubeconfig)), namespace="default", field_manager="lightkube")
    made = client.create(Deployment.from_dict(deployment("lightkube")))
    assert made.metadata.uid and client.get(Deployment, "lightkube").spec.replicas == 1
    scale = client.get(Deployment.Scale, "lightkube")
    scale.spec = ScaleSpec(replicas=4)
    assert client.replace(scale, "lightkube").spec.replicas == 4
    client.patch(Deployment, "lightkube", {"spec": {"paused": True}})
    client.patch(Deployment, "lightkube", {"metadata": {"labels": {"x": "y"}}}, patch_type=PatchType.MERGE)
    pause = [{"op": "replace", "path": "/spec/paused", "value": False}]
    assert client.patch(Deployment, "lightkube", pause, patch_type=PatchType.JSON).spec.paused is not True
    named = ObjectMeta(name="lightkube", namespace="default")
    applied = client.apply(ConfigMap(metadata=named, data={"a": "1"}, apiVersion="v1", kind="ConfigMap"))
    assert applied.metadata.managedFields[0].operation == "Apply"
    rival = ConfigMap(metadata=named, data={"a": "2"}, apiVersion="v1", kind="ConfigMap")
    with pytest.raises(ApiError) as conflict:
        client.apply(rival, field_manager="rival")
    assert conflict.value.status.code == 409
    assert client.apply(rival, field_manager="rival", force=True).data == {"a": "2"}
    assert [one.metadata.name for one in client.list(Deployment, labels={"x": "y"})] == ["lightkube"]
    assert {"default", "kube-system"} <= {one.metadata.name for one in client.list(Namespace, chunk_size=2)}

    events = client.watch(ConfigMap, fields={"metadata.name": "lightkube"}, server_timeout=60)
    seen = [next(events)[0]]
    client.patch(ConfigMap, "lightkube", {"data": {"b": "3"}})
    seen.append(next(events)[0])
    client.delete(ConfigMap, "lightkube")
    seen.append(next(events)[0])
    assert seen == ["ADDED", "MODIFIED", "DELETED"]

    client.apply(CustomResourceDefinition.from_dict(WIDGETS), force=True)
    client.wait(CustomResourceDefinition, "widgets.clients.example.com", for_conditions=["Established"])
    Widget = create_namespaced_resource("clients.example.com", "v1", "Widget", "widgets")
    client.create(Widget(metadata=ObjectMeta(name="light"), spec={"size": 1}))
    client.patch(Widget.Status, "light", {"status": {"ready": True}}, patch_type=PatchType.MERGE)
    assert client.get(Widget, "light")["status"] == {"ready": True}
    client.deletecollection(Widget)
    client.delete(Deployment, "lightkube")
    with pytest.raises(ApiError) as missing:
        client.get(Deployment, "lightkube")
    assert missing.value.status.reason == "NotFound"


def test_a_kopf_operator_sees_a_resource_from_its_making_to_its_end(server, monkeypatch):
    kopf = pytest.importorskip("kopf")
    from lightkube import Client, KubeConfig
    from lightkube.generic_resource import create_namespaced_resource
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
    from lightkube.resources.core_v1 import ConfigMap
    from lightkube.types import PatchType

    client = Client(KubeConfig.from_file(str(server.kubeconfig)), namespace="default", field_manager="test")
    client.apply(CustomResourceDefinition.from_dict(WIDGETS), force=True)
    client.wait(CustomResourceDefinition, "widgets.clients.example.com", for_conditions=["Established"])
    Widget = create_namespaced_resource("clients.example.com", "v1", "Widget", "widgets")
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    registry = kopf.OperatorRegistry()
    happened: dict[str, threading.Event] = {
        name: threading.Event() for name in ("created", "resized", "deleted", "event", "timer")
    }
    where = ("clients.example.com", "v1", "widgets")

    @kopf.on.login(registry=registry)
    def login(**arguments: Any) -> Any:
        return kopf.login_with_kubeconfig(**arguments)

    @kopf.on.create(*where, id="created", registry=registry)
    def created(spec: Any, name: str, patch: Any, **_: Any) -> dict[str, Any]:
        child = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "data": {"size": str(spec["size"])},
        }
        kopf.adopt(child)
        client.create(ConfigMap.from_dict(child))
        patch.status["phase"] = "Made"
        happened["created"].set()
        return {"child": name}

    @kopf.on.field(*where, field="spec.size", registry=registry)
    def resized(old: Any, new: Any, **_: Any) -> None:
        if old is not None and (old, new) == (1, 5):
            happened["resized"].set()

    @kopf.on.delete(*where, registry=registry)
    def deleted(**_: Any) -> None:
        happened["deleted"].set()

    @kopf.on.event("v1", "configmaps", registry=registry)
    def heard(name: str, **_: Any) -> None:
        if name == "operated":
            happened["event"].set()

    @kopf.timer(*where, interval=0.1, registry=registry)
    def ticked(**_: Any) -> None:
        happened["timer"].set()

    ready, stop = threading.Event(), threading.Event()

    def operate() -> None:
        asyncio.run(
            kopf.operator(registry=registry, namespaces=["default"], standalone=True, ready_flag=ready, stop_flag=stop)
        )

    operator = threading.Thread(target=operate)
    operator.start()
    try:
        assert ready.wait(60)
        client.create(Widget(metadata=ObjectMeta(name="operated"), spec={"size": 1}))
        assert happened["created"].wait(60) and happened["event"].wait(60) and happened["timer"].wait(60)
        for _, seen in client.watch(Widget, fields={"metadata.name": "operated"}, server_timeout=60):
            if "kopf.zalando.org/last-handled-configuration" in (seen.metadata.annotations or {}):
                break  # its making is over: the next change is one
        client.patch(Widget, "operated", {"spec": {"size": 5}}, patch_type=PatchType.MERGE)
        assert happened["resized"].wait(60)
        widget = client.get(Widget, "operated")
        assert widget["status"]["created"] == {"child": "operated"} and widget["status"]["phase"] == "Made"
        assert widget.metadata.finalizers == ["kopf.zalando.org/KopfFinalizerMarker"]
        child = client.get(ConfigMap, "operated")
        assert child.data == {"size": "1"} and child.metadata.ownerReferences[0].uid == widget.metadata.uid
        client.delete(Widget, "operated")
        assert happened["deleted"].wait(60)
        for event, _ in client.watch(Widget, fields={"metadata.name": "operated"}, server_timeout=60):
            if event == "DELETED":
                break
    finally:
        stop.set()
        operator.join(60)
    assert not operator.is_alive()
