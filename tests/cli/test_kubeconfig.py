# ruff: noqa: E501
"""kubeconfig: plain files without a YAML parser, several files, plugins, proxies, flags."""

import os
import stat

import pytest
import yaml

from peavine.cli import kubeconfig, plainyaml
from peavine.cli.failures import CliError
from peavine.cli.flags import GLOBAL, parse

PLAIN = """apiVersion: v1
clusters:
- cluster:
    server: https://one:6443
    proxy-url: socks5://p:1
  name: one
- cluster: {}
  name: two
contexts:
- context:
    cluster: one
    namespace: "n"
    user: me
  name: c
current-context: c
kind: Config
preferences: {}
users:
- name: me
  user:
    token: abc==
"""


def flags(*words):
    return parse(GLOBAL, list(words), "get")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "a: 1\nb:\n  - x\n  - y: z\n    q: w\nc: 'it'\nd: \"\"\ne: null\nf: true\ng: 2026-01-01x\n",
        "- a\n- b\n",
        "{}\n",
        "",
    ],
)
def test_plain_yaml_is_read_as_the_parser_reads_it(text):
    try:
        found = plainyaml.parse(text)
    except plainyaml.NotPlain:
        return
    assert found == yaml.safe_load(text)


@pytest.mark.parametrize(
    "text",
    ["a: &x 1\nb: *x\n", "a: |\n  t\n", "a: [1]\n", "a: yes\n", "a: 1.5\n", "a: b: c\n", "a: x # y\n", "? a\n", "a: 'x''y'\n",
     "a: 0x10\n", "a: 010\n", "a: t\n  more\n", "a: 1\na: 2\n", "a: 1e3\n", "a: ~x\n---\nb: 1\n", "a: 2026-01-01\n"],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_the_parser_or_read_as_it_reads(text):
    try:
        found = plainyaml.parse(text)
    except plainyaml.NotPlain:
        return
    assert found == yaml.safe_load(text)


def test_a_plain_file_needs_no_parser():
    assert plainyaml.parse(PLAIN) == yaml.safe_load(PLAIN)


def test_a_context_is_all_that_is_needed(home):
    (home / "config").write_text(PLAIN)
    config = kubeconfig.client_config(flags(f"--kubeconfig={home / 'config'}"))
    assert (config.server, config.namespace, config.token) == ("https://one:6443", "n", "abc==")
    assert config.proxy == "socks5://p:1"


def test_flags_go_before_the_file(home):
    (home / "config").write_text(PLAIN)
    line = (f"--kubeconfig={home / 'config'}", "--server=https://other", "--token=t", "--as=bob", "--as-uid=7",
            "--as-group=g", "--as-user-extra=k=v", "--as-user-extra=k=w", "--request-timeout=3", "--tls-server-name=x")  # fmt: skip
    config = kubeconfig.client_config(flags(*line))
    assert (config.server, config.token, config.tls_server_name) == ("https://other", "t", "x")
    assert (config.impersonate, config.impersonate_uid, config.impersonate_groups) == ("bob", "7", ["g"])
    assert config.impersonate_extra == {"k": ["v", "w"]} and config.timeout_seconds == 3.0


def test_contradictions_are_refused(home):
    (home / "config").write_text(PLAIN)
    base = f"--kubeconfig={home / 'config'}"
    for words, said in (
        (("--as-group=g",), "without impersonating a user"),
        (("--insecure-skip-tls-verify", "--certificate-authority=x"), "with the insecure flag is not allowed"),
        (("--context=nope",), 'context "nope" does not exist'),
        (("--request-timeout=x",), "Invalid timeout value"),
    ):
        with pytest.raises(CliError, match=said):
            kubeconfig.client_config(flags(base, *words))


def test_the_environment_names_the_proxy_of_a_server_without_one(home, monkeypatch):
    (home / "config").write_text(PLAIN.replace("    proxy-url: socks5://p:1\n", ""))
    monkeypatch.setenv("HTTPS_PROXY", "http://q:3128")
    assert kubeconfig.client_config(flags(f"--kubeconfig={home / 'config'}")).proxy == "http://q:3128"


def test_a_pod_has_its_service_account(home, monkeypatch):
    monkeypatch.setattr("peavine.client.config.SERVICE_ACCOUNT_DIR", str(home))
    for name, text in (("ca.crt", "CA"), ("token", "T"), ("namespace", "ns\n")):
        (home / name).write_text(text)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    config = kubeconfig.client_config(flags())
    assert (config.server, config.ca, config.namespace) == ("https://[::1]:443", "CA", "ns")
    assert config.token_file == str(home / "token")


PLUGIN = """#!/bin/sh
echo "$KUBERNETES_EXEC_INFO" > "$OUT"
cat <<END
{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "from-plugin-$X"}}
END
"""


def plugin_config(home, script=PLUGIN, **more):
    program = home / "plugin"
    program.write_text(script)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1", "command": str(program), "interactiveMode": "Never",
        "env": [{"name": "X", "value": "7"}, {"name": "OUT", "value": str(home / "info")}], "provideClusterInfo": True, **more,
    }  # fmt: skip
    document = yaml.safe_load(PLAIN)
    document["users"][0]["user"] = {"exec": plugin}
    (home / "config").write_text(yaml.safe_dump(document))
    return flags(f"--kubeconfig={home / 'config'}")


