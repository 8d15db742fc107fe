# ruff: noqa: E501
"""The same commands through the real kubectl (1.33) and ours, against one server: same output, same exit codes.

What differs on purpose is in UNLIKE, each with its reason; and the real 1.33 prints `creationTimestamp: null` in objects
that it makes up (1.34 and later do not, nor do we).
"""

import importlib
import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from peavine.cli.flags import GLOBAL
from peavine.cli.main import COMMANDS
from tests.cli.manifests import CHANGED, METRICS, METRICS_API, NODE, WEB

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


class Ahead:
    """The real kubectl, asked in the background: its lines change nothing, so their order does not matter."""

    def __init__(self, theirs, lines):
        self.pool = ThreadPoolExecutor(3)
        self.said = {line: self.pool.submit(theirs, line) for line in lines}

    def __call__(self, line):
        return self.said[line].result()


def test_reading_commands_say_the_same(theirs, ours, files):
    assert ours(f"apply -f {files['WEB']}").code == 0
    assert ours("apply -f -", NODE.replace("NAME", "node-1")).code == 0
    assert ours("wait deploy/web --for=jsonpath={.status.replicas}=2").code == 0
    lines = [line for line in with_files(lines_of("read.txt"), files) if line not in UNLIKE]
    found = differences(lines, Ahead(theirs, lines), ours)
    assert not found, "\n".join(found)


UNLIKE = {
    "gett": "suggestions for misspelt commands are found with another measure",
    "create secret": "the help of a group of commands is worded anew",
    "create service": "the help of a group of commands is worded anew",
    "certificate foo": "a word that means nothing is refused, not answered with the help",
    "get -k /nonexistent": "upstream leaves out the word error here, and only here",
    "cluster-info foo": "a word that means nothing is refused, not ignored",
    "run x --image=y --port=80 --expose --dry-run=client -o yaml": "upstream prints the service before its pod, and a document mark too many",
    "run x --image=y --rm": "upstream leaves the hint to the usage out here, and only here",
    "cluster-info dump -o yaml": "upstream adds fields of its types that are null (eventTime)",
    "debug -f /nope": "never gets to the file: the image is asked for first",
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


def settled(line, theirs, ours, attempts=6):
    """The difference that stays, or None: controllers may change an object between two looks at it."""
    for _ in range(attempts):
        found = differences([line], theirs, ours)
        if not found:
            return None
    return found[0]


def test_every_kind_is_described_alike(theirs, ours):
    assert ours("create ns kinds").code == 0
    assert ours("wait --for=create sa/default -n kinds --timeout=20s").code == 0
    documents = [yaml.safe_load(text) for text in (HERE / "kinds.yaml").read_text().split("\n---\n")]
    said = ours(f"apply -n kinds -f {HERE / 'kinds.yaml'}")
    assert said.code == 0, said.err
    found = []
    for document in documents:
        kind = f"{document['kind'].lower()}.{document['apiVersion'].rpartition('/')[0]}".rstrip(".")
        found.append(settled(f"describe {kind} {document['metadata']['name']} -n kinds", theirs, ours))
    found = list(filter(None, found))
    assert not found, "\n".join(found)


def test_use_of_resources_is_shown_alike(theirs, ours):
    assert ours("apply -f -", METRICS_API).code == 0
    assert ours("apply -f -", NODE.replace("NAME", "node-1")).code == 0
    room = '{"status": {"allocatable": {"cpu": "4", "memory": "8Gi"}, "capacity": {"cpu": "5", "memory": "9Gi"}}}'
    assert ours(f"patch node node-1 --subresource=status --type=merge -p '{room}'").code == 0
    assert ours("wait --for=condition=Established crd/pods.metrics.k8s.io crd/nodes.metrics.k8s.io").code == 0
    made = ours("apply -f -", METRICS)
    assert made.code == 0, made.err
    lines = [f"{line} --use-protocol-buffers=false" for line in lines_of("top.txt")]
    found = differences(lines, theirs, ours)
    assert ours("delete crd pods.metrics.k8s.io nodes.metrics.k8s.io").code == 0
    assert not found, "\n".join(found)


def test_no_flag_and_no_command_of_upstream_is_missing(theirs):
    missing = []
    for words, help_text in helps(theirs):
        known = our_flags(words)
        if known is None:
            missing.append(f"kubectl {' '.join(words)}: no such command")
            continue
        for short, name in re.findall(r"^    (?:-(\w), |    |)--([a-z0-9-]+)=", help_text, re.M):
            if name not in known or (short and known[name].short != short):
                missing.append(f"kubectl {' '.join(words)}: --{name} {short}")
    assert not missing, "\n".join(missing)


def helps(theirs):
    """Every command of upstream that does something, and its help."""
    waiting = [[]]
    while waiting:
        words = waiting.pop()
        text = theirs(shlex.join([*words, "--help"])).out
        subs = re.findall(r"^  ([a-z0-9-]+) {2,}\S", text, re.M) if "Commands" in text else []
        waiting += [[*words, sub] for sub in subs]
        if words and (not subs or words in (["apply"], ["create"])):
            yield words, text


def our_flags(words):
    module = importlib.import_module(f"peavine.cli.commands.{COMMANDS[words[0]]}") if words[0] in COMMANDS else None
    if module is not None and len(words) > 1:
        module = module.subcommand(words[1:])[0]
    return None if module is None else {flag.name: flag for flag in (*module.FLAGS, *GLOBAL)}
