"""The catalogue serves what a default v1.37 kube-apiserver serves."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kubernetes_validate import utils

from peavine.api.catalogue import CATALOGUE
from peavine.machinery.names import GVK


def definitions() -> dict:
    path = Path(utils.__file__).parent / "kubernetes-json-schema" / "v1.37.0-local" / "_definitions.json"
    return json.loads(path.read_text())["$defs"]


def test_every_kind_has_its_type_in_the_schema() -> None:
    known = definitions()
    assert [k for k in CATALOGUE.kinds() if k.definition not in known] == []


def test_every_stable_kind_of_the_schema_is_served() -> None:
    served = {k.gvk for k in CATALOGUE._by_gvk.values()}
    meta = {"APIGroup", "APIVersions", "Status", "DeleteOptions", "WatchEvent"}
    missing = set()
    for type_ in definitions().values():
        for gvk in type_.get("x-kubernetes-group-version-kind", []):
            kind = GVK(gvk["group"], gvk["version"], gvk["kind"])
            stable = kind.version in ("v1", "v2")
            if stable and not kind.kind.endswith("List") and kind.kind not in meta and kind not in served:
                missing.add(kind)
    assert missing == set()


@pytest.mark.parametrize(
    ("gvr", "key"),
    [
        (("", "v1", "pods"), "/registry/pods/ns/x"),
        (("", "v1", "services"), "/registry/services/specs/ns/x"),
        (("", "v1", "endpoints"), "/registry/services/endpoints/ns/x"),
        (("", "v1", "nodes"), "/registry/minions/x"),
        (("networking.k8s.io", "v1", "ingresses"), "/registry/ingress/ns/x"),
        (("apiregistration.k8s.io", "v1", "apiservices"), "/registry/apiregistration.k8s.io/apiservices/x"),
        (("events.k8s.io", "v1", "events"), "/registry/events/ns/x"),
    ],
)
def test_storage_keys_are_laid_out_as_upstream_does(gvr: tuple[str, str, str], key: str) -> None:
    kind = CATALOGUE.resource(*gvr)
    assert kind is not None and kind.key("ns", "x") == key


def test_storage_version_hashes_are_those_that_clients_know() -> None:
    hashes = {k.plural: k.storage_version_hash for k in CATALOGUE.kinds()}
    assert hashes["pods"] == "xPOwRZ+Yhw8="
    assert hashes["events"] == "r2yiGXH7wu8="
    assert hashes["bindings"] == ""


def golden(name: str) -> list[dict]:
    path = Path(os.environ.get("PEAVINE_GOLDEN", Path(__file__).parents[3] / "shared" / "golden")) / name
    if not path.exists():
        pytest.skip("no golden exchanges on this machine (PEAVINE_GOLDEN)")
    return [json.loads(line) for line in gzip.open(path, "rt")]


def test_discovery_agrees_with_what_a_real_server_showed() -> None:
    gone = {("", "pods/eviction", "version")}  # policy/v1 since 1.22
    differences = []
    for exchange in golden("exchanges.jsonl.gz"):
        if exchange["scenario"] != "discovery" or exchange["response"].get("kind") != "APIResourceList":
            continue
        group, _, version = exchange["response"]["groupVersion"].rpartition("/")
        for want in exchange["response"]["resources"]:
            plural, _, sub = want["name"].partition("/")
            kind = CATALOGUE.resource(group, version, plural)
            if kind is None or (sub and sub not in kind.subresources):
                differences.append((group, want["name"], "missing"))
                continue
            s = kind.subresources[sub] if sub else None
            got = {
                "kind": s.kind if s else kind.kind,
                "namespaced": kind.namespaced,
                "verbs": list(s.verbs if s else kind.verbs),
                "shortNames": list(kind.short_names) if not s else [],
                "categories": list(kind.categories) if not s else [],
                "group": s.group if s else "",
                "version": s.version if s else "",
            }
            for field, value in got.items():
                expected = want.get(field, type(value)())
                new_verbs = field == "verbs" and set(expected) < set(value)  # services got deletecollection in 1.23
                if value != expected and not new_verbs and (group, want["name"], field) not in gone:
                    differences.append((group, want["name"], field, value, expected))
    assert differences == []


def test_importing_the_catalogue_imports_no_rules() -> None:
    code = "import sys, peavine.api.catalogue; print([m for m in sys.modules if m.startswith('peavine.api.')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "peavine.api.core" not in found and "peavine.api.rbac" not in found
