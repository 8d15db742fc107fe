"""CVE-2021-25743: what others wrote into the cluster cannot drive the terminal of who looks at it."""

import json

import pytest

SEQUENCE = "\x1b]0;owned\x07\x1b[2Jharmless"


@pytest.fixture(scope="module")
def written(cluster, tmp_path_factory):
    """An event whose message, and an image whose name, hold escape sequences."""
    meta = {"name": "loud", "namespace": "default"}
    involved = {"kind": "ConfigMap", "name": SEQUENCE, "namespace": "default", "apiVersion": "v1"}
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": meta,
        "involvedObject": involved,
        "message": SEQUENCE,
        "reason": SEQUENCE,
        "type": "Warning",
        "source": {"component": SEQUENCE},
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"k": SEQUENCE}}
    file = tmp_path_factory.mktemp("written") / "all.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [event, config_map]}))
    return file


@pytest.mark.parametrize(
    "command",
    [
        "get events",
        "get events -o wide",
        "get event loud",
        "events",
        "describe event loud",
        "describe configmap loud",
        "get configmap loud -o wide",
    ],
)
def test_cve_2021_25743_no_escape_sequence_of_an_object_reaches_the_terminal(ours, written, command):
    made = ours(f"apply -f {written}")
    assert made.code == 0, made.err
    said = ours(command)
    assert said.code == 0, said.err
    assert "loud" in said.out or "harmless" in said.out
    assert "\x1b" not in said.out + said.err and "\x07" not in said.out + said.err
