"""Lists and watches: selectors, pages, revisions, forms, and what happens at the edges."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import quote

from peavine.apiserver.cache import resource
from peavine.apiserver.endpoints import watching
from peavine.store.memory import MemoryStore
from tests.apiserver.inside import MAPS, Client, config_map, request_bytes, serving
from tests.apiserver.test_objects import MERGE, run

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
PARTIAL = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"}


async def fill(api: Client, count: int) -> None:
    for i in range(count):
        body = config_map(f"m{i:02}")
        body["metadata"]["labels"] = {"n": str(i), "parity": "odd" if i % 2 else "even"}
        assert (await api("POST", MAPS, body)).status == 201


def names(listed) -> list[str]:
    return [item["metadata"]["name"] for item in listed["items"]]


def test_selectors_choose_with_and_without_an_index(tmp_path):
    async def scenario(api: Client):
        for count in (6, 80):  # below and above the size from which indexes are kept
            await fill(api, count) if count == 6 else None
            assert names((await api("GET", f"{MAPS}?labelSelector=n%3D3")).json) == ["m03"]
            assert names((await api("GET", f"{MAPS}?labelSelector=parity%3Dodd,n+notin+(1)")).json)[:2] == [
                "m03",
                "m05",
            ]
            assert names((await api("GET", f"{MAPS}?fieldSelector=metadata.name%3Dm04")).json) == ["m04"]
            assert "m04" not in names((await api("GET", f"{MAPS}?fieldSelector=metadata.name!%3Dm04")).json)
            everywhere = await api("GET", "/api/v1/configmaps?labelSelector=n%3D2")
            assert names(everywhere.json) == ["m02"]
            if count == 6:
                for i in range(6, 80):
                    body = config_map(f"m{i:02}")
                    body["metadata"]["labels"] = {"n": str(i), "parity": "odd" if i % 2 else "even"}
                    await api("POST", MAPS, body)
        await api("PATCH", f"{MAPS}/m03", {"metadata": {"labels": {"n": "moved"}}}, MERGE)
        assert names((await api("GET", f"{MAPS}?labelSelector=n%3D3")).json) == []
        assert names((await api("GET", f"{MAPS}?labelSelector=n%3Dmoved")).json) == ["m03"]

    run(tmp_path, scenario)


def test_pages_stay_as_they_were_while_others_write(tmp_path):
    async def scenario(api: Client):
        await fill(api, 7)
        first = (await api("GET", f"{MAPS}?limit=3")).json
        assert names(first) == ["m00", "m01", "m02"]
        # One more than the maps made here: every namespace has kube-root-ca.crt only with its controller running.
        assert first["metadata"]["remainingItemCount"] == 4
        await api("DELETE", f"{MAPS}/m04")
        await api("POST", MAPS, config_map("m035"))
        second = (await api("GET", f"{MAPS}?limit=3&continue={first['metadata']['continue']}")).json
        assert names(second) == ["m03", "m04", "m05"]
        assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        third = (await api("GET", f"{MAPS}?limit=3&continue={second['metadata']['continue']}")).json
        assert names(third) == ["m06"] and "continue" not in third["metadata"]

    run(tmp_path, scenario)


def test_a_compacted_page_expires_with_a_token_to_go_on(tmp_path):
    async def scenario(api: Client):
        await fill(api, 4)
        first = (await api("GET", f"{MAPS}?limit=2")).json
        await api("POST", MAPS, config_map("z"))
        store = api.server.store
        await store.compact(await store.revision())
        expired = await api("GET", f"{MAPS}?limit=2&continue={first['metadata']['continue']}")
        assert (expired.status, expired.json["reason"]) == (410, "Expired")
        onward = expired.json["metadata"]["continue"]
        assert names((await api("GET", f"{MAPS}?limit=9&continue={onward}")).json) == ["m02", "m03", "z"]

    run(tmp_path, scenario)


def test_an_exact_revision_is_read_from_history(tmp_path):
    async def scenario(api: Client):
        await fill(api, 2)
        then = (await api("GET", MAPS)).json["metadata"]["resourceVersion"]
        await api("DELETE", f"{MAPS}/m00")
        old = await api("GET", f"{MAPS}?resourceVersion={then}&resourceVersionMatch=Exact")
        assert names(old.json) == ["m00", "m01"]
        assert names((await api("GET", f"{MAPS}?resourceVersion={then}")).json) == ["m01"]
        refused = await api("GET", f"{MAPS}?resourceVersionMatch=Exact")
        assert refused.status == 422

    run(tmp_path, scenario)


def test_tables_metadata_yaml_and_protobuf(tmp_path):
    async def scenario(api: Client):
        await fill(api, 2)
        table = (await api("GET", MAPS, headers=TABLE)).json
        assert table["kind"] == "Table" and [row["cells"][0] for row in table["rows"]] == ["m00", "m01"]
        assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
        partial = (await api("GET", MAPS, headers=PARTIAL)).json
        assert partial["kind"] == "PartialObjectMetadataList" and "data" not in partial["items"][0]
        yaml = await api("GET", f"{MAPS}/m00", headers={"Accept": "application/yaml"})
        assert b"kind: ConfigMap\n" in yaml.body and yaml.headers["content-type"] == "application/yaml"
        proto = await api("GET", f"{MAPS}/m00", headers={"Accept": "application/vnd.kubernetes.protobuf"})
        assert proto.body.startswith(b"k8s\0")
        back = await api("PUT", f"{MAPS}/m00", proto.body, {"Content-Type": "application/vnd.kubernetes.protobuf"})
        assert back.status == 200 and back.json["data"] == {"a": "b"}
        assert (await api("GET", MAPS, headers={"Accept": "text/csv"})).status == 406

    run(tmp_path, scenario)


def test_large_answers_are_compressed_for_those_who_take_it(tmp_path):
    async def scenario(api: Client):
        import gzip

        await api("POST", MAPS, config_map("big", a="x" * 300_000))
        packed = await api("GET", f"{MAPS}/big", headers={"Accept-Encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip" and len(packed.body) < 10_000
        assert len(gzip.decompress(packed.body)) > 300_000
        assert "content-encoding" not in (await api("GET", f"{MAPS}/big")).headers

    run(tmp_path, scenario)


def test_a_watch_tells_the_state_and_then_every_change(tmp_path):
    async def scenario(api: Client):
        await fill(api, 2)
        async with api.watch(f"{MAPS}?watch=1") as events:
            assert await events.names(2) == ["ADDED m00", "ADDED m01"]
            await api("PATCH", f"{MAPS}/m00", {"data": {"x": "y"}}, MERGE)
            await api("DELETE", f"{MAPS}/m01")
            type, changed = await events.next()
            assert (type, changed["data"]) == ("MODIFIED", {"a": "b", "x": "y"})
            type, gone = await events.next()
            assert type == "DELETED" and int(gone["metadata"]["resourceVersion"]) > int(
                changed["metadata"]["resourceVersion"]
            )

    run(tmp_path, scenario)


def test_a_watch_from_a_revision_misses_nothing(tmp_path):
    async def scenario(api: Client):
        await fill(api, 1)
        version = (await api("GET", MAPS)).json["metadata"]["resourceVersion"]
        await api("POST", MAPS, config_map("later"))
        await api("DELETE", f"{MAPS}/m00")
        async with api.watch(f"{MAPS}?watch=1&resourceVersion={version}") as events:
            assert await events.names(2) == ["ADDED later", "DELETED m00"]

    run(tmp_path, scenario)


def test_objects_enter_and_leave_a_selection(tmp_path):
    async def scenario(api: Client):
        await fill(api, 1)
        version = (await api("GET", MAPS)).json["metadata"]["resourceVersion"]
        async with api.watch(f"{MAPS}?watch=1&labelSelector=in%3Dyes&resourceVersion={version}") as events:
            await api("PATCH", f"{MAPS}/m00", {"metadata": {"labels": {"in": "yes"}}}, MERGE)
            await api("PATCH", f"{MAPS}/m00", {"data": {"x": "1"}}, MERGE)
            left = (await api("PATCH", f"{MAPS}/m00", {"metadata": {"labels": {"in": "no"}}}, MERGE)).json
            assert await events.names(2) == ["ADDED m00", "MODIFIED m00"]
            type, obj = await events.next()
            assert type == "DELETED" and obj["metadata"]["labels"]["in"] == "yes"
            assert obj["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]

    run(tmp_path, scenario)


def test_a_watch_of_one_name_or_namespace_hears_only_of_that(tmp_path):
    async def scenario(api: Client):
        async with (
            api.watch(f"{MAPS}?watch=1&fieldSelector=metadata.name%3Dmine") as one,
            api.watch("/api/v1/watch/namespaces/default/configmaps/mine") as old_path,
            api.watch("/api/v1/configmaps?watch=1&resourceVersion=0") as everything,
        ):
            await api("POST", MAPS, config_map("other"))
            await api("POST", "/api/v1/namespaces/kube-public/configmaps", config_map("mine"))
            await api("POST", MAPS, config_map("mine"))
            assert await one.names(1) == ["ADDED mine"]
            assert await old_path.names(1) == ["ADDED mine"]
            seen: list[str] = []
            while "ADDED mine" not in seen:
                seen += await everything.names(1)

    run(tmp_path, scenario)


def test_a_list_by_watch_ends_its_state_with_a_bookmark(tmp_path):
    async def scenario(api: Client):
        await fill(api, 2)
        query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        async with api.watch(f"{MAPS}?{query}") as events:
            assert await events.names(2) == ["ADDED m00", "ADDED m01"]
            type, mark = await events.next()
            assert type == "BOOKMARK"
            assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
            await api("POST", MAPS, config_map("next"))
            assert await events.names(1) == ["ADDED next"]
        assert (await api("GET", f"{MAPS}?watch=1&sendInitialEvents=true")).status == 422

    run(tmp_path, scenario)


def test_a_watch_from_compacted_history_is_told_so_where_nobody_remembers(tmp_path, monkeypatch):
    monkeypatch.setattr(resource, "RECENT_CHANGES_MAX", 5)

    async def scenario(api: Client):
        await fill(api, 4)
        remembered = (await api("GET", MAPS)).json["metadata"]["resourceVersion"]
        await fill_more(api, 4)
        store = api.server.store
        await store.compact(await store.revision())
        async with api.watch(f"{MAPS}?watch=1&resourceVersion=2") as events:
            type, status = await events.next()
            assert (type, status["code"], status["reason"]) == ("ERROR", 410, "Expired")
            assert await events.next() is None
        async with api.watch(f"{MAPS}?watch=1&resourceVersion={remembered}") as events:
            assert await events.names(4) == [f"ADDED n{i}" for i in range(4)]

    async def fill_more(api: Client, count: int) -> None:
        for i in range(count):
            await api("POST", MAPS, config_map(f"n{i}"))

    run(tmp_path, scenario)


def test_a_watch_goes_on_over_a_restart_of_the_server(tmp_path):
    async def main():
        store = MemoryStore()
        store_close, store.close = store.close, lambda: asyncio.sleep(0)
        async with serving(tmp_path, store) as api:
            await fill(api, 1)
            version = (await api("GET", MAPS)).json["metadata"]["resourceVersion"]
            await api("POST", MAPS, config_map("while-up"))
            await api("DELETE", f"{MAPS}/m00")
        async with serving(tmp_path, store) as api:
            async with api.watch(f"{MAPS}?watch=1&resourceVersion={version}") as events:
                assert await events.names(2) == ["ADDED while-up", "DELETED m00"]
                await api("POST", MAPS, config_map("after"))
                assert await events.names(1) == ["ADDED after"]
        await store_close()

    asyncio.run(main())


def test_a_watch_ends_at_its_time_and_at_the_servers_end(tmp_path):
    async def main():
        async with serving(tmp_path) as api:
            async with api.watch(f"{MAPS}?watch=1&timeoutSeconds=1") as events:
                assert await events.next() is None
            async with api.watch(f"{MAPS}?watch=1") as events:
                await api.server.stop()
                assert await events.next() is None

    asyncio.run(main())


def test_a_watcher_that_does_not_read_is_cut_and_slows_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "HELD_FRAMES_MAX", 10)

    async def scenario(api: Client):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)  # so that little fits on the way
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", api.port))
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(request_bytes("GET", f"{MAPS}?watch=1"))
        await reader.readuntil(b"\r\n\r\n")
        reader._transport.pause_reading()
        async with api.watch(f"{MAPS}?watch=1") as fast:
            for i in range(80):
                assert (await api("POST", MAPS, config_map(f"big{i:02}", a="x" * 200_000))).status == 201
                assert (await fast.names(1)) == [f"ADDED big{i:02}"]
        watchers = api.server.registry.named("", "configmaps").cache.watchers
        for _ in range(1000):
            if not len(watchers):
                break
            await asyncio.sleep(0.02)
        assert len(watchers) == 0
        writer.close()

    run(tmp_path, scenario)


def test_a_watch_over_websocket_sends_an_event_a_message(tmp_path):
    async def scenario(api: Client):
        await fill(api, 1)
        reader, writer = await api.open()
        handshake = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        writer.write(request_bytes("GET", f"{MAPS}?watch=1", None, handshake))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101") and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        first = await reader.readexactly(4)
        assert first[0] == 0x81 and first[1] == 126
        event = await reader.readexactly(int.from_bytes(first[2:4], "big"))
        assert event.startswith(b'{"type":"ADDED","object":{"kind":"ConfigMap"')
        writer.write(b"\x88\x80abcd")  # close
        rest = await reader.read()
        assert rest.startswith(b"\x88")
        writer.close()

    run(tmp_path, scenario)


def test_discovery_says_what_is_served_in_both_forms(tmp_path):
    async def scenario(api: Client):
        groups = {group["name"] for group in (await api("GET", "/apis")).json["groups"]}
        assert {"apps", "batch", "rbac.authorization.k8s.io"} <= groups
        core = (await api("GET", "/api/v1")).json
        pods = next(r for r in core["resources"] if r["name"] == "pods")
        assert pods["shortNames"] == ["po"] and "watch" in pods["verbs"]
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
        whole = await api("GET", "/apis", headers={"Accept": accept})
        assert whole.json["kind"] == "APIGroupDiscoveryList"
        assert whole.headers["content-type"].endswith("as=APIGroupDiscoveryList")
        again = await api("GET", "/apis", headers={"Accept": accept, "If-None-Match": whole.headers["etag"]})
        assert again.status == 304

    run(tmp_path, scenario)


def test_openapi_is_served_by_group_with_stable_hashes(tmp_path):
    async def scenario(api: Client):
        index = (await api("GET", "/openapi/v3")).json["paths"]
        url = index["apis/apps/v1"]["serverRelativeURL"]
        doc = await api("GET", url)
        assert doc.json["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"]
        assert "/apis/apps/v1/namespaces/{namespace}/deployments/{name}" in doc.json["paths"]
        assert doc.headers["cache-control"] == "public, immutable"
        tagged = {"If-None-Match": doc.headers["etag"]}
        assert (await api("GET", url, headers=tagged)).status == 304

    run(tmp_path, scenario)


def test_health_checks_answer_whole_and_one_by_one(tmp_path):
    async def scenario(api: Client):
        assert (await api("GET", "/readyz", token="")).body == b"ok"
        verbose = (await api("GET", "/readyz?verbose")).body.decode()
        assert "[+]etcd ok" in verbose and verbose.endswith("readyz check passed\n")
        assert (await api("GET", "/livez/ping")).body == b"ok"
        assert (await api("GET", "/livez/nope")).status == 404
        metrics = (await api("GET", "/metrics")).body
        assert b'apiserver_request_total{verb="GET"' in metrics and b"process_resident_memory_bytes" in metrics

    run(tmp_path, scenario)


def test_a_large_list_is_streamed_whole_and_compressed_if_wanted(tmp_path):
    async def scenario(api: Client):
        import gzip
        import json

        for i in range(6):
            await api("POST", MAPS, config_map(f"big{i}", a=str(i) * 500_000))
        plain = await api("GET", MAPS)
        assert plain.headers["transfer-encoding"] == "chunked"
        assert names(plain.json) == [f"big{i}" for i in range(6)]
        packed = await api("GET", MAPS, headers={"Accept-Encoding": "gzip"})
        assert json.loads(gzip.decompress(packed.body))["items"] == plain.json["items"]
        assert len(packed.body) < 100_000

    run(tmp_path, scenario)


def test_a_watch_reaches_further_back_than_the_cache_remembers(tmp_path, monkeypatch):
    monkeypatch.setattr(resource, "RECENT_CHANGES_MAX", 5)

    async def scenario(api: Client):
        version = (await api("GET", MAPS)).json["metadata"]["resourceVersion"]
        await fill(api, 30)
        await api("DELETE", f"{MAPS}/m03")
        async with api.watch(f"{MAPS}?watch=1&resourceVersion={version}") as events:
            assert await events.names(31) == [*(f"ADDED m{i:02}" for i in range(30)), "DELETED m03"]

    run(tmp_path, scenario)


def test_a_watch_in_protobuf_sends_length_prefixed_events(tmp_path):
    async def scenario(api: Client):
        await fill(api, 1)
        accept = {"Accept": "application/vnd.kubernetes.protobuf;stream=watch"}
        async with api.watch(f"{MAPS}?watch=1", accept) as events:
            assert events.headers["content-type"] == "application/vnd.kubernetes.protobuf;stream=watch"
            size = int((await events.reader.readline()).strip(), 16)
            frame = await events.reader.readexactly(size)
            assert int.from_bytes(frame[:4], "big") == size - 4
            assert b"ADDED" in frame and b"k8s\0" in frame and b"m00" in frame

    run(tmp_path, scenario)


def test_what_has_no_metadata_has_no_table(tmp_path):
    async def scenario(api: Client):
        for path in ("authorization.k8s.io/v1/selfsubjectaccessreviews", "authentication.k8s.io/v1/tokenreviews"):
            strict = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
            assert (await api("POST", f"/apis/{path}", {"spec": {}}, strict)).status == 406
        health = await api("GET", "/api/v1/componentstatuses", headers=TABLE)
        assert [row["cells"] for row in health.json["rows"]] == [["etcd-0", "Healthy", "ok", ""]]
        assert health.headers["warning"] == '299 - "v1 ComponentStatus is deprecated in v1.19+"'
        old = await api("GET", "/api/v1/namespaces/default/endpoints")
        assert "v1 Endpoints is deprecated in v1.33+" in old.headers["warning"]

    run(tmp_path, scenario)


def test_both_faces_of_events_are_found_by_their_own_fields(tmp_path):
    async def scenario(api: Client):
        new, old = "/apis/events.k8s.io/v1/namespaces/default/events", "/api/v1/namespaces/default/events"
        event = {
            "metadata": {"name": "e"},
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "example.com/c",
            "reportingInstance": "i",
            "action": "Test",
            "reason": "Test",
            "type": "Normal",
            "regarding": {"namespace": "default", "kind": "Pod", "name": "p"},
        }
        assert (await api("POST", new, event)).status == 201
        for path, field in (
            (new, "reportingController=example.com/c"),
            (new, "regarding.name=p,regarding.kind=Pod"),
            (old, "source=example.com/c"),
            (old, "reportingComponent=example.com/c"),
            (old, "involvedObject.name=p"),
        ):
            assert names((await api("GET", f"{path}?fieldSelector={quote(field)}")).json) == ["e"], field
        assert names((await api("GET", f"{new}?fieldSelector=regarding.name%3Dq")).json) == []

    run(tmp_path, scenario)
