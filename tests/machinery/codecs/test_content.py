# ruff: noqa: E501
import pytest

from peavine.machinery.codecs import content
from peavine.machinery.codecs.content import JSON, PROTOBUF, YAML, negotiate
from peavine.machinery.errors import ApiError
from peavine.machinery.names import GVK
from peavine.machinery.schema import Schema

CONFIG_MAP = GVK("", "v1", "ConfigMap")
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"


@pytest.mark.parametrize(
    ("accept", "media_type", "kind"),
    [
        (None, JSON, ""), ("*/*", JSON, ""), ("application/*", JSON, ""), ("application/yaml", YAML, ""),
        (f"{TABLE},application/json", JSON, "Table"), ("application/vnd.kubernetes.protobuf,application/json", PROTOBUF, ""),
        ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json", JSON, ""),
        ("application/json;q=0.1,application/yaml", YAML, ""), ("text/html,application/json;q=0.9", JSON, ""),
        ("application/json;as=Nonsense;g=meta.k8s.io;v=v1,application/json", JSON, ""),
        ("application/json; as=PartialObjectMetadata; g=meta.k8s.io; v=v1beta1", JSON, "PartialObjectMetadata"),
    ],
)  # fmt: skip
def test_the_best_form_that_can_be_met_is_chosen(accept, media_type, kind):
    output = negotiate(accept)
    assert (output.media_type, output.kind) == (media_type, kind)


@pytest.mark.parametrize("accept", ["text/csv", "application/json;as=Foo;g=meta.k8s.io;v=v1", "application/json;q=0"])
def test_what_cannot_be_met_is_406(accept):
    with pytest.raises(ApiError) as error:
        negotiate(accept)
    assert (error.value.code, error.value.reason) == (406, "NotAcceptable")


def test_pretty_printing():
    assert negotiate("application/json;pretty=1").pretty
    assert content.wants_pretty(None, "curl/8") and not content.wants_pretty(None, "kubectl")
    assert content.wants_pretty("true", "") and not content.wants_pretty("false", "curl/8")


def test_bodies_of_unknown_types_are_415():
    assert content.body_media_type("application/json; charset=utf-8") == JSON
    with pytest.raises(ApiError) as error:
        content.body_media_type("text/csv")
    assert error.value.message == (
        "the body of the request was in an unknown format - accepted media types include: application/json, "
        "application/yaml, application/vnd.kubernetes.protobuf"
    )


def decode(body, media_type=JSON, validation="Strict"):
    return content.decode_object(body, media_type, CONFIG_MAP, Schema.load().for_kind(CONFIG_MAP), validation)


UNRECOGNIZED = "the object provided is unrecognized (must be of type ConfigMap): "
HANDLED = 'ConfigMap in version "v1" cannot be handled as a ConfigMap: '


@pytest.mark.parametrize(
    ("media_type", "body", "message"),
    [
        (JSON, b"", UNRECOGNIZED + "couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)"),
        (JSON, b"[]", UNRECOGNIZED + "couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of "
         r'type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" } (5b5d)'),
        (JSON, b'{"apiVersion":"v1","kind":"Secret"}', 'Secret in version "v1" cannot be handled as a ConfigMap: '
         "converting (v1.Secret) to (core.ConfigMap): unknown conversion"),
        (JSON, b'{"apiVersion":"v9","kind":"ConfigMap"}', 'ConfigMap in version "v9" cannot be handled as a ConfigMap: no kind '
         '"ConfigMap" is registered for version "v9" in scheme "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"'),
        (JSON, b'{"data":{"a":"1","a":"2"},"x":1}', HANDLED + 'strict decoding error: duplicate field "data.a", unknown field "x"'),
        (YAML, b"a: b: c", UNRECOGNIZED + "yaml: mapping values are not allowed in this context (613a20623a2063)"),
        (YAML, b"data: {a: 1}", HANDLED + "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"),
        (YAML, b"data: {a: x, a: z}", HANDLED + "strict decoding error: error converting YAML to JSON: yaml: unmarshal errors:\n"
         '  line 1: key "a" already set in map'),
    ],
)  # fmt: skip
def test_bad_bodies_are_refused_in_upstreams_words(media_type, body, message):
    with pytest.raises(ApiError) as error:
        decode(body, media_type)
    assert error.value.code == 400 and error.value.message == message


def test_kind_and_version_are_those_of_the_endpoint_when_left_out():
    obj, warnings = decode(b'{"data":{"a":"1","a":"2"},"x":1}', validation="Warn")
    assert obj == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"a": "2"}}
    assert warnings == ['duplicate field "data.a"', 'unknown field "x"']