def test_a_plugin_hands_out_the_token(home):
    assert kubeconfig.client_config(plugin_config(home)).token == "from-plugin-7"
    info = yaml.safe_load((home / "info").read_text())
    assert info["kind"] == "ExecCredential" and info["spec"]["interactive"] is False
    assert info["spec"]["cluster"]["server"] == "https://one:6443"


@pytest.mark.parametrize(
    ("script", "more", "said"),
    [
        ("#!/bin/sh\nexit 3\n", {}, "failed with exit code 3"),
        ("#!/bin/sh\necho nonsense\n", {}, "decoding stdout"),
        ('#!/bin/sh\necho \'{"kind":"ExecCredential","apiVersion":"x"}\'\n', {}, "plugin returned version x"),
        (PLUGIN, {"command": "/nope/plugin", "installHint": "get it there"}, "(?s)not found.*get it there"),
        (PLUGIN, {"apiVersion": "foo"}, "invalid apiVersion"),
        (PLUGIN, {"interactiveMode": None}, "interactiveMode must be specified"),
    ],
)
def test_a_plugin_that_fails_says_why(home, script, more, said):
    with pytest.raises(CliError, match=said):
        kubeconfig.client_config(plugin_config(home, script, **more))


def test_a_stanza_is_changed_in_its_own_file(home, ours, monkeypatch):
    first, second = home / "a", home / "b"
    first.write_text("contexts: [{name: x, context: {cluster: c, user: u}}]\n")
    second.write_text("contexts: [{name: y, context: {cluster: c, user: u}}]\ncurrent-context: y\n")
    ours.environment = {"KUBECONFIG": f"{first}{os.pathsep}{second}", "HOME": str(home)}
    assert ours("config set-context y --namespace=ns1").out == 'Context "y" modified.\n'
    assert ours("config set-cluster new --server=https://s").out == 'Cluster "new" set.\n'
    assert "namespace: ns1" in second.read_text() and "namespace" not in first.read_text()
    assert "https://s" in first.read_text() and stat.S_IMODE(first.stat().st_mode) == 0o600
    assert ours("config delete-context y").code == 0
    assert yaml.safe_load(second.read_text())["contexts"] is None
    assert ours("config get-contexts -o name").out == "x\n"


def test_credentials_by_plugin_are_written(home, ours):
    ours.environment = {"KUBECONFIG": str(home / "new"), "HOME": str(home)}
    line = "config set-credentials u --exec-command=/x --exec-api-version=client.authentication.k8s.io/v1"
    assert ours(f"{line} --exec-arg=a --exec-env=K=V --exec-interactive-mode=Never").out == 'User "u" set.\n'
    plugin = yaml.safe_load((home / "new").read_text())["users"][0]["user"]["exec"]
    assert plugin == {
        "apiVersion": "client.authentication.k8s.io/v1", "args": ["a"], "command": "/x", "interactiveMode": "Never",
        "env": [{"name": "K", "value": "V"}], "provideClusterInfo": False,
    }  # fmt: skip
