import pytest

from peavine.machinery import schema as schema_module
from peavine.machinery.names import GVK
from peavine.machinery.schema import Schema

CORE = "io.k8s.api.core.v1."


def test_every_kind_is_found_by_its_group_version_and_kind():
    schema = Schema.load()
    deployment = schema.for_kind(GVK("apps", "v1", "Deployment"))
    assert deployment is not None and deployment.short_name == "Deployment"
    assert schema.for_kind(GVK("", "v1", "PodList")) is schema.definition(CORE + "PodList")
    assert schema.for_kind(GVK("", "v9", "Pod")) is None


def test_list_and_merge_facts_are_on_the_fields_types():
    containers = Schema.load().definition(CORE + "PodSpec").fields["containers"].type
    assert (containers.kind, containers.list_type, containers.list_map_keys) == ("list", "map", ("name",))
    assert containers.patch_merge_key == "name" and containers.patch_strategy == "merge"
    ports = containers.items.fields["ports"].type
    assert ports.list_map_keys == ("containerPort", "protocol")
    assert ports.items.fields["protocol"].default == "TCP"


def test_a_field_may_refine_the_type_it_names():
    schema = Schema.load()
    strategy = schema.definition("io.k8s.api.apps.v1.DeploymentSpec").fields["strategy"].type
    assert strategy.patch_strategy == "retainKeys" and "rollingUpdate" in strategy.fields
    assert schema.definition("io.k8s.api.apps.v1.DeploymentStrategy").patch_strategy is None
    assert schema.definition(CORE + "PodSpec").fields["nodeSelector"].type.map_type == "atomic"


def test_special_types_have_kinds_of_their_own():
    schema = Schema.load()
    limits = schema.definition(CORE + "ResourceRequirements").fields["limits"].type
    assert limits.kind == "map" and limits.items.kind == "quantity"
    assert schema.definition(CORE + "HTTPGetAction").fields["port"].type.kind == "int-or-string"
    assert schema.meta("ObjectMeta").fields["creationTimestamp"].type.kind == "time"
    assert schema.definition(CORE + "Secret").fields["data"].type.items.kind == "bytes"


def test_cyclic_types_can_be_walked_as_deep_as_one_likes():
    props = Schema.load().definition("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
    assert props.fields["properties"].type.items is props


def test_facts_of_go_types_are_joined_to_the_fields():
    fields = Schema.load().definition(CORE + "ContainerPort").fields
    assert [fields[n].number for n in ("name", "hostPort", "containerPort")] == [(1,), (2,), (3,)]
    assert not fields["containerPort"].omitempty and fields["hostPort"].omitempty
    assert Schema.load().definition(CORE + "Probe").fields["httpGet"].number == (1, 2)
    assert Schema.load().definition("io.k8s.api.apps.v1.DeploymentSpec").fields["replicas"].pointer


def test_descriptions_come_from_the_full_document():
    pod = Schema.load().definition(CORE + "Pod")
    assert pod.description.startswith("Pod is a collection of containers")


def test_an_unknown_version_is_refused():
    with pytest.raises(LookupError):
        Schema.load("1.99")


def test_a_torn_or_foreign_cache_file_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fresh = schema_module._load.__wrapped__("1.36")
    (cached,) = (tmp_path / "peavine").iterdir()
    for content in (b"", b"{}", cached.read_bytes()[:-10], b"\xff\xff\n"):
        cached.write_bytes(content)
        again = schema_module._load.__wrapped__("1.36")
        assert list(again) == list(fresh)
        assert again.for_kind(GVK("", "v1", "Pod")).fields.keys() == fresh.for_kind(GVK("", "v1", "Pod")).fields.keys()


def test_without_a_writable_cache_the_schema_still_loads(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "Pod" in schema_module._load.__wrapped__("1.36").for_kind(GVK("", "v1", "Pod")).name
