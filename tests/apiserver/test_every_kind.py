"""Every kind lives through everything that a client can do with an object."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from peavine.api.kind import Kind
from tests.apiserver.inside import Client, serving
from tests.apiserver.samples import full, sample

TYPES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
PROTOBUF = "application/vnd.kubernetes.protobuf"
# What waits for a controller, or for admission, with every write.
RESTLESS = {"customresourcedefinitions"}


async def live_through_everything(api: Client, kind: Kind, body: dict[str, Any]) -> None:
    base = kind.gvr.path("default" if kind.namespaced else None)
    path = f"{base}/{body['metadata']['name']}"
    start = (await api("GET", base)).json["metadata"]["resourceVersion"]
    assert (await api("POST", f"{base}?dryRun=All&fieldValidation=Strict", body)).status == 201
    assert (await api("GET", path)).status == 404
    made = await api("POST", f"{base}?fieldValidation=Strict", body)
    assert made.status == 201, made.body
    assert (await api("POST", base, body)).status in (409, 422)
    await read_in_every_form(api, kind, base, path, made.json["metadata"]["uid"])
    await change_in_every_way(api, kind, path, base)
    await erase(api, kind, path)
    query = f"watch=1&resourceVersion={start}&fieldSelector=metadata.name%3D{body['metadata']['name']}"
    async with api.watch(f"{base}?{query}") as events:
        seen = []
        while not seen or seen[-1] != "DELETED":
            type, _ = await events.next()
            seen.append(type)
    assert seen[0] == "ADDED" and seen.count("MODIFIED") >= 5 and seen.count("DELETED") == 1


async def read_in_every_form(api: Client, kind: Kind, base: str, path: str, uid: str) -> None:
    """What comes back in each form can be sent back, and changes nothing."""
    found = (await api("GET", path)).json
    assert found["metadata"]["uid"] == uid
    table = (await api("GET", base, headers={"Accept": TABLE})).json
    cells = next(row["cells"] for row in table["rows"] if row["object"]["metadata"]["uid"] == uid)
    assert len(cells) == len(table["columnDefinitions"]) == len(kind.columns)
    assert (await api("GET", path, headers={"Accept": PARTIAL})).json["kind"] == "PartialObjectMetadata"
    assert (await api("GET", base, headers={"Accept": PROTOBUF})).body.startswith(b"k8s\0")
    for media in ("application/json", "application/yaml", PROTOBUF):
        shown = await api("GET", path, headers={"Accept": media})
        assert shown.status == 200 and shown.headers["content-type"] == media
        kept = await api("PUT", f"{path}?fieldValidation=Strict", shown.body, {"Content-Type": media})
        if kind.plural in RESTLESS and kept.status == 409:
            continue
        assert kept.status == 200, (media, kept.body)
        version = kept.json["metadata"]["resourceVersion"]
        assert version == found["metadata"]["resourceVersion"] or kind.plural in RESTLESS, (media, kept.json, found)


async def change_in_every_way(api: Client, kind: Kind, path: str, base: str) -> None:
    """Replace, three patches, apply, and the status where there is one."""
    while True:
        whole = (await api("GET", path)).json
        whole["metadata"].setdefault("labels", {})["update"] = "1"
        replaced = await api("PUT", path, whole)
        if replaced.status != 409:
            break
    assert replaced.status == 200 and replaced.json["metadata"]["labels"]["update"] == "1", replaced.body
    stale = await api("PUT", path, {**whole, "metadata": {**whole["metadata"], "labels": {}}})
    assert stale.status == 409, stale.body
    applied = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"labels": {"apply": "1"}}}
    for patch, document in (
        ("merge", {"metadata": {"labels": {"merge": "1"}}}),
        ("json", [{"op": "add", "path": "/metadata/labels/json", "value": "1"}]),
        ("strategic", {"metadata": {"labels": {"strategic": "1"}}}),
        ("apply", applied),
    ):
        query = "?fieldManager=test" if patch == "apply" else ""
        answer = await api("PATCH", path + query, document, {"Content-Type": TYPES[patch]})
        assert answer.status == 200 and answer.json["metadata"]["labels"][patch] == "1", (patch, answer.body)
    managers = [(e["manager"], e["operation"]) for e in answer.json["metadata"]["managedFields"]]
    assert ("test", "Apply") in managers
    if "status" in kind.subresources:
        label = {"metadata": {"annotations": {"status": "1"}}}
        told = await api("PATCH", f"{path}/status", label, {"Content-Type": TYPES["merge"]})
        assert told.status == 200 and told.json["metadata"]["generation" if kind.generation else "uid"]
        assert (await api("GET", f"{path}/status")).status == 200
    name = answer.json["metadata"]["name"]
    selected = (await api("GET", f"{base}?labelSelector=apply%3D1,merge")).json["items"]
    assert [item["metadata"]["name"] for item in selected] == [name]


async def erase(api: Client, kind: Kind, path: str) -> None:
    gone = await api("DELETE", f"{path}?propagationPolicy=Background&gracePeriodSeconds=0")
    assert gone.status == 200, gone.body
    left = await api("GET", path)
    if left.status == 200:  # something protects it: take its finalizers away, but for the server's own
        assert left.json["metadata"]["deletionTimestamp"]
        kept = [f for f in left.json["metadata"].get("finalizers") or () if "customresourcecleanup" in f]
        freed = await api("PATCH", path, {"metadata": {"finalizers": kept}}, {"Content-Type": TYPES["merge"]})
        assert freed.status in (200, 404)
    if kind.plural == "namespaces":  # its controller has emptied it
        emptied = {**left.json, "spec": {}, "metadata": {"name": "every"}}
        assert (await api("PUT", f"{path}/finalize", emptied)).status == 200
    while (last := await api("GET", path)).status == 200 and kind.plural in RESTLESS:
        await asyncio.sleep(0.01)  # its objects are being deleted
    assert last.status == 404


async def ask(api: Client, kind: Kind, body: dict[str, Any]) -> None:
    """A kind that is not stored: asked in each form, answered in each, and nothing is there afterwards."""
    base = kind.gvr.path("default" if kind.namespaced else None)
    if "create" not in kind.verbs:
        listed = await api("GET", base)
        assert listed.status == 200 and listed.json["kind"] == kind.kind + "List"
        assert (await api("GET", base, headers={"Accept": PROTOBUF})).body.startswith(b"k8s\0")
        return
    body["metadata"] = {} if kind.plural != "bindings" else body["metadata"]
    if kind.plural == "bindings":
        pod = {"metadata": {"name": "every"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        assert (await api("POST", "/api/v1/namespaces/default/pods", pod)).status == 201
        assert (await api("POST", base, body)).json["status"] == "Success"
        assert (await api("DELETE", "/api/v1/namespaces/default/pods/every?gracePeriodSeconds=0")).status == 200
        return
    for media in ("application/json", "application/yaml", PROTOBUF):
        answer = await api("POST", f"{base}?fieldValidation=Strict", body, {"Accept": media})
        assert answer.status == 201 and answer.headers["content-type"] == media, answer.body
        assert kind.kind.encode() in answer.body
    assert (await api("GET", base)).status == 405


@pytest.mark.slow
def test_every_kind_is_created_read_changed_watched_and_deleted(tmp_path):
    """First with no more than it needs, then with all that its rules allow at once."""

    async def main():
        settings = {"disable_admission_plugins": ("ServiceAccount",), "enable_aggregation": False}
        async with serving(tmp_path, **settings) as api:
            problems, walked = [], []
            for kind in [kind for kind in api.server.registry.kinds() if kind.plural]:
                body = sample(kind)
                try:
                    if kind.virtual:
                        await ask(api, kind, body)
                    else:
                        await live_through_everything(api, kind, body)
                        await live_through_everything(api, kind, full(kind, body, api.server.registry.schema))
                    walked.append(kind)
                except (AssertionError, KeyError) as error:
                    problems.append(f"{kind}: {type(error).__name__} {str(error)[:1500]}")
            assert not problems, "\n".join(problems)
            assert len(walked) > 70

    asyncio.run(main())
