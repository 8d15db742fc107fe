"""CBOR is spoken wherever JSON is, where the gate CBORServingAndStorage is on; else nothing is known of it."""

from __future__ import annotations

import asyncio

from peavine.machinery.codecs import cbor
from tests.apiserver.customresources.test_custom_resources import CRDS, WIDGETS, definition, established, widget
from tests.apiserver.inside import MAPS, config_map, serving

CBOR, APPLY = "application/cbor", "application/apply-patch+cbor"
SECRETS = "/api/v1/namespaces/default/secrets"


def test_objects_lists_patches_statuses_and_watches_in_cbor(tmp_path):
    async def main():
        async with serving(tmp_path, feature_gates={"CBORServingAndStorage": True}) as api:
            both = {"Content-Type": CBOR, "Accept": CBOR}
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "AQID"}}
            made = await api("POST", SECRETS, cbor.encode(secret), both)
            assert made.status == 201 and made.headers["content-type"] == CBOR
            assert b"\xd6\x43\x01\x02\x03" in made.body and cbor.decode(made.body)["data"] == secret["data"]
            kept = await api("PUT", f"{SECRETS}/s", made.body, both)
            assert cbor.decode(kept.body) == cbor.decode(made.body)
            listed = cbor.decode((await api("GET", SECRETS, headers=both)).body)
            assert [item["metadata"]["name"] for item in listed["items"]] == ["s"]

            config = cbor.encode(config_map("m"))
            applied = await api("PATCH", f"{MAPS}/m?fieldManager=x", config, {**both, "Content-Type": APPLY})
            assert applied.status == 201, applied.body
            assert cbor.decode(applied.body)["metadata"]["managedFields"][0]["operation"] == "Apply"
            missing = await api("GET", f"{MAPS}/nope", headers=both)
            assert missing.status == 404 and cbor.decode(missing.body)["reason"] == "NotFound"
            bad = await api("POST", SECRETS, b"\xa1", both)
            assert bad.status == 400 and "unexpected EOF" in cbor.decode(bad.body)["message"]
            gone = await api("DELETE", f"{MAPS}/m", cbor.encode({"propagationPolicy": "Background"}), both)
            assert cbor.decode(gone.body)["status"] == "Success"

            async with api.watch(f"{SECRETS}?watch=1", {"Accept": CBOR}) as events:
                assert events.headers["content-type"] == "application/cbor-seq"
                size = int(await events.reader.readline(), 16)
                event = cbor.decode(await events.reader.readexactly(size))
                assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "s")

            await api("POST", CRDS, definition())
            await established(api, "widgets.example.com")
            made = await api("POST", WIDGETS, cbor.encode(widget("w", size=2)), both)
            assert made.status == 201 and cbor.decode(made.body)["spec"]["size"] == 2, made.body
            wrong = await api("PATCH", f"{WIDGETS}/w", b"", {"Content-Type": "text/plain"})
            assert wrong.status == 415 and APPLY in wrong.json["message"]

    asyncio.run(main())


def test_without_the_feature_cbor_is_not_spoken(tmp_path):
    async def main():
        async with serving(tmp_path) as api:
            assert (await api("GET", MAPS, headers={"Accept": CBOR})).status == 406
            assert (await api("GET", MAPS, headers={"Accept": f"{CBOR},application/json"})).json["items"] == []
            assert (await api("POST", MAPS, cbor.encode(config_map("m")), {"Content-Type": CBOR})).status == 415
            refused = await api("PATCH", f"{MAPS}/m?fieldManager=x", b"", {"Content-Type": APPLY})
            assert refused.status == 415 and "cbor" not in refused.json["message"]

    asyncio.run(main())
