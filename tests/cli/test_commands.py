"""Some commands end to end against a server in memory; the long comparison is in test_comparison.py."""

import http.client
import io
import json
import os
import subprocess
import sys
import tarfile
from types import SimpleNamespace

import pytest
import yaml

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


def test_an_applyset_prunes_what_is_no_longer_applied(ours):
    cm = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"
    line = "apply -f - --prune --applyset=set -n applyset"
    assert ours("create ns applyset").code == 0
    said = ours(line, f"{cm % 'one'}---\n{cm % 'two'}")
    assert (said.code, said.out) == (0, "configmap/one created\nconfigmap/two created\n"), said.err
    again = ours(line, cm % "one")
    assert again.out == "configmap/one unchanged\nconfigmap/two pruned\n"
    parent = json.loads(ours("get secret set -n applyset -o json").out)["metadata"]
    assert parent["annotations"]["applyset.kubernetes.io/contains-group-kinds"] == "ConfigMap"
    member = json.loads(ours("get cm one -n applyset -o json").out)["metadata"]["labels"]
    assert member["applyset.kubernetes.io/part-of"] == parent["labels"]["applyset.kubernetes.io/id"]
    assert "requires --prune" in ours("apply -f - --applyset=set -n applyset", cm % "one").err
    assert "is incompatible" in ours(f"{line} --all", cm % "one").err
    assert "not permitted as an ApplySet parent" in ours(line.replace("=set", "=deploy/set"), cm % "one").err


def test_the_older_prune_needs_something_to_keep(ours):
    assert ours("apply -f - --prune -l no=such", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n").err == (
        "error: no objects passed to apply\n"
    )


def test_kyaml_is_yaml_that_cannot_be_misread(web):
    text = web("get cm settings -o kyaml").out
    assert (
        text.startswith('---\n{\n  apiVersion: "v1",\n  data: {\n    a: "1",\n') and '\n    "true": "true",\n' in text
    )
    assert yaml.safe_load(text) == yaml.safe_load(web("get cm settings -o yaml").out)


def test_an_editor_may_fail_and_try_again(web, tmp_path, monkeypatch):
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho x >> "$0.count"\nsh -c "$EDIT" edit "$1"\n')
    editor.chmod(0o755)
    web.environment = {**web.environment, "KUBE_EDITOR": str(editor)}

    def edit(script, line="edit cm settings"):
        web.environment = {**web.environment, "EDIT": script}
        return web(line)

    assert edit("true").err == "Edit cancelled, no changes made.\n"
    assert edit("""sed -i 's/tier: "1"/tier: "2"/' $1""").out == "configmap/settings edited\n"
    assert edit('sed -i "s/name: settings/name: other/" $1').err.startswith(
        "error: At least one of apiVersion, kind and"
    )
    broken = edit("""grep -q 'not valid' $1 || sed -i 's/tier: "2"/tier: "-!"/' $1""")
    assert broken.code == 1 and broken.err.startswith('error: configmaps "settings" is invalid\nA copy of your changes')
    last = edit("""sed -i 's/tier: "1"/tier: "9"/' $1""", "apply edit-last-applied cm settings")
    assert last.out == "configmap/settings edited\n"
    assert 'tier: "9"' in web("apply view-last-applied cm settings").out


def test_proxy_passes_requests_on_and_filters_them(environment):
    command = [sys.executable, "-m", "peavine.cmd.main", "kubectl", "proxy", "--port=0", "--reject-methods=^DELETE$"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}) as proxy:
        try:
            where = proxy.stdout.readline().removeprefix("Starting to serve on ").strip()
            connection = http.client.HTTPConnection(where, timeout=60)

            def ask(method, path, **headers):
                connection.request(method, path, headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.read()

            status, body = ask("GET", "/version")
            assert status == 200 and json.loads(body)["gitVersion"].startswith("v1.")
            assert ask("GET", "/api/v1/namespaces/nope")[0] == 404
            assert ask("DELETE", "/api/v1/namespaces/nope")[0] == 403
            assert ask("GET", "/version", Host="evil.example.com")[0] == 403
            assert ask("POST", "/api/v1/namespaces/default/pods/x/exec")[0] == 403
        finally:
            connection.close()
            proxy.terminate()


def test_warnings_of_the_server_are_said_once(web):
    said = web("get endpoints web kubernetes --ignore-not-found")
    assert said.err.count("Warning: v1 Endpoints is deprecated") == 1


def test_flow_style_files_are_read(ours):
    assert ours("apply -f - --dry-run=client", "{apiVersion: v1, kind: ConfigMap, metadata: {name: flow}}").out == (
        "configmap/flow created (dry run)\n"
    )


def test_a_copied_archive_stays_in_its_place_and_makes_no_links(tmp_path, capsys):
    from peavine.cli.commands.cp import _packed, _unpack

    (tmp_path / "from" / "sub").mkdir(parents=True)
    (tmp_path / "from" / "sub" / "file").write_text("text")
    (tmp_path / "from" / "link").symlink_to("/etc/passwd")
    session = SimpleNamespace(warn=lambda text: print(text))
    _unpack(session, _packed(tmp_path / "from", "from"), "from", tmp_path / "to")
    assert (tmp_path / "to" / "sub" / "file").read_text() == "text" and not (tmp_path / "to" / "link").exists()
    assert "skipping symlink" in capsys.readouterr().out
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("from/../../evil"), io.BytesIO())
    _unpack(session, evil.getvalue(), "from", tmp_path / "to")
    assert not (tmp_path / "evil").exists() and "outside target destination" in capsys.readouterr().out
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "deep" / "to").mkdir(parents=True)
    (tmp_path / "deep" / "to" / "sub").symlink_to(tmp_path / "elsewhere")
    _unpack(session, _packed(tmp_path / "from", "to"), "to", tmp_path / "deep")
    assert list((tmp_path / "elsewhere").iterdir()) == []
