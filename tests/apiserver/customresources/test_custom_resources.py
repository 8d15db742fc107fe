"""Custom resources through the whole server, inside the test's loop."""

import asyncio
import contextlib

import pytest

from tests.apiserver.inside import serving

GROUP = "/apis/example.com/v1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

SPEC = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1},
        "color": {"type": "string", "default": "red", "enum": ["red", "blue"]},
        "replicas": {"type": "integer", "default": 1},
        "ports": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["port"],
            "items": {
                "type": "object",
                "required": ["port"],
                "properties": {"port": {"type": "integer"}, "name": {"type": "string"}},
            },
        },
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
    "x-kubernetes-validations": [
        {"rule": "self.size < 100", "message": "too large"},
        {"rule": "self.size >= oldSelf.size", "message": "may not shrink"},
    ],
}


def version(name="v1", **more):
    found = {
        "name": name,
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "properties": {
                    "spec": SPEC,
                    "status": {"type": "object", "properties": {"ready": {"type": "integer"}}},
                },
            }
        },
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.ready"},
        },
        "additionalPrinterColumns": [
            {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
        "selectableFields": [{"jsonPath": ".spec.color"}],
    }
    return {**found, **more}


def definition(*versions, plural="widgets", kind="Widget", **names):
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "shortNames": ["wd"], **names}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {k: v for k, v in names.items() if v},
            "versions": list(versions) or [version()],
        },
    }


def widget(name, api_version="example.com/v1", **spec):
    return {"apiVersion": api_version, "kind": "Widget", "metadata": {"name": name}, "spec": spec}


WIDGETS = f"{GROUP}/namespaces/default/widgets"


@contextlib.asynccontextmanager
async def server(tmp_path, *definitions):
    async with serving(tmp_path) as client:
        for body in definitions:
            answer = await client("POST", CRDS, body)
            assert answer.status == 201, answer.json
            await established(client, body["metadata"]["name"])
        yield client


async def until(ready, seconds=5.0):
    """Poll, as any client must: the answer of `ready` once it is not None."""
    async with asyncio.timeout(seconds):
        while (found := await ready()) is None:
            await asyncio.sleep(0.01)
    return found


async def established(client, name):
    async def ready():
        crd = (await client("GET", f"{CRDS}/{name}")).json
        conditions = {c["type"]: c["status"] for c in (crd.get("status") or {}).get("conditions") or []}
        if conditions.get("Established") != "True":
            return None
        group, plural = crd["spec"]["group"], crd["spec"]["names"]["plural"]
        served = next(v["name"] for v in crd["spec"]["versions"] if v["served"])
        return crd if (await client("GET", f"/apis/{group}/{served}/{plural}")).status == 200 else None

    return await until(ready)


async def test_a_definition_becomes_established_and_is_discovered(tmp_path):
    async with server(tmp_path, definition()) as client:
        crd = (await client("GET", f"{CRDS}/widgets.example.com")).json
        assert crd["status"]["acceptedNames"]["kind"] == "Widget"
        assert {c["type"]: c["reason"] for c in crd["status"]["conditions"]} == {
            "NamesAccepted": "NoConflicts",
            "Established": "InitialNamesAccepted",
        }
        assert crd["status"]["storedVersions"] == ["v1"]
        listed = {r["name"]: r for r in (await client("GET", GROUP)).json["resources"]}
        assert set(listed) == {"widgets", "widgets/status", "widgets/scale"}
        assert listed["widgets"]["shortNames"] == ["wd"]
        groups = [g["name"] for g in (await client("GET", "/apis")).json["groups"]]
        assert "example.com" in groups
        openapi = (await client("GET", "/openapi/v3/apis/example.com/v1")).json
        assert "com.example.v1.Widget" in openapi["components"]["schemas"]


