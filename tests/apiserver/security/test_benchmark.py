"""The CIS benchmark's controls, asserted from what `peavine up` has really started: its processes, files and answers.

docs/security.md lists every control and how it is met; here each that is said to be tested has its test. The numbers
are those of the CIS Kubernetes Benchmark v1.10.
"""

import base64
import json
import os
import re
import socket
import ssl
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from peavine.cmd.apiserver import configure, parser
from peavine.cmd.down import main as down
from peavine.cmd.pki import ensure_node
from tests.apiserver.serving import ServerProcess
from tests.cmd.test_join import eventually, free_port, peavine

pytestmark = pytest.mark.slow
TESTED: set[str] = set()


def controls(*numbers):
    TESTED.update(numbers)
    return lambda test: test


class Up(ServerProcess):
    """A cluster as `peavine up` leaves it, seen from outside."""

    def start(self):
        self.port = free_port()
        command = [sys.executable, "-m", "peavine.cmd.main", "up", "--data-dir", str(self.directory)]
        flags = ["--runtime=simulated", f"--secure-port={self.port}", "--node-ip=127.0.0.1", "--node-name=one"]
        done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def pids(self):
        """Component -> process id."""
        state = json.loads((self.directory / "run" / "state.json").read_text())
        return {name: entry["pid"] for name, entry in state["processes"].items()}

    def log(self):
        return "".join(path.read_text(errors="replace") for path in (self.directory / "logs").glob("*.log"))

    def told(self, name):
        """Flag -> value of a running process."""
        words = Path(f"/proc/{self.pids[name]}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
        joined = re.sub(r"\0(?!--)", "=", "\0".join(words)).split("\0")
        return {word.lstrip("-").partition("=")[0]: word.partition("=")[2] for word in joined if word.startswith("--")}

    def listening(self, name):
        """(address, port) of each TCP socket that a running process listens on; addresses as /proc has them."""
        sockets = set()
        for entry in Path(f"/proc/{self.pids[name]}/fd").iterdir():
            try:
                target = os.readlink(entry)
            except FileNotFoundError:
                continue
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
        found = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[9] in sockets:
                    address, _, port = fields[1].partition(":")
                    found.add((address, int(port, 16)))
        return found

    def kubelet(self, path, context=None):
        """The kubelet's own answer, not through the API server."""
        (_, port), *more = self.listening("kubelet")
        assert not more
        context = context or ssl.create_default_context(cafile=self.directory / "pki" / "ca.crt")
        try:
            with urllib.request.urlopen(f"https://127.0.0.1:{port}{path}", context=context, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def as_apiserver(self):
        """What the API server shows kubelets."""
        pki = self.directory / "pki"
        context = ssl.create_default_context(cafile=pki / "ca.crt")
        context.load_cert_chain(pki / "apiserver-kubelet-client.crt", pki / "apiserver-kubelet-client.key")
        return context


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cis") / "data"
    running = Up(directory)
    try:
        running.start()
        yield running
    finally:
        down(["--data-dir", str(directory)])


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


PRIVATE = [*(f"1.1.{n}" for n in range(1, 22)), *(f"4.1.{n}" for n in range(1, 11))]


@controls(*PRIVATE)
def test_1_1_and_4_1_every_file_is_private_and_of_who_runs_it(server):
    seen = set()
    for folder, _, files in os.walk(server.directory):
        for path in (folder, *(os.path.join(folder, file) for file in files)):
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue  # replaced while we look
            if stat.S_ISSOCK(status.st_mode):
                continue
            assert stat.S_IMODE(status.st_mode) & 0o077 == 0 or stat.S_ISLNK(status.st_mode), path
            assert status.st_uid == os.geteuid(), path
            seen.add(os.path.relpath(path, server.directory))
    wanted = {"admin.kubeconfig", "pki/ca.key", "pki/sa.key", "pki/kubelet-one.key", "store/state.db", "cluster.json"}
    assert wanted <= seen and "kubeconfigs/scheduler.kubeconfig" in seen


@controls("1.2.1")
def test_1_2_1_nobody_gets_health_and_nothing_else(server):
    assert code(server, "/livez")[0] == 200
    for path in ("/api", "/api/v1/namespaces", "/version", "/metrics", "/openapi/v2", "/livez/ping"):
        assert code(server, path)[0] == 401, path


@controls(
    "1.2.2",
    "1.2.4",
    "1.2.5",
    "1.2.6",
    "1.2.7",
    "1.2.8",
    "1.2.17",
    "1.2.18",
    "1.2.19",
    "1.2.20",
    "1.2.22",
    "1.2.24",
    "1.2.25",
    "1.2.27",
)
def test_1_2_what_the_running_server_was_told_weakens_nothing(server):
    """Its defaults are the strict ones (see the other tests of 1.2); this is all that it was told beside them."""
    told = server.told("apiserver")
    assert set(told) == {"data-dir", "secure-port", "advertise-address", "service-cluster-ip-range"}
    config = configure(parser().parse_args([f"--{flag}={value}" for flag, value in told.items()]))
    assert config.token_auth_file == "" and set(config.authorization_modes) == {"Node", "RBAC"}
    assert (config.audit_log_maxage, config.audit_log_maxbackup, config.audit_log_maxsize) == (30, 10, 100)
    assert config.request_timeout_seconds == 60
    for name in ("tls_cert_file", "client_ca_file", "kubelet_client_certificate", "kubelet_certificate_authority",
                 "service_account_signing_key_file", "encryption_provider_config", "audit_log_path"):  # fmt: skip
        assert Path(getattr(config, name)).is_relative_to(server.directory) and Path(getattr(config, name)).exists()


@controls("1.2.6", "1.2.7", "1.2.8")
def test_1_2_6_nobody_may_do_what_no_rule_gives(server):
    """A node: its own by the Node authorizer, RBAC for the rest, nothing else."""
    node = kubeconfig_context(server, "kubelet-one")
    assert code(server, "/api/v1/nodes/one", node)[0] == 200
    assert code(server, "/api/v1/nodes/other", node)[0] == 403
    assert code(server, "/apis/rbac.authorization.k8s.io/v1/clusterroles", node)[0] == 403
    scheduler = kubeconfig_context(server, "scheduler")
    assert code(server, "/api/v1/nodes", scheduler)[0] == 200
    assert code(server, "/api/v1/secrets", scheduler)[0] == 403


def kubeconfig_context(server, name):
    from peavine.client.config import load_kubeconfig

    return load_kubeconfig(server.directory / "kubeconfigs" / f"{name}.kubeconfig").ssl_context()


def post(server, path, body, context=None):
    """(status, message or object)"""
    status, answer = code(server, path, context or server.tls(), "POST", json.dumps(body).encode())
    return status, json.loads(answer)


@controls("1.2.3")
def test_1_2_3_external_addresses_of_services_are_refused(server):
    spec = {"ports": [{"port": 80}], "externalIPs": ["8.8.8.8"]}
    status, answer = post(server, "/api/v1/namespaces/default/services", {"metadata": {"name": "x"}, "spec": spec})
    assert status == 403 and "external IPs" in answer["message"]


@controls("1.2.10", "1.2.12", "1.2.13", "1.2.14", "5.2.1")
def test_1_2_10_to_14_admission_is_in_force(server):
    container = {"name": "c", "image": "i"}
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [container], "serviceAccountName": "missing"}}
    status, answer = post(server, "/api/v1/namespaces/default/pods", pod)
    assert status == 403 and "serviceaccount" in answer["message"]  # ServiceAccount
    status, answer = post(server, "/api/v1/namespaces/missing/configmaps", {"metadata": {"name": "c"}})
    assert status == 404 and "namespaces" in answer["message"]  # NamespaceLifecycle
    node = kubeconfig_context(server, "kubelet-one")
    assert post(server, "/api/v1/nodes", {"metadata": {"name": "two"}}, node)[0] == 403  # NodeRestriction
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    assert post(server, "/api/v1/namespaces", {"metadata": {"name": "strict", "labels": labels}})[0] == 201
    pod["spec"].pop("serviceAccountName")
    status, answer = post(server, "/api/v1/namespaces/strict/pods", pod)
    assert status == 403 and "violates PodSecurity" in answer["message"]


