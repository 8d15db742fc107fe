"""The OpenAPI documents: complete in every form, and what kubectl makes of them."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from peavine.wire.protobuf import fields
from tests.apiserver.inside import serving
from tests.apiserver.serving import ServerProcess

PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
METHODS = {2: "get", 3: "put", 4: "post", 5: "delete", 6: "options", 7: "head", 8: "patch"}
SDK = Path("/usr/lib/google-cloud-sdk/bin")


def every(data: bytes, number: int) -> list[bytes]:
    return [data[at:end] for field, _, at, end in fields(data) if field == number]


def text(data: bytes, number: int) -> str:
    return next((value.decode() for value in every(data, number)), "")


def named(data: bytes, number: int) -> dict[str, bytes]:
    return {text(item, 1): every(item, 2)[0] for item in every(data, number)}


def schema(data: bytes) -> dict[str, Any]:
    """What a schema message says, as far as the JSON form has it too."""
    found: dict[str, Any] = {
        "$ref": text(data, 1),
        "format": text(data, 2),
        "description": text(data, 4),
        "required": [value.decode() for value in every(data, 19)],
        "type": [value.decode() for item in every(data, 22) for value in every(item, 1)],
        "properties": {name: schema(s) for item in every(data, 25) for name, s in named(item, 1).items()},
        "enum": len(every(data, 20)),
        "items": [schema(s) for item in every(data, 23) for s in every(item, 1)],
        "more": sorted(named(data, 31)),
    }
    return {key: value for key, value in found.items() if value}


def wanted(doc: dict[str, Any]) -> dict[str, Any]:
    found = {key: doc.get(key) for key in ("$ref", "format", "description", "required")}
    found["enum"] = len(doc.get("enum", ()))
    found["type"] = [doc["type"]] if "type" in doc else None
    found["properties"] = {name: wanted(s) for name, s in doc.get("properties", {}).items()}
    found["items"] = [wanted(doc["items"])] if "items" in doc else None
    found["more"] = sorted(key for key in doc if key.startswith("x-"))
    return {key: value for key, value in found.items() if value}


def test_the_second_version_is_complete_in_protobuf_too(tmp_path):
    async def main():
        async with serving(tmp_path) as api:
            doc = (await api("GET", "/openapi/v2")).json
            data = (await api("GET", "/openapi/v2", headers={"Accept": PROTOBUF})).body
        assert len(doc["definitions"]) > 600 and len(doc["paths"]) > 400
        definitions = named(every(data, 9)[0], 1)
        assert {name: schema(s) for name, s in definitions.items()} == {
            name: wanted(s) for name, s in doc["definitions"].items()
        }
        paths = {}
        for name, item in named(every(data, 8)[0], 2).items():
            operations = {METHODS[f]: text(item[at:end], 5) for f, _, at, end in fields(item) if f in METHODS}
            paths[name] = (operations, len(every(item, 9)))
        assert paths == {
            name: (
                {method: op["operationId"] for method, op in item.items() if method != "parameters"},
                len(item["parameters"]) if "parameters" in item else 0,
            )
            for name, item in doc["paths"].items()
        }
        ids = [id for operations, _ in paths.values() for id in operations.values()]
        assert len(ids) == len(set(ids)) > 800
        for id in (
            "listCoreV1PodForAllNamespaces",
            "connectCoreV1PostNamespacedPodExec",
            "patchAppsV1NamespacedDeploymentScale",
            "deleteRbacAuthorizationV1CollectionClusterRole",
            "watchBatchV1NamespacedJobList",
            "getAppsAPIGroup",
            "createAuthenticationV1TokenReview",
        ):
            assert id in ids

    asyncio.run(main())


def test_every_document_of_the_third_version_holds_all_that_it_mentions(tmp_path):
    def mentioned(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"].rpartition("/")[2]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*map(mentioned, value.values()))
        return set().union(*map(mentioned, value)) if isinstance(value, list) else set()

    async def main():
        async with serving(tmp_path) as api:
            index = (await api("GET", "/openapi/v3")).json["paths"]
            assert {"api", "apis", "version", "apis/apps", "apis/apps/v1"} <= set(index)
            for section, place in index.items():
                doc = (await api("GET", place["serverRelativeURL"])).json
                assert doc["paths"], section
                assert mentioned(doc) <= set(doc["components"]["schemas"]), section

    asyncio.run(main())


@pytest.mark.slow
def test_every_kubectl_explains_the_same(tmp_path):
    binaries = [SDK / f"kubectl.1.{minor}" for minor in (27, 30, 33)]
    if not all(binary.exists() for binary in binaries):
        pytest.skip("needs kubectl 1.27, 1.30 and 1.33")
    with ServerProcess(tmp_path) as server:

        def explain(binary: Path, *args: str) -> list[str]:
            command = [str(binary), "--kubeconfig", str(server.kubeconfig), "explain", "--recursive", *args]
            environment = {**os.environ, "HOME": str(tmp_path)}
            shown = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
            assert shown.returncode == 0, shown.stderr
            return [line for line in shown.stdout.splitlines() if line.strip()]

        for kind in ("pods", "statefulsets.spec.template", "customresourcedefinitions"):
            first, second, third = (explain(binary, kind) for binary in binaries)
            assert second == third, kind
            # The oldest does not show the values of enumerations.
            assert first == [line for line in third if not line.strip().startswith("enum: ")], kind
            assert len(third) > 80
        policy = explain(binaries[2], "pod.spec.containers")
        assert any("enum: Always, IfNotPresent, Never" in line for line in policy)
        old = explain(binaries[0], "--output=plaintext-openapiv2", "pods")
        assert len(old) > 1000 and any("terminationGracePeriodSeconds" in line for line in old)
