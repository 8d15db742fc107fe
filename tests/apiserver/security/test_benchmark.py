"""The CIS benchmark's controls, asserted from a running server, its files, and the flags of what `up` starts.

docs/security.md says for each control how it is met; the numbers here are the benchmark's.
"""

import json
import os
import ssl
import stat
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from peavine.apiserver.admission.chain import PLUGINS
from peavine.apiserver.config import Config
from peavine.cmd.cluster import Cluster
from peavine.cmd.pki import ensure_kubeconfigs, ensure_node, ensure_pki
from peavine.cmd.processes import processes
from peavine.kubelet.options import Options
from tests.apiserver.serving import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cis") / "data"
    directory.mkdir(mode=0o700)
    with ServerProcess(directory) as running:
        yield running


def code(server, path, context=None, method="GET", body=None):
    if context is None:
        context = ssl.create_default_context(cafile=server.client_files()[0])
    request = urllib.request.Request(f"https://127.0.0.1:{server.port}{path}", method=method, data=body)
    if body is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_1_1_and_4_1_files_are_private(tmp_path):
    data = tmp_path / "data"
    pki = ensure_pki(data)
    ensure_kubeconfigs(pki, "https://127.0.0.1:6443")
    ensure_node(pki, "one", ["127.0.0.1"], "https://127.0.0.1:6443")
    for folder, _, files in os.walk(data):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700, folder
        for file in files:
            assert stat.S_IMODE(os.stat(os.path.join(folder, file)).st_mode) == 0o600, file


def test_1_2_1_nobody_gets_health_and_nothing_else(server):
    assert code(server, "/livez")[0] == 200
    for path in ("/api", "/api/v1/namespaces", "/version", "/metrics", "/openapi/v2", "/livez/ping"):
        assert code(server, path)[0] == 401, path


def test_1_2_settings_of_the_server():
    config = Config()
    assert config.token_auth_file == ""  # 1.2.2
    assert set(config.authorization_modes) == {"Node", "RBAC"}  # 1.2.6 to 1.2.8
    on = {name for name, (_, default) in PLUGINS.items() if default}
    assert {"DenyServiceExternalIPs", "ServiceAccount", "NamespaceLifecycle", "NodeRestriction", "PodSecurity"} <= on
    assert "AlwaysAdmit" not in on  # 1.2.10
    assert config.request_timeout_seconds == 60  # 1.2.20


def test_1_2_15_there_is_no_profiling(server):
    for path in ("/debug/pprof", "/debug/pprof/profile", "/debug/flags/v"):
        assert code(server, path, server.tls())[0] == 404


def test_1_2_16_writes_and_access_to_secrets_are_audited(server):
    secret = {"metadata": {"name": "audited"}, "stringData": {"password": "hunter2"}}
    made = code(server, "/api/v1/namespaces/default/secrets", server.tls(), "POST", json.dumps(secret).encode())
    assert made[0] == 201
    assert code(server, "/api/v1/namespaces/default/secrets/audited", server.tls())[0] == 200
    log = server.directory / "logs" / "audit.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    events = [json.loads(line) for line in log.read_text().splitlines()]
    seen = {(e["verb"], e["objectRef"]["resource"]) for e in events if "objectRef" in e and e["level"] == "Metadata"}
    assert {("create", "secrets"), ("get", "secrets")} <= seen
    assert "hunter2" not in log.read_text() and "hunter2" not in server.log()


def test_1_2_27_a_secret_is_unreadable_in_the_store_file(server):
    secret = {"metadata": {"name": "stored"}, "stringData": {"password": "correct-horse-battery"}}
    made = code(server, "/api/v1/namespaces/default/secrets", server.tls(), "POST", json.dumps(secret).encode())
    assert made[0] == 201
    import base64

    hidden = (b"correct-horse-battery", base64.b64encode(b"correct-horse-battery"))
    found = 0
    for folder, _, files in os.walk(server.directory / "store"):
        for file in files:
            held = Path(folder, file).read_bytes()
            found += b"k8s:enc:secretbox:v1:" in held
            assert not any(text in held for text in hidden), file
    assert found


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_1_2_29_old_versions_of_tls_are_refused(server):
    context = ssl.create_default_context(cafile=server.client_files()[0])
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((urllib.error.URLError, ssl.SSLError, OSError)):
        code(server, "/livez", context)


def test_1_2_29_weak_suites_are_refused(server):
    context = ssl.create_default_context(cafile=server.client_files()[0])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:AES256-SHA:ECDHE-ECDSA-AES128-SHA")
    with pytest.raises((urllib.error.URLError, ssl.SSLError, OSError)):
        code(server, "/livez", context)