@controls("1.2.15", "1.3.2", "1.4.1")
def test_1_2_15_there_is_no_profiling(server):
    for path in ("/debug/pprof", "/debug/pprof/profile", "/debug/flags/v"):
        assert code(server, path, server.tls())[0] == 404


@controls("1.2.16", "3.2.1", "3.2.2")
def test_1_2_16_writes_and_access_to_secrets_are_audited(server):
    secret = {"metadata": {"name": "audited"}, "stringData": {"password": "hunter2"}}
    made = code(server, "/api/v1/namespaces/default/secrets", server.tls(), "POST", json.dumps(secret).encode())
    assert made[0] == 201
    assert code(server, "/api/v1/namespaces/default/secrets/audited", server.tls())[0] == 200
    log = server.directory / "logs" / "audit.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600

    def both_are_seen():
        events = [json.loads(line) for line in log.read_text().splitlines()]
        named = [e for e in events if "objectRef" in e and e["level"] == "Metadata"]
        seen = {(e["verb"], e["objectRef"]["resource"]) for e in named}
        assert {("create", "secrets"), ("get", "secrets")} <= seen

    eventually(both_are_seen)
    assert "hunter2" not in log.read_text() and "hunter2" not in server.log()


@controls("1.2.27", "1.2.28")
def test_1_2_27_a_secret_is_unreadable_in_the_store_file(server):
    secret = {"metadata": {"name": "stored"}, "stringData": {"password": "correct-horse-battery"}}
    made = code(server, "/api/v1/namespaces/default/secrets", server.tls(), "POST", json.dumps(secret).encode())
    assert made[0] == 201

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


