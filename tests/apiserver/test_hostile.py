"""Input that nobody should send: it gets a 4xx Status, changes nothing, and costs nothing."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.apiserver.inside import MAPS, Client, config_map, request_bytes, serving
from tests.apiserver.test_objects import PODS, run

DEEP = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
ALIASES = b"\n".join(
    [b"a: &a [x,x,x,x,x,x,x,x,x]"]
    + [b"%c: &%c [%b]" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(ord("b"), ord("k"))]
)
YAML = {"Content-Type": "application/yaml"}
MERGE = {"Content-Type": "application/merge-patch+json"}
PROTOBUF = {"Content-Type": "application/vnd.kubernetes.protobuf"}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b"null", {}, (400, 422)),
        (b"[]", {}, 400),
        (b"\xff\xfe{}", {}, 400),
        (b'{"metadata":{"name":"\xff"}}', {}, 400),
        (DEEP, {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'{"metadata":{"name":"x"},"data":{"a":1e999}}', {}, 400),
        (b'{"metadata":{"name":"x","labels":"no"}}', {}, 400),
        (b'{"metadata":[]}', {}, 400),
        (b'{"kind":7}', {}, 400),
        (b'{"kind":"Secret","apiVersion":"v1"}', {}, 400),
        (b'{"kind":"ConfigMap","apiVersion":"v9"}', {}, 400),
        (b'{"kind":"ConfigMap","apiVersion":"a/b/c"}', {}, 400),
        (b'{"metadata":{"name":"UPPER"}}', {}, 422),
        (b'{"metadata":{"name":"../x"}}', {}, 422),
        (b'{"metadata":{"name":"x","namespace":"other"}}', {}, 400),
        (b"a: b: c", YAML, 400),
        (b"\x00\x01", YAML, 400),
        (ALIASES, YAML, (400, 413)),
        (b"- " * 20_000, YAML, 400),
        (b"k8s\0", PROTOBUF, (400, 422)),
        (b"k8s\0" + b"\xff" * 1000, PROTOBUF, 400),
        (b"nonsense", PROTOBUF, 400),
        (b"{}", {"Content-Type": "text/csv"}, 415),
        (b"x" * (3 << 20) + b"x", {}, 413),
    ],
)
def test_a_bad_body_is_refused_and_changes_nothing(tmp_path, body, headers, status):
    async def scenario(api: Client):
        before = [item["metadata"] for item in (await api("GET", MAPS)).json["items"]]
        answer = await api("POST", MAPS, body, headers)
        assert answer.status in (status if isinstance(status, tuple) else (status,)), answer.body[:300]
        assert answer.json["kind"] == "Status" and answer.json["status"] == "Failure"
        assert [item["metadata"] for item in (await api("GET", MAPS)).json["items"]] == before
        assert (await api("GET", "/readyz")).status == 200

    run(tmp_path, scenario, enable_aggregation=False)


@pytest.mark.parametrize(
    ("kind", "patch", "status"),
    [
        ("application/json-patch+json", b'{"op":"add"}', 400),
        ("application/json-patch+json", b'[{"op":"test","path":"/data/a","value":"z"}]', 422),
        (
            "application/json-patch+json",
            json.dumps([{"op": "add", "path": "/data/x", "value": "1"}] * 10_001).encode(),
            413,
        ),
        ("application/json-patch+json", b'[{"op":"replace","path":"/metadata/name","value":"other"}]', 400),
        ("application/merge-patch+json", b"[]", 400),
        ("application/merge-patch+json", b'{"data":[1]}', (400, 422)),
        ("application/merge-patch+json", b'{"kind":"Secret"}', 400),
        ("application/merge-patch+json", b'{"metadata":null}', (200, 400, 422)),
        ("application/strategic-merge-patch+json", b'{"metadata":{"$patch":"nonsense"}}', (400, 422, 500)),
        ("application/apply-patch+yaml", b"a: b: c", 400),
        ("text/plain", b"{}", 415),
    ],
)
def test_a_bad_patch_is_refused(tmp_path, kind, patch, status):
    async def scenario(api: Client):
        await api("POST", MAPS, config_map("m"))
        query = "?fieldManager=x" if "apply" in kind else ""
        answer = await api("PATCH", f"{MAPS}/m{query}", patch, {"Content-Type": kind})
        assert answer.status in (status if isinstance(status, tuple) else (status,)), answer.body[:300]
        if answer.status != 200:
            assert (await api("GET", f"{MAPS}/m")).json["data"] == {"a": "b"}

    run(tmp_path, scenario, enable_aggregation=False)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/default/configmaps/%ff",
        "/api/v1/namespaces/%2e%2e/configmaps",
        "/api/v1/namespaces/default/configmaps/a%2fb",
        "/api/v1/namespaces//configmaps",
        "/api//v1/pods",
        "/apis/apps",
        "/apis/apps/",
        "/apis/none.example.com/v1/x",
        f"{MAPS}?limit=-1",
        f"{MAPS}?limit=99999999999999999999",
        f"{MAPS}?resourceVersion=-1",
        f"{MAPS}?resourceVersion=1e9",
        f"{MAPS}?continue=AAAA",
        f"{MAPS}?labelSelector=%00",
        f"{MAPS}?fieldSelector=metadata.name",
        f"{MAPS}?timeoutSeconds=x",
        f"{MAPS}?timeout=soon",
        f"{MAPS}?watch=1&resourceVersionMatch=Exact",
        "/" + "a/" * 3000,
        "/%",
        "/api/v1/pods?watch=true&timeoutSeconds=1&limit=x",
    ],
)
def test_an_odd_path_or_query_never_breaks_the_server(tmp_path, path):
    async def scenario(api: Client):
        answer = await api("GET", path)
        assert answer.status < 500 or (answer.json.get("code") == 500 and "resourceVersion" in path)
        assert (await api("GET", "/readyz")).status == 200

    run(tmp_path, scenario, enable_aggregation=False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ["metadata", "spec", "name", "labels", "containers", "image", "ports", "env", "volumes", "resources", "status"]


def test_no_document_of_any_shape_is_answered_with_a_server_error(tmp_path):
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(document=JSON, seed=st.integers(0, 2**32))
    def examples(document, seed):
        chance = random.Random(seed)
        body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        place: object = body
        for _ in range(chance.randrange(3)):  # put the odd value somewhere inside an otherwise good pod
            inner = list(place.values()) if isinstance(place, dict) else place
            inner = [v for v in inner if isinstance(v, (dict, list)) and v]
            if not inner:
                break
            place = chance.choice(inner)
        if isinstance(place, dict):
            place[chance.choice(FIELDS)] = document
        else:
            place.append(document)  # type: ignore[attr-defined]
        documents.append(body)

    documents: list[dict] = []
    examples()

    async def scenario(api: Client):
        for body in documents:
            try:
                data = json.dumps(body)
                data.encode()
            except (ValueError, UnicodeEncodeError):
                continue
            answer = await api("POST", f"{PODS}?dryRun=All", data.encode())
            assert answer.status in (201, 400, 422), (body, answer.body)
            answer = await api("PATCH", f"{PODS}/none", data.encode(), MERGE)
            assert answer.status in (400, 404), (body, answer.body)

    run(tmp_path, scenario, enable_aggregation=False)


def test_a_flood_of_broken_requests_leaves_the_server_serving(tmp_path):
    async def main():
        async with serving(tmp_path) as api:
            chance = random.Random(7)

            async def attack() -> None:
                reader, writer = await api.open()
                try:
                    good = b"GET /api/v1/pods HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin-token\r\n\r\n"
                    data = bytearray(good * 3)
                    for _ in range(chance.randrange(6)):
                        data[chance.randrange(len(data))] = chance.randrange(256)
                    writer.write(bytes(data[: chance.randrange(len(data))]))
                    if chance.random() < 0.5:
                        writer.transport.abort()
                        return
                    await asyncio.wait_for(reader.read(1000), 0.2)
                except (TimeoutError, ConnectionError):
                    pass
                finally:
                    writer.close()

            for _ in range(10):
                await asyncio.gather(*(attack() for _ in range(30)))
            assert (await api("GET", "/readyz")).body == b"ok"
            assert (await api("GET", "/api/v1/pods")).status == 200

    asyncio.run(main())


@pytest.mark.parametrize("query", ["", "?watch=1", "?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"])
def test_readers_that_leave_amid_a_large_answer_are_no_failure_of_the_server(tmp_path, caplog, query):
    async def main():
        async with serving(tmp_path) as api:
            for i in range(12):
                assert (await api("POST", MAPS, config_map(f"m{i}", value="x" * 900_000))).status == 201
            for _ in range(4):
                _, leaving = await api.open()
                leaving.transport.pause_reading()
                leaving.write(request_bytes("GET", MAPS + query))
                async with asyncio.timeout(20):
                    while not any(connection.paused for connection in api.server.http.connections):
                        await asyncio.sleep(0.01)
                    leaving.transport.abort()
                    while api.server.http.connections:
                        await asyncio.sleep(0.01)
            assert (await api("GET", "/readyz")).body == b"ok"

    asyncio.run(main())
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
