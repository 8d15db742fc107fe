"""Custom resources that a webhook converts. It answers in the server's own event loop: nothing may block for it."""

import contextlib

from tests.apiserver.customresources.test_custom_resources import CRDS, definition, established, version, widget
from tests.apiserver.inside import serving
from tests.apiserver.webhooks.listener import listening

V1 = "/apis/example.com/v1/namespaces/default/widgets"
V2 = "/apis/example.com/v2/namespaces/default/widgets"
MERGE = {"Content-Type": "application/merge-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}


def answer(body):
    """`spec.size` of v1 is `spec.sizeText` of v2."""
    request = body["request"]
    converted = []
    for obj in request["objects"]:
        spec = dict(obj.get("spec") or {})
        if request["desiredAPIVersion"].endswith("v2"):
            if "size" in spec:
                spec["sizeText"] = str(spec.pop("size"))
        elif "sizeText" in spec:
            spec["size"] = int(spec.pop("sizeText"))
        converted.append({**obj, "apiVersion": request["desiredAPIVersion"], "spec": spec})
    result = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": converted}
    return {"apiVersion": body["apiVersion"], "kind": "ConversionReview", "response": result}


@contextlib.asynccontextmanager
async def converting(tmp_path, reply=answer):
    second = version("v2", storage=False, selectableFields=[], additionalPrinterColumns=[])
    spec = {"type": "object", "properties": {"sizeText": {"type": "string"}}}
    second["schema"] = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    async with listening(reply) as listener, serving(tmp_path) as client:
        body = definition(version(), second)
        body["spec"]["conversion"] = {
            "strategy": "Webhook",
            "webhook": {"conversionReviewVersions": ["v9", "v1"], "clientConfig": listener.client_config},
        }
        made = await client("POST", CRDS, body)
        assert made.status == 201, made.body
        await established(client, "widgets.example.com")
        yield client, listener


async def test_every_way_to_read_and_write_is_converted(tmp_path):
    async with converting(tmp_path) as (client, _):
        made = await client("POST", V2, widget("a", "example.com/v2", sizeText="7"))
        assert made.status == 201 and made.json["spec"] == {"sizeText": "7"}, made.body
        assert (await client("GET", f"{V1}/a")).json["spec"]["size"] == 7
        assert (await client("GET", f"{V2}/a")).json["spec"] == {"sizeText": "7"}
        dry = await client("POST", V2 + "?dryRun=All", widget("b", "example.com/v2", sizeText="1"))
        assert dry.status == 201 and dry.json["spec"] == {"sizeText": "1"}
        patched = await client("PATCH", f"{V2}/a", {"spec": {"sizeText": "8"}}, MERGE)
        assert patched.json["spec"] == {"sizeText": "8"}, patched.body
        for text in ("10", "11"):  # two contents of one revision are two conversions
            dry = await client("PATCH", f"{V2}/a?dryRun=All", {"spec": {"sizeText": text}}, MERGE)
            assert dry.json["spec"] == {"sizeText": text}
        whole = {**patched.json, "spec": {"sizeText": "9"}}
        assert (await client("PUT", f"{V2}/a", whole)).json["spec"] == {"sizeText": "9"}
        applied = {"apiVersion": "example.com/v2", "kind": "Widget", "metadata": {"name": "a"}}
        query = "?fieldManager=x&force=true"
        first = await client("PATCH", f"{V2}/a{query}", {**applied, "spec": {"sizeText": "12"}}, APPLY)
        assert first.status == 200 and first.json["spec"] == {"sizeText": "12"}, first.body
        applied["apiVersion"] = "example.com/v1"  # the same manager goes on in the other version
        second = await client("PATCH", f"{V1}/a{query}", {**applied, "spec": {"size": 13}}, APPLY)
        assert second.json["spec"]["size"] == 13, second.body
        assert [e["apiVersion"] for e in second.json["metadata"]["managedFields"] if e["manager"] == "x"] == [
            "example.com/v1"
        ]
        listed = (await client("GET", V2)).json
        assert [(o["apiVersion"], o["spec"]) for o in listed["items"]] == [("example.com/v2", {"sizeText": "13"})]
        gone = await client("DELETE", f"{V2}/a")
        assert gone.status == 200, gone.body


async def test_watches_see_their_version_in_order(tmp_path):
    async with converting(tmp_path) as (client, _):
        first = await client("POST", V1, widget("a", size=1))
        since = first.json["metadata"]["resourceVersion"]
        query = "?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        async with client.watch(V2 + query) as events, client.watch(f"{V2}?watch=1&resourceVersion={since}") as later:
            type, obj = await events.next()
            assert (type, obj["apiVersion"], obj["spec"]) == ("ADDED", "example.com/v2", {"sizeText": "1"})
            type, obj = await events.next()
            assert type == "BOOKMARK" and obj["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
            for size in range(2, 6):
                await client("PATCH", f"{V1}/a", {"spec": {"size": size}}, MERGE)
            await client("DELETE", f"{V1}/a")
            for stream in (events, later):
                for size in range(2, 6):
                    type, obj = await stream.next()
                    assert (type, obj["spec"]) == ("MODIFIED", {"sizeText": str(size)})
                type, obj = await stream.next()
                assert (type, obj["spec"]) == ("DELETED", {"sizeText": "5"})


async def test_objects_stored_in_an_older_version_are_converted_too(tmp_path):
    async with converting(tmp_path) as (client, _):
        assert (await client("POST", V1, widget("a", size=1))).status == 201
        crd = (await client("GET", f"{CRDS}/widgets.example.com")).json
        for each in crd["spec"]["versions"]:
            each["storage"] = each["name"] == "v2"
        assert (await client("PUT", f"{CRDS}/widgets.example.com", crd)).status == 200
        assert (await client("POST", V1, widget("b", size=2))).status == 201

        async def switched():
            return b'"apiVersion":"example.com/v2"' in (await stored(client, "c"))

        while True:  # until the server writes the new version
            await client("DELETE", f"{V1}/c")
            assert (await client("POST", V1, widget("c", size=3))).status == 201
            if await switched():
                break
        assert b'"apiVersion":"example.com/v1"' in (await stored(client, "a"))
        expected = {"a": 1, "b": 2, "c": 3}
        for path, read in ((V1, lambda spec: spec["size"]), (V2, lambda spec: int(spec["sizeText"]))):
            items = (await client("GET", path)).json["items"]
            assert {item["metadata"]["name"]: read(item["spec"]) for item in items} == expected
        patched = await client("PATCH", f"{V2}/a", {"metadata": {"labels": {"x": "y"}}}, MERGE)
        assert patched.json["spec"] == {"sizeText": "1"}
        value = await stored(client, "a")
        assert b'"apiVersion":"example.com/v2"' in value and b'"sizeText":"1"' in value
        assert (await client("DELETE", f"{V2}/b")).status == 200


async def stored(client, name):
    found, _ = await client.server.store.get(f"/registry/example.com/widgets/default/{name}")
    return found.value


async def test_a_webhook_that_fails_fails_reads_and_ends_watches(tmp_path):
    def refuse(body):
        response = {"uid": body["request"]["uid"], "result": {"status": "Failure", "message": "broken today"}}
        return {"apiVersion": body["apiVersion"], "kind": "ConversionReview", "response": response}

    async with converting(tmp_path, refuse) as (client, _):
        assert (await client("POST", V1, widget("a", size=1))).status == 201
        for path in (V2, f"{V2}/a"):
            failed = await client("GET", path)
            assert failed.status == 500 and "Kind=Widget failed: broken today" in failed.json["message"]
        async with client.watch(V2 + "?watch=1") as events:
            type, status = await events.next()
            assert type == "ERROR" and "broken today" in status["message"]
        assert (await client("GET", f"{V1}/a")).status == 200
