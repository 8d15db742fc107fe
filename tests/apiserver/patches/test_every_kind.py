"""Server-side apply and the three other patches on every kind of the recorded exchanges, through the whole server."""

import copy
import gzip
import json
from pathlib import Path

from tests.apiserver.inside import serving

RECORDED = Path(__file__).parents[2] / "golden" / "exchanges.jsonl.gz"
APPLY = {"Content-Type": "application/apply-patch+yaml"}
# Somebody else writes these too: controllers of the server itself, or admission.
RESTLESS = {"kind/crd", "kind/apiservice", "kind/node"}


def recorded():
    """scenario -> (path of the collection, body) of every create that succeeded under a name of its own."""
    found = {}
    with gzip.open(RECORDED, "rt") as lines:
        for exchange in map(json.loads, lines):
            scenario, body = exchange["scenario"], exchange.get("body")
            made = exchange["method"] == "POST" and exchange["code"] == 201 and scenario.startswith("kind/")
            if made and isinstance(body, dict) and body.get("metadata", {}).get("name") and body["kind"] != "Pod":
                found.setdefault(scenario, (exchange["path"].split("?")[0], body))
    return found


async def test_every_kind_can_be_applied_again_shared_and_patched(tmp_path):
    async with serving(tmp_path) as client:
        home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "golden"}}
        assert (await client("POST", "/api/v1/namespaces", home)).status == 201
        for scenario, (path, body) in recorded().items():
            path = f"{path}/{body['metadata']['name']}"
            made = await client("PATCH", f"{path}?fieldManager=me&fieldValidation=Strict", body, APPLY)
            assert made.status == 201, (scenario, made.json)
            own = [e for e in made.json["metadata"]["managedFields"] if e["manager"] == "me"]
            assert [e["operation"] for e in own] == ["Apply"], scenario

            again = await client("PATCH", f"{path}?fieldManager=me", body, APPLY)
            assert again.status == 200, (scenario, again.json)
            if scenario not in RESTLESS:
                assert again.json["metadata"]["resourceVersion"] == made.json["metadata"]["resourceVersion"], scenario

            head = {"apiVersion": body["apiVersion"], "kind": body["kind"]}
            label = {**head, "metadata": {"name": body["metadata"]["name"], "labels": {"x": "y"}}}
            other = await client("PATCH", f"{path}?fieldManager=other", label, APPLY)
            assert other.status == 200 and other.json["metadata"]["labels"]["x"] == "y", (scenario, other.json)
            rival = copy.deepcopy(label)
            rival["metadata"]["labels"]["x"] = "z"
            conflict = await client("PATCH", f"{path}?fieldManager=rival", rival, APPLY)
            assert conflict.status == 409, scenario
            assert conflict.json["message"] == 'Apply failed with 1 conflict: conflict with "other": .metadata.labels.x'

            for kind, patch in (
                ("merge-patch", {"metadata": {"annotations": {"m": "1"}}}),
                ("strategic-merge-patch", {"metadata": {"annotations": {"s": "2"}}}),
                ("json-patch", [{"op": "add", "path": "/metadata/annotations/j", "value": "3"}]),
            ):
                patched = await client("PATCH", path, patch, {"Content-Type": f"application/{kind}+json"})
                assert patched.status == 200, (scenario, kind, patched.json)
            annotations = patched.json["metadata"]["annotations"]
            assert (annotations["m"], annotations["s"], annotations["j"]) == ("1", "2", "3"), scenario