async def test_objects_are_defaulted_pruned_and_validated(tmp_path):
    async with server(tmp_path, definition()) as client:
        answer = await client("POST", WIDGETS, widget("a", size=2, unknown=1, free={"any": [1]}))
        assert answer.status == 201, answer.json
        assert answer.json["spec"] == {"size": 2, "color": "red", "replicas": 1, "free": {"any": [1]}}
        assert answer.json["metadata"]["generation"] == 1
        assert "unknown field" in answer.headers.get("warning", "")
        strict = await client("POST", WIDGETS + "?fieldValidation=Strict", widget("s", size=2, unknown=1))
        assert strict.status == 400 and 'strict decoding error: unknown field "spec.unknown"' in strict.json["message"]
        wrong = await client("POST", WIDGETS, widget("b", size=0, color="green"))
        assert wrong.status == 422
        assert 'Widget.example.com "b" is invalid' in wrong.json["message"]
        assert {c["field"] for c in wrong.json["details"]["causes"]} == {"spec.size", "spec.color"}
        twice = await client("POST", WIDGETS, widget("c", size=1, ports=[{"port": 1}, {"port": 1}]))
        assert twice.status == 422 and "Duplicate value" in twice.json["message"]


async def test_rules_hold_on_create_and_see_the_old_object_on_update(tmp_path):
    async with server(tmp_path, definition()) as client:
        refused = await client("POST", WIDGETS, widget("a", size=100))
        assert refused.status == 422
        assert 'spec: Invalid value: "object": too large' in refused.json["message"]
        live = (await client("POST", WIDGETS, widget("a", size=5))).json
        merge = {"Content-Type": "application/merge-patch+json"}
        shrunk = await client("PATCH", f"{WIDGETS}/a", {"spec": {"size": 4}}, merge)
        assert shrunk.status == 422 and "may not shrink" in shrunk.json["message"]
        grown = await client("PATCH", f"{WIDGETS}/a", {"spec": {"size": 6}}, merge)
        assert grown.status == 200 and grown.json["metadata"]["generation"] == live["metadata"]["generation"] + 1
        unversioned = await client("PUT", f"{WIDGETS}/a", widget("a", size=7))
        assert unversioned.status == 422 and "must be specified for an update" in unversioned.json["message"]


async def test_status_and_scale_are_endpoints_of_their_own(tmp_path):
    async with server(tmp_path, definition()) as client:
        live = (await client("POST", WIDGETS, {**widget("a", size=2), "status": {"ready": 9}})).json
        assert "status" not in live
        live["status"], live["spec"]["size"] = {"ready": 1}, 50
        updated = await client("PUT", f"{WIDGETS}/a/status", live)
        assert updated.status == 200, updated.json
        assert (updated.json["status"], updated.json["spec"]["size"]) == ({"ready": 1}, 2)
        assert updated.json["metadata"]["generation"] == 1
        scale = (await client("GET", f"{WIDGETS}/a/scale")).json
        assert (scale["kind"], scale["spec"], scale["status"]) == ("Scale", {"replicas": 1}, {"replicas": 1})
        scale["spec"]["replicas"] = 3
        assert (await client("PUT", f"{WIDGETS}/a/scale", scale)).status == 200
        assert (await client("GET", f"{WIDGETS}/a")).json["spec"]["replicas"] == 3


async def test_tables_selectors_watches_and_apply_work_as_for_built_in_kinds(tmp_path):
    async with server(tmp_path, definition()) as client:
        await client("POST", WIDGETS, widget("a", size=2, color="blue"))
        table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        found = (await client("GET", WIDGETS, headers=table)).json
        assert [c["name"] for c in found["columnDefinitions"]] == ["Name", "Size", "Age"]
        assert found["rows"][0]["cells"][:2] == ["a", 2]
        by_field = (await client("GET", WIDGETS + "?fieldSelector=spec.color%3Dblue")).json
        assert [o["metadata"]["name"] for o in by_field["items"]] == ["a"]
        assert (await client("GET", WIDGETS + "?fieldSelector=spec.size%3D2")).status == 400
        async with client.watch(WIDGETS + "?watch=1") as events:
            assert await events.names(1) == ["ADDED a"]
            applied = await client(
                "PATCH",
                f"{WIDGETS}/b?fieldManager=me",
                widget("b", size=1, ports=[{"port": 80}]),
                {"Content-Type": "application/apply-patch+yaml"},
            )
            assert applied.status == 201, applied.json
            assert await events.names(1) == ["ADDED b"]
        fields = applied.json["metadata"]["managedFields"][0]["fieldsV1"]
        assert fields["f:spec"]["f:ports"] == {'k:{"port":80}': {".": {}, "f:port": {}}}