@controls("1.2.29")
def test_1_2_29_weak_suites_are_refused(server):
    context = ssl.create_default_context(cafile=server.client_files()[0])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:AES256-SHA:ECDHE-ECDSA-AES128-SHA")
    with pytest.raises((urllib.error.URLError, ssl.SSLError, OSError)):
        code(server, "/livez", context)


@controls("1.2.30")
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


LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


@controls("1.3.1", "1.3.3", "1.3.4", "1.3.5", "1.3.7", "1.4.2")
def test_1_3_and_1_4_the_running_components_have_their_own_keys_and_no_open_port(server):
    manager = server.told("controller-manager")
    pki = server.directory / "pki"
    assert manager["root-ca-file"] == str(pki / "ca.crt")
    assert manager["service-account-private-key-file"] == str(pki / "sa.key")
    assert "use-service-account-credentials" not in manager and "terminated-pod-gc-threshold" not in manager  # defaults
    for name in ("controller-manager", "scheduler"):
        assert {address for address, _ in server.listening(name)} <= LOOPBACK, name
    users = {}
    for name in ("controller-manager", "scheduler", "kubelet"):
        users[name] = server.told(name)["kubeconfig"]
        assert "admin" not in users[name]
    assert len(set(users.values())) == 3


@controls("1.3.3")
def test_1_3_3_controllers_act_as_accounts_of_their_own(server):
    post(server, "/api/v1/namespaces", {"metadata": {"name": "seen"}})
    audit = server.directory / "logs" / "audit.log"

    def users():
        return {json.loads(line)["user"]["username"] for line in audit.read_text().splitlines()}

    def as_account():
        assert any(user.startswith("system:serviceaccount:kube-system:") for user in users())

    eventually(as_account)


@controls("4.2.1", "4.2.2", "4.2.3", "4.2.4", "4.2.9", "4.2.12")
def test_4_2_the_running_kubelet_lets_nobody_in_without_identity_and_permission(server):
    (_, port), *more = server.listening("kubelet")
    assert not more and port != 10255  # no second, read-only port
    assert server.kubelet("/pods")[0] == 401
    assert server.kubelet("/pods", server.as_apiserver())[0] == 200
    node = kubeconfig_context(server, "scheduler")  # known, and not permitted
    assert server.kubelet("/pods", node)[0] == 403
    old = ssl.create_default_context(cafile=server.directory / "pki" / "ca.crt")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("AES128-SHA:AES256-SHA:ECDHE-ECDSA-AES128-SHA")
    with pytest.raises(OSError):
        server.kubelet("/healthz", old)


def test_cve_2025_0426_nobody_fills_the_disk_with_checkpoints_through_the_kubelet(server):
    """Without credentials, or without the right of its own, none is even begun; and no other port offers it."""
    (_, port), *more = server.listening("kubelet")
    assert not more
    anybody = ssl.create_default_context(cafile=server.directory / "pki" / "ca.crt")
    for context, expected in ((anybody, 401), (kubeconfig_context(server, "scheduler"), 403)):
        url = f"https://127.0.0.1:{port}/checkpoint/default/p/c"
        request = urllib.request.Request(url, method="POST", data=b"")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, context=context, timeout=10)
        assert caught.value.code == expected
    assert not list(server.directory.glob("kubelet/**/checkpoint*"))


