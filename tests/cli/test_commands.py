"""Some commands end to end against a server in memory; the long comparison is in test_comparison.py."""

import json

import pytest

from tests.cli.manifests import WEB


@pytest.fixture
def web(ours):
    assert ours("apply -f -", WEB).code == 0
    return ours


def test_apply_get_and_delete(web):
    again = web("apply -f -", WEB)
    assert again.out == "deployment.apps/web unchanged\nservice/web unchanged\nconfigmap/settings unchanged\n"
    assert web("get deploy web -o jsonpath={.spec.replicas}").out == "2"
    changed = web("apply -f -", WEB.replace("replicas: 2", "replicas: 3"))
    assert changed.out.startswith("deployment.apps/web configured\n")
    listed = json.loads(web("get deploy,svc,cm -l app=web -o json").out)
    assert [item["kind"] for item in listed["items"]] == ["Deployment"]
    assert web("create cm gone --from-literal=a=b").out == "configmap/gone created\n"
    assert web("delete cm gone").out == 'configmap "gone" deleted\n'
    missing = web("get cm gone")
    assert (missing.code, missing.err) == (1, 'Error from server (NotFound): configmaps "gone" not found\n')


def test_server_side_apply_reports_conflicts(web):
    answer = web("apply -f - --server-side --field-manager=other", WEB.replace("replicas: 2", "replicas: 7"))
    assert answer.code == 1 and "conflict" in answer.err and "--force-conflicts" in answer.err
    forced = web("apply -f - --server-side --field-manager=other --force-conflicts", WEB)
    assert "deployment.apps/web serverside-applied" in forced.out


def test_unknown_things_are_refused(ours):
    assert ours("get nope").err == 'error: the server doesn\'t have a resource type "nope"\n'
    assert ours("gett").err.startswith('error: unknown command "gett" for "kubectl"\n\nDid you mean this?\n\tget\n')
    assert ours("get pods --nope").err == "error: unknown flag: --nope\nSee 'kubectl get --help' for usage.\n"
    assert ours("apply -f -", "kind: ConfigMap\napiVersion: v1\nmetadata: {name: x}\nnope: 1").err.startswith(
        'Error from server (BadRequest): error when creating "STDIN": ConfigMap in version "v1" cannot be handled as a '
        'ConfigMap: strict decoding error: unknown field "nope"'
    )


def test_every_command_has_help(ours):
    from peavine.cli.main import COMMANDS

    for command in COMMANDS:
        said = ours(f"{command} --help")
        assert said.code == 0 and said.out, command


def test_config_changes_the_file(ours, tmp_path):
    path = tmp_path / "config"
    flag = f"--kubeconfig={path}"
    path.write_text("")
    assert ours(f"config set-cluster c --server=https://x {flag}").out == 'Cluster "c" set.\n'
    assert ours(f"config set-credentials u --token=t {flag}").out == 'User "u" set.\n'
    assert ours(f"config set-context k --cluster=c --user=u --namespace=n {flag}").out == 'Context "k" created.\n'
    assert ours(f"config use-context k {flag}").out == 'Switched to context "k".\n'
    assert ours(f"config get-contexts {flag}").out.splitlines()[1].split() == ["*", "k", "c", "u", "n"]
    assert ours(f"config rename-context k l {flag}").out == 'Context "k" renamed to "l".\n'
    assert "REDACTED" in ours(f"config view {flag}").out and path.stat().st_mode & 0o77 == 0
    assert ours(f"config unset current-context {flag}").out == 'Property "current-context" unset.\n'
    assert ours(f"config delete-context l {flag}").out.startswith("deleted context l from ")


def test_no_server_is_said_plainly(ours):
    said = ours("get pods --server=http://127.0.0.1:1")
    assert said.code == 1
    assert said.err == (
        "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?\n"
    )