def test_1_2_30_tokens_end_when_they_say(server):
    body = json.dumps({"spec": {"expirationSeconds": 3607}}).encode()
    account = {"metadata": {"name": "robot"}}
    code(server, "/api/v1/namespaces/default/serviceaccounts", server.tls(), "POST", json.dumps(account).encode())
    path = "/api/v1/namespaces/default/serviceaccounts/robot/token"
    status, answer = code(server, path, server.tls(), "POST", body)
    assert status == 201
    import jwt

    claims = jwt.decode(json.loads(answer)["status"]["token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 3607 and "warnafter" not in claims["kubernetes.io"]


def test_1_3_and_4_3_what_up_starts_is_bound_to_loopback_and_has_its_own_keys(tmp_path):
    cluster = Cluster(str(tmp_path), "one", "10.0.0.1", runtime="simulated")
    flags = {process.name: process.command for process in processes(cluster)}
    manager = " ".join(flags["controller-manager"])
    assert "--root-ca-file=" in manager and "--service-account-private-key-file=" in manager
    for name in ("controller-manager", "scheduler"):
        assert not any(flag.startswith("--bind-address") and "127.0.0.1" not in flag for flag in flags[name])
    kubelet = " ".join(flags["kubelet"])
    assert "--client-ca-file=" in kubelet and "--tls-cert-file=" in kubelet
    assert "--anonymous-auth" not in kubelet and "--authorization-mode" not in kubelet
    kubeconfigs = {f for command in flags.values() for f in command if f.endswith(".kubeconfig")}
    assert len(kubeconfigs) >= 3 and not any("admin" in f for f in kubeconfigs)


def test_4_2_the_kubelet_lets_nobody_in_without_identity_and_permission(tmp_path):
    options = Options(node_name="one", root_dir=tmp_path, pod_logs_dir=tmp_path)
    assert options.anonymous_auth is False  # 4.2.1
    assert options.authorization_mode == "Webhook"  # 4.2.2
    assert not any("read_only" in name for name in Options.__dataclass_fields__)  # 4.2.4
    assert 0 < options.pod_pids_limit <= 4096  # 4.2.12
    assert options.seccomp_default is True


def test_no_process_shows_a_secret_on_its_command_line(server):
    listed = subprocess.run(["ps", "-o", "args=", "-p", str(server.process.pid)], capture_output=True, text=True)
    encryption = json.loads((server.directory / "pki" / "encryption.json").read_text())
    key = encryption["resources"][0]["providers"][0]["secretbox"]["keys"][0]["secret"]
    assert key not in listed.stdout and key not in server.log()


def test_a_token_ends_with_its_pod_at_once(server):
    admin = server.tls()
    base = "/api/v1/namespaces/default"

    def post(path, body):
        status, answer = code(server, path, admin, "POST", json.dumps(body).encode())
        assert status in (201, 409), answer
        return json.loads(answer)

    post(f"{base}/serviceaccounts", {"metadata": {"name": "default"}})
    container = {"name": "c", "image": "i"}
    pod = post(f"{base}/pods", {"metadata": {"name": "bound"}, "spec": {"containers": [container]}})
    ref = {"apiVersion": "v1", "kind": "Pod", "name": "bound", "uid": pod["metadata"]["uid"]}
    request = {"spec": {"boundObjectRef": ref, "expirationSeconds": 600}}
    token = post(f"{base}/serviceaccounts/default/token", request)["status"]["token"]
    nobody = ssl.create_default_context(cafile=server.client_files()[0])

    def asked():
        bearer = {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"https://127.0.0.1:{server.port}/api", headers=bearer)
        try:
            with urllib.request.urlopen(request, context=nobody, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    assert asked() == 200
    assert code(server, f"{base}/pods/bound?gracePeriodSeconds=0", admin, "DELETE")[0] == 200
    assert asked() == 401


def test_a_stolen_node_certificate_reaches_its_own_node_and_pods_and_nothing_else(server):
    from peavine.client.config import load_kubeconfig
    from peavine.cmd.pki import Pki

    url = f"https://127.0.0.1:{server.port}"
    path = ensure_node(Pki(server.directory), "stolen", ["127.0.0.1"], url)
    node, admin = load_kubeconfig(path).ssl_context(), server.tls()

    def ask(method, path, body=None, context=node):
        return code(server, path, context, method, None if body is None else json.dumps(body).encode())[0]

    base = "/api/v1/namespaces/default"
    for name in ("own", "other"):
        secret = {"metadata": {"name": name}, "stringData": {"k": "v"}}
        assert ask("POST", f"{base}/secrets", secret, admin) == 201
        spec = {
            "nodeName": "stolen" if name == "own" else "elsewhere",
            "automountServiceAccountToken": False,
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "s", "secret": {"secretName": name}}],
        }
        ask("POST", f"{base}/serviceaccounts", {"metadata": {"name": "default"}}, admin)
        assert ask("POST", f"{base}/pods", {"metadata": {"name": name}, "spec": spec}, admin) == 201
    assert ask("POST", "/api/v1/nodes", {"metadata": {"name": "stolen"}}) == 201
    assert ask("POST", "/api/v1/nodes", {"metadata": {"name": "invented"}}) == 403
    assert ask("GET", "/api/v1/nodes/stolen") == 200
    assert ask("GET", f"{base}/secrets/own") == 200
    assert ask("GET", f"{base}/pods/own") == 200
    assert ask("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dstolen") == 200
    for method, path in (
        ("GET", f"{base}/secrets/other"),
        ("GET", f"{base}/secrets"),
        ("GET", "/api/v1/secrets"),
        ("GET", f"{base}/secrets?fieldSelector=metadata.name%3Dother"),
        ("GET", f"{base}/pods/other"),
        ("GET", "/api/v1/pods"),
        ("GET", "/api/v1/nodes"),
        ("DELETE", "/api/v1/nodes/stolen"),
        ("DELETE", f"{base}/pods/other"),
        ("DELETE", f"{base}/secrets/own"),
        ("GET", "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"),
    ):
        assert ask(method, path) == 403, (method, path)
    binding = {
        "metadata": {"name": "escape"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "Group", "name": "system:nodes", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    assert ask("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding) == 403
    pod = {"metadata": {"name": "escape"}, "spec": {"nodeName": "stolen", "containers": [{"name": "c", "image": "i"}]}}
    assert ask("POST", f"{base}/pods", pod) == 403
    token = {"spec": {"expirationSeconds": 600}}
    assert ask("POST", f"{base}/serviceaccounts/default/token", token) == 403
