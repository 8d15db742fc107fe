"""One real cluster for all end-to-end tests: `peavine up` on containerd, gone afterwards, also when tests fail."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peavine.cmd.kubelet import cgroup_root

PORT = 26443
SDK = Path("/usr/lib/google-cloud-sdk/bin")
PEAVINE = [sys.executable, "-m", "peavine.cmd.main"]
# Lines of `ip`, `nft` and `iptables` that speak of a cluster: its bridge, its pods' interfaces (those that hang on no
# other bridge), its tables and chains.
OURS = re.compile(r"peavine|veth(?!.* master (?!peavine))|CNI-HOSTPORT|KUBE-")
PORTS = (PORT, 10250, 10053, 10254, 10256, 10257)


def peavine(*args, check=True, timeout=180):
    return subprocess.run([*PEAVINE, *args], capture_output=True, text=True, check=check, timeout=timeout)


def kubectl_versions():
    found = [str(p) for v in ("1.27", "1.30", "1.33") if (p := SDK / f"kubectl.{v}").exists()]
    return found or [k for k in [shutil.which("kubectl")] if k]


class Kubectl:
    """The real kubectl against one kubeconfig: `kubectl("get", "pods")` is what it prints."""

    def __init__(self, kubeconfig, binary=None):
        self.kubeconfig, self.binary = str(kubeconfig), binary or kubectl_versions()[-1]
        self.env = {**os.environ, "KUBECONFIG": self.kubeconfig}

    def run(self, *args, stdin=None, timeout=90):
        return subprocess.run(
            [self.binary, *args], input=stdin, capture_output=True, text=True, timeout=timeout, env=self.env
        )

    def __call__(self, *args, stdin=None, timeout=90):
        done = self.run(*args, stdin=stdin, timeout=timeout)
        assert done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr or done.stdout}"
        return done.stdout

    def json(self, *args):
        return json.loads(self(*args, "-o", "json"))

    def start(self, *args):
        return subprocess.Popen([self.binary, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.env)


def until(check, seconds=30.0, why=""):
    """The first true result of `check()` within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        result = check()
        if result:
            return result
        assert time.monotonic() < deadline, why or f"not within {seconds} s"
        time.sleep(0.1)


def _in_use(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def traces(directory):
    """What a cluster could leave on a machine, one line each: processes, mounts, links, rules, namespaces, cgroups."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in command and "pytest" not in command:
            found.add(f"process {command}")
    mounts = Path("/proc/mounts").read_text().splitlines()
    found |= {f"mount {line.split()[1]}" for line in mounts if str(directory) in line or "/run/netns/cni-" in line}
    for what in (["ip", "-o", "link"], ["ip", "route"], ["nft", "list", "tables"], ["iptables-save"]):
        lines = subprocess.run(what, capture_output=True, text=True, check=False).stdout.splitlines()
        found |= {f"{what[0]} {line}" for line in lines if OURS.search(line)}
    own = cgroup_root(str(directory)).strip("/")
    return found | {f"cgroup {p}" for p in Path("/sys/fs/cgroup").glob(f"**/{own}")}


def nothing_left(directory, before):
    """True once no trace is left; interfaces go a moment after their namespace."""
    return not traces(directory) - before


@pytest.fixture(scope="package")
def cluster(tmp_path_factory):
    """The data directory of a running one-node cluster; `down --purge` afterwards must leave nothing."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if missing := [name for name in ("containerd", "runc", "nft", "busybox", "catatonit") if not shutil.which(name)]:
        pytest.skip(f"needs {', '.join(missing)}")
    if not kubectl_versions():
        pytest.skip("needs the real kubectl")
    if busy := [port for port in PORTS if _in_use(port)]:
        pytest.skip(f"ports in use: {busy} (another cluster runs on this machine)")
    directory = tmp_path_factory.mktemp("cluster")
    before = traces(directory)
    try:
        peavine("up", f"--data-dir={directory}", f"--secure-port={PORT}")
        yield directory
    except subprocess.CalledProcessError as error:
        pytest.fail(f"peavine up: {error.stderr}\n{_logs(directory)}")
    finally:
        gone = peavine("down", f"--data-dir={directory}", "--purge", check=False)
        assert gone.returncode == 0, gone.stderr
        assert not directory.exists()
        until(lambda: nothing_left(directory, before), 10, f"left: {traces(directory) - before}")


def _logs(directory):
    return "\n".join(f"--- {p.name}\n{p.read_text()[-2000:]}" for p in sorted(directory.glob("logs/*.log")))


@pytest.fixture(scope="package")
def kubectl(cluster):
    return Kubectl(cluster / "admin.kubeconfig")


@pytest.fixture
def namespace(kubectl):
    """A namespace of the test's own."""
    name = f"e2e-{os.urandom(3).hex()}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


IMAGE = "peavine.local/busybox:1.36"


def web(name="web", replicas=2, version="one", **spec):
    """A Deployment and a Service that answer with `version`, ending gently."""
    script = f"mkdir -p /tmp/www && echo {version} > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www"
    container = {
        "name": "web",
        "image": IMAGE,
        "command": ["sh", "-c", script],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "2"]}}},
    }
    labels = {"app": name}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 5},
            },
            **spec,
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": "http"}]},
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [deployment, service]})
