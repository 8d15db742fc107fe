"""The same commands through the real kubectl (1.33) and ours, against one server: same output, same exit codes.

What differs on purpose: the real 1.33 prints `creationTimestamp: null` in objects that it makes up (1.34 and later do
not, nor do we); `Kustomize Version`; and its suggestions for misspelt commands, which it finds with another measure.
"""

import re
from pathlib import Path

import pytest

from tests.cli.manifests import CHANGED, NODE, WEB

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent


def lines_of(name):
    return [line for line in (HERE / name).read_text().splitlines() if line and not line.startswith("#")]


AGE = re.compile(r"\b(?:\d+[ywdhms]){1,2}\b|<invalid>")
VOLATILE = (
    (re.compile(r'^ *"?creationTimestamp"?: null,?\n', re.M), ""),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r'(resourceVersion"?: ")\d+'), r"\1RV"),
    (re.compile(r"(generation\"?: )\d+"), r"\1N"),
    (re.compile(r"192\.168\.\d+\.\d+"), "IP"),
    (re.compile(r"metadata:\s*\n(\s*)(?=template|spec)"), r"metadata: {}\n\1"),
)


def normal(text, namespace="", ages=True):
    """Without what differs from one run, or one namespace, to the next."""
    for pattern, replacement in VOLATILE:
        text = pattern.sub(replacement, text)
    if namespace:
        text = text.replace(namespace, "NAMESPACE")
        text = re.sub(r"web-[0-9a-f]{8,10}(-[a-z0-9]{5})?", "web-HASH", text)
    if ages and AGE.search(text):  # columns are as wide as the ages in them
        text = re.sub(r" +", " ", re.sub(r"-{3,}", "---", AGE.sub("AGE", text)))
    return text


def differences(lines, theirs, ours, namespaces=("", "")):
    found = []
    for line in lines:
        said = []
        for kubectl, namespace in zip((theirs, ours), namespaces, strict=True):
            command = f"{line} -n {namespace}" if namespace and " -- " not in line else line
            command = command.replace(" -- ", f" -n {namespace} -- ") if namespace else command
            answer = kubectl(command)
            said.append((answer.code, normal(answer.out, namespace), normal(answer.err, namespace)))
        if said[0] != said[1]:
            found.append(f"{line}\n  theirs: {said[0]}\n  ours:   {said[1]}")
    return found


@pytest.fixture
def files(tmp_path):
    made = {}
    for name, text in (("WEB", WEB), ("CHANGED", CHANGED)):
        made[name] = tmp_path / f"{name.lower()}.yaml"
        made[name].write_text(text)
    return made


def with_files(lines, files):
    for name, path in files.items():
        lines = [re.sub(rf"\b{name}\b", str(path), line) for line in lines]
    return lines


def test_reading_commands_say_the_same(theirs, ours, files):
    assert ours(f"apply -f {files['WEB']}").code == 0
    assert ours("apply -f -", NODE.replace("NAME", "node-1")).code == 0
    assert ours("wait deploy/web --for=jsonpath={.status.replicas}=2").code == 0
    lines = [line for line in with_files(lines_of("read.txt"), files) if line not in UNLIKE]
    found = differences(lines, theirs, ours)
    assert not found, "\n".join(found)


UNLIKE = {
    "gett": "suggestions for misspelt commands are found with another measure",
    "top nodes": "no metrics here; the messages differ",
}


def test_changing_commands_do_and_say_the_same(theirs, ours, files):
    namespaces = ("left-ns", "other-ns")
    for namespace in namespaces:
        ours(f"create ns {namespace}")
        assert ours(f"wait --for=create sa/default -n {namespace} --timeout=20s").code == 0
    lines = [line for line in with_files(lines_of("write.txt"), files) if line not in UNLIKE]
    found = differences(lines, theirs, ours, namespaces)
    assert not found, "\n".join(found)


def test_the_table_of_commands_is_long_enough():
    assert len(lines_of("read.txt")) + len(lines_of("write.txt")) >= 300