async def test_names_already_taken_are_not_accepted_until_they_are_free(tmp_path):
    async with server(tmp_path, definition()) as client:
        rival = definition(plural="wheels", kind="Wheel")  # wants the short name wd too
        assert (await client("POST", CRDS, rival)).status == 201

        async def refused():
            crd = (await client("GET", f"{CRDS}/wheels.example.com")).json
            found = {c["type"]: c for c in crd["status"].get("conditions") or []}
            return found if "NamesAccepted" in found else None

        conditions = await until(refused)
        assert (conditions["NamesAccepted"]["status"], conditions["NamesAccepted"]["reason"]) == (
            "False",
            "ShortNamesConflict",
        )
        assert conditions["Established"]["status"] == "False"
        assert (await client("GET", f"{GROUP}/wheels")).status == 404
        await client("DELETE", f"{CRDS}/widgets.example.com")
        await established(client, "wheels.example.com")


async def test_deleting_a_definition_deletes_its_objects_and_ends_its_serving(tmp_path):
    async with server(tmp_path, definition()) as client:
        for name in "ab":
            assert (await client("POST", WIDGETS, widget(name, size=1))).status == 201
        await client("DELETE", f"{CRDS}/widgets.example.com")

        async def gone():
            crd = await client("GET", f"{CRDS}/widgets.example.com")
            widgets = await client("GET", WIDGETS)
            return True if crd.status == 404 and widgets.status == 404 else None

        await until(gone)
        assert (await client.server.store.range("/registry/example.com/widgets/")).items == []
        await client("POST", CRDS, definition())
        await established(client, "widgets.example.com")
        assert (await client("GET", WIDGETS)).json["items"] == []


async def test_versions_convert_by_name_and_each_has_its_schema(tmp_path):
    old = version("v1beta1", storage=False, selectableFields=[])
    old["schema"] = {
        "openAPIV3Schema": {
            "type": "object",
            "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer", "maximum": 10}}}},
        }
    }
    async with server(tmp_path, definition(version(), old)) as client:
        beta = "/apis/example.com/v1beta1/namespaces/default/widgets"
        assert (await client("POST", WIDGETS, widget("a", size=20, color="blue"))).status == 201
        seen = (await client("GET", f"{beta}/a")).json
        assert (seen["apiVersion"], seen["spec"]) == ("example.com/v1beta1", {"size": 20})
        refused = await client("POST", beta, widget("b", "example.com/v1beta1", size=11))
        assert refused.status == 422, refused.json
        made = await client("POST", beta, widget("b", "example.com/v1beta1", size=3))
        assert made.status == 201 and made.json["apiVersion"] == "example.com/v1beta1"
        assert (await client("GET", f"{WIDGETS}/b")).json["apiVersion"] == "example.com/v1"


async def test_a_changed_schema_holds_at_once_for_old_objects_too(tmp_path):
    async with server(tmp_path, definition()) as client:
        await client("POST", WIDGETS, widget("a", size=2))
        crd = (await client("GET", f"{CRDS}/widgets.example.com")).json
        spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        spec["properties"]["shape"] = {"type": "string", "default": "round"}
        assert (await client("PUT", f"{CRDS}/widgets.example.com", crd)).status == 200

        async def reshaped():
            found = (await client("GET", f"{WIDGETS}/a")).json
            return found if found["spec"].get("shape") == "round" else None

        await until(reshaped)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rule": "self.nope == 1"}, "undefined field 'nope'"),
        ({"rule": "self.size"}, "must evaluate to a bool"),
    ],
)
async def test_a_definition_with_a_rule_that_cannot_be_is_refused(tmp_path, change, says):
    async with serving(tmp_path) as client:
        broken = version()
        schema = broken["schema"]["openAPIV3Schema"]["properties"]
        schema["spec"] = {**SPEC, "x-kubernetes-validations": [change]}
        answer = await client("POST", CRDS, definition(broken))
        assert answer.status == 422 and says in answer.json["message"]
        assert "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]" in answer.json["message"]


