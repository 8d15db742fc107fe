"""Feature gates: their defaults by version, what may be set, and which fields they guard."""

import pytest

from peavine.machinery.decode import DecodeError, decode, decode_plain
from peavine.machinery.features import Features, known_gates, parse_gates
from peavine.machinery.names import GVK
from peavine.machinery.schema import Schema

JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}}


def job_spec(version, settings=None, **spec):
    schema = Schema.load(version).without(Features(version, settings).disabled_fields())
    type = schema.for_kind(GVK("batch", "v1", "Job"))
    return decode({**JOB, "spec": spec}, type)[0]["spec"]


def test_no_guarded_field_came_before_its_gate():
    for gate in known_gates().values():
        for definition, field in gate.fields:
            having = [
                minor
                for minor in range(25, 38)
                if definition in (schema := Schema.load(f"1.{minor}")) and field in schema.definition(definition).fields
            ]
            assert having and having[0] >= gate.history[0][0], (gate.name, definition, field)


def test_a_field_of_an_alpha_feature_is_dropped_unless_the_gate_is_on():
    assert "successPolicy" not in job_spec("1.30", successPolicy={"rules": []}, template={})
    assert "successPolicy" in job_spec("1.30", {"JobSuccessPolicy": True}, successPolicy={"rules": []}, template={})
    assert "successPolicy" in job_spec("1.31", successPolicy={"rules": []}, template={})
    assert "successPolicy" not in job_spec(
        "1.31", {"JobSuccessPolicy": False}, successPolicy={"rules": []}, template={}
    )


def test_a_dropped_field_must_still_be_right():
    schema = Schema.load("1.37").without(Features("1.37").disabled_fields())
    empty_dir = schema.definition("io.k8s.api.core.v1.EmptyDirVolumeSource")
    assert decode_plain({"mode": 0o700, "medium": "Memory"}, empty_dir)[0] == {"medium": "Memory"}
    with pytest.raises(DecodeError, match="cannot unmarshal array"):
        decode_plain({"mode": [1]}, empty_dir)


def test_other_users_of_the_schema_see_every_field():
    Schema.load("1.37").without(Features("1.37").disabled_fields())
    fields = Schema.load("1.37").definition("io.k8s.api.core.v1.EmptyDirVolumeSource").fields
    assert not fields["mode"].disabled


def test_stages_are_those_of_the_version():
    assert {name: (stage, on) for name, stage, on in Features("1.31")}["ImageVolume"] == ("ALPHA", False)
    assert {name: (stage, on) for name, stage, on in Features("1.33")}["ImageVolume"] == ("BETA", False)
    assert Features("1.35").enabled("ImageVolume") and not Features("1.30").enabled("ImageVolume")


def test_all_alpha_and_all_beta_are_overruled_by_a_name():
    on = Features("1.37", {"AllAlpha": True, "EmptyDirVolumeMode": False})
    assert on.enabled("WorkloadWithJob") and not on.enabled("EmptyDirVolumeMode")
    assert not Features("1.37", {"AllBeta": False}).enabled("EnvFiles")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Nonsense=true", "unrecognized feature gate: Nonsense"),
        ("JobSuccessPolicy=false", "feature is locked to true"),
        ("EnvFiles", "missing bool value for EnvFiles"),
        ("EnvFiles=maybe", "invalid value of EnvFiles=maybe"),
    ],
)
def test_wrong_settings_are_refused_in_upstreams_words(text, error):
    with pytest.raises(ValueError, match=error):
        Features("1.37", parse_gates(text))