@controls("4.2.1", "4.2.2", "4.2.3", "4.2.13", "4.2.14")
def test_4_2_the_configuration_in_force_is_the_strict_one(server):
    config = json.loads(server.kubelet("/configz", server.as_apiserver())[1])["kubeletconfig"]
    assert config["authentication"]["anonymous"]["enabled"] is False
    assert config["authentication"]["webhook"]["enabled"] is True
    assert config["authentication"]["x509"]["clientCAFile"] == str(server.directory / "pki" / "ca.crt")
    assert config["authorization"]["mode"] == "Webhook"
    assert 0 < config["podPidsLimit"] <= 4096
    assert config["seccompDefault"] is True


def expanded(cell):
    """`1.2.6 to 1.2.8, 1.3.1` -> its numbers"""
    found = []
    for part in cell.split(","):
        first, _, last = part.strip().partition(" to ")
        start, end = first.split("."), (last or first).split(".")
        found += [".".join([*start[:-1], str(n)]) for n in range(int(start[-1]), int(end[-1]) + 1)]
    return found


def test_the_documentation_lists_every_control_and_every_one_it_calls_tested_is():
    text = (Path(__file__).parents[3] / "docs" / "security.md").read_text()
    rows = re.findall(r"^\| ([\d., to]+) \|.*\| (tested|yours|by design|does not apply) \|$", text, re.M)
    listed = {number: how for cell, how in rows for number in expanded(cell)}
    sizes = {"1.1": 21, "1.2": 30, "1.3": 7, "1.4": 2, "2": 7, "3.1": 3, "3.2": 2, "4.1": 10, "4.2": 14, "4.3": 1,
             "5.1": 13, "5.2": 13, "5.3": 2, "5.4": 2, "5.5": 1, "5.6": 4}  # fmt: skip
    assert set(listed) == {f"{section}.{n}" for section, size in sizes.items() for n in range(1, size + 1)}
    assert {number for number, how in listed.items() if how == "tested"} == TESTED


def test_no_process_shows_a_secret_on_its_command_line_or_in_its_log(server):
    encryption = json.loads((server.directory / "pki" / "encryption.json").read_text())
    key = encryption["resources"][0]["providers"][0]["secretbox"]["keys"][0]["secret"]
    for name, pid in server.pids.items():
        assert key.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes(), name
    assert key not in server.log()


@controls("1.2.21")
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


def serial(port, context):
    """Of the certificate that a server on this port shows."""
    from peavine.machinery.x509 import read_certificate

    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
            return read_certificate(secured.getpeercert(binary_form=True)).serial


def test_renewed_certificates_are_used_by_every_running_process_without_a_restart(server):
    """`peavine certs renew`, as the supervisor does it twice a day; here all at once."""
    context = ssl.create_default_context(cafile=server.directory / "pki" / "ca.crt")
    ((_, kubelet),) = server.listening("kubelet")
    before, pids = {port: serial(port, context) for port in (server.port, kubelet)}, server.pids
    audit = server.directory / "logs" / "audit.log"

    def shown(user):
        """The certificates with which a user has come so far."""
        events = map(json.loads, audit.read_text().splitlines())
        key = "authentication.kubernetes.io/credential-id"
        return {
            e["user"]["extra"][key][0] for e in events if e["user"]["username"] == user and key in e["user"]["extra"]
        }

    def make_a_pod(name):
        post(server, "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
        container = {"name": "c", "image": "i"}
        pod = {"metadata": {"name": name}, "spec": {"containers": [container]}}
        assert post(server, "/api/v1/namespaces/default/pods", pod)[0] == 201

    make_a_pod("before")

    def bound():
        assert len(shown("system:kube-scheduler")) == 1

    eventually(bound)
    renewed = peavine("certs", "renew", "--all", "--data-dir", server.directory)
    for name in ("apiserver", "apiserver-kubelet-client", "front-proxy-client", "admin.kubeconfig",
                 "scheduler.kubeconfig", "controller-manager.kubeconfig", "kubelet-one.kubeconfig"):  # fmt: skip
        assert f"renewed {name}\n" in renewed + "\n"

    def served():
        assert {port for port in before if serial(port, context) == before[port]} == set()

    eventually(served)
    count = iter(range(1000))

    def come_anew():
        make_a_pod(f"after-{next(count)}")
        assert len(shown("system:kube-scheduler")) > 1

    eventually(come_anew)
    assert code(server, "/api/v1/nodes/one/proxy/configz", server.tls())[0] == 200  # by the renewed kubelet client
    assert server.pids == pids