async def test_custom_resources_are_served_again_after_a_restart(tmp_path):
    from peavine.store import open_store

    store = await open_store(f"sqlite://{tmp_path}/state.db")
    async with serving(tmp_path, store) as client:
        await client("POST", CRDS, definition())
        await established(client, "widgets.example.com")
        assert (await client("POST", WIDGETS, widget("a", size=1))).status == 201
    store = await open_store(f"sqlite://{tmp_path}/state.db")
    async with serving(tmp_path, store) as client:
        assert (await client("GET", f"{WIDGETS}/a")).json["spec"]["size"] == 1


async def test_a_status_by_default_is_there_from_the_start(tmp_path):
    own = version()
    schema = own["schema"]["openAPIV3Schema"]
    schema["properties"]["status"] = {
        "type": "object",
        "default": {"phase": "Pending"},
        "properties": {"phase": {"type": "string"}},
    }
    async with server(tmp_path, definition(own)) as client:
        made = await client("POST", WIDGETS, {**widget("a", size=1), "status": {"phase": "Mine"}})
        assert made.json["status"] == {"phase": "Pending"}
        assert (await client("GET", f"{WIDGETS}/a")).json["status"] == {"phase": "Pending"}


async def test_a_schema_of_any_form_is_published_without_words(tmp_path):
    free = version(schema={"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}})
    async with server(tmp_path, definition({**free, "selectableFields": []})) as client:
        old = (await client("GET", "/openapi/v2")).json["definitions"]["com.example.v1.Widget"]
        gvk = [{"group": "example.com", "kind": "Widget", "version": "v1"}]
        assert old == {"type": "object", "x-kubernetes-group-version-kind": gvk}
        new = (await client("GET", "/openapi/v3/apis/example.com/v1")).json["components"]["schemas"]
        assert new["com.example.v1.Widget"]["x-kubernetes-preserve-unknown-fields"] is True


async def test_the_stored_version_can_change_and_old_objects_stay_readable(tmp_path):
    async with server(tmp_path, definition()) as client:
        await client("POST", WIDGETS, widget("old", size=1))
        crd = (await client("GET", f"{CRDS}/widgets.example.com")).json
        crd["spec"]["versions"] = [version(storage=False), version("v2")]
        changed = await client("PUT", f"{CRDS}/widgets.example.com", crd)
        assert changed.status == 200 and changed.json["status"]["storedVersions"] == ["v1", "v2"]
        second = WIDGETS.replace("v1", "v2")

        async def served():
            found = await client("GET", f"{second}/old")
            return found.json if found.status == 200 else None

        assert (await until(served))["apiVersion"] == "example.com/v2"
        assert (await client("POST", WIDGETS, widget("new", size=2))).json["apiVersion"] == "example.com/v1"
        stored = await client.server.store.get("/registry/example.com/widgets/default/new")
        assert b'"apiVersion":"example.com/v2"' in stored[0].value
        names = [o["metadata"]["name"] for o in (await client("GET", WIDGETS)).json["items"]]
        assert names == ["new", "old"]
        dropped = (await client("GET", f"{CRDS}/widgets.example.com")).json
        dropped["spec"]["versions"] = [version("v2")]
        refused = await client("PUT", f"{CRDS}/widgets.example.com", dropped)
        assert refused.status == 422 and "status.storedVersions[0]" in refused.json["message"]


async def test_a_deprecated_version_warns_and_one_not_served_is_not_there(tmp_path):
    old = version("v1beta1", storage=False, deprecated=True)
    hidden = version("v1alpha1", storage=False, served=False)
    async with server(tmp_path, definition(version(), old, hidden)) as client:
        beta = WIDGETS.replace("v1", "v1beta1")
        made = await client("POST", beta, widget("a", "example.com/v1beta1", size=1))
        assert made.status == 201
        seen = await client("GET", beta + "/a")
        assert "example.com/v1beta1 Widget is deprecated" in made.headers["warning"] + seen.headers["warning"]
        assert (await client("GET", WIDGETS.replace("v1", "v1alpha1"))).status == 404
