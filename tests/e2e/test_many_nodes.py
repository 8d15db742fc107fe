"""`peavine up --nodes N` on containerd: hosts as network namespaces, on a machine that is itself one.

The machine's namespace keeps the cluster's ports and rules apart from the one-node cluster of the other tests.
"""

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from peavine.cmd.cluster import Cluster
from peavine.linux import namespaces
from tests.e2e.conftest import IMAGE, PEAVINE, Kubectl, kubectl_versions, nothing_left, traces, until

pytestmark = [pytest.mark.root, pytest.mark.slow]
PORT = 26444


class Machine:
    """A network namespace in which the commands run, as on a machine of its own."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        namespaces.create(self.name)
        self.run("ip", "link", "set", "lo", "up")
        # An address that is not loopback, for clusters that make no bridge of hosts.
        self.run("ip", "address", "add", "10.9.9.9/32", "dev", "lo")
        return self

    def __exit__(self, *_):
        namespaces.remove(self.name)

    def run(self, *command, timeout=180):
        with namespaces.inside(self.name):
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def peavine(self, *args):
        return self.run(*PEAVINE, *args)


class InsideKubectl(Kubectl):
    """kubectl, run on that machine."""

    def __init__(self, machine, kubeconfig):
        super().__init__(kubeconfig)
        self.machine = machine

    def run(self, *args, **more):
        with namespaces.inside(self.machine.name):
            return super().run(*args, **more)


@contextlib.contextmanager
def cluster(directory, *flags):
    """(machine, kubectl) of a running cluster; `down --purge` afterwards must leave nothing."""
    with Machine(f"{directory.name}-{os.getpid()}") as machine:
        with namespaces.inside(machine.name):
            before = traces(directory)
        try:
            machine.peavine("up", f"--data-dir={directory}", f"--secure-port={PORT}", "--node-name=m", *flags)
            made = Cluster.load(directory)
            yield machine, InsideKubectl(machine, directory / "admin.kubeconfig")
        except BaseException:
            print(_logs(directory))
            raise
        finally:
            machine.peavine("down", f"--data-dir={directory}", "--purge")
        with namespaces.inside(machine.name):
            until(lambda: nothing_left(directory, before), 10, f"left: {traces(directory) - before}")
        assert not namespaces.names() & {host.namespace for host in made.hosts}
        assert not directory.exists()


def _logs(directory):
    return "\n".join(f"--- {p.name}\n{p.read_text()[-800:]}" for p in sorted(directory.glob("logs/*.log")))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Three hosts, which count as lost after 12 s."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if missing := [name for name in ("containerd", "runc", "nft", "busybox", "catatonit") if not shutil.which(name)]:
        pytest.skip(f"needs {', '.join(missing)}")
    if not kubectl_versions():
        pytest.skip("needs the real kubectl")
    lost = ["controller-manager.node-monitor-grace-period=12", "kubelet.node-lease-duration-seconds=8"]
    flags = [f"--extra-config={one}" for one in lost]
    with cluster(tmp_path_factory.mktemp("many"), "--nodes=3", *flags) as running:
        yield running


def talker(kind, name, **spec):
    """A workload whose pods answer with their node's name; a node that is lost loses them soon."""
    script = "mkdir -p /tmp/www && echo $NODE > /tmp/www/index.html && echo here && exec httpd -f -p 8080 -h /tmp/www"
    node = {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    container = {
        "name": "main",
        "image": IMAGE,
        "command": ["sh", "-c", script],
        "env": [node],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    }
    labels = {"app": name}
    soon = [
        {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
        for what in ("not-ready", "unreachable")
    ]
    pod = {"containers": [container], "tolerations": soon, "terminationGracePeriodSeconds": 1}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            **spec,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def service(name, port):
    ports = [{"port": 80, "targetPort": 8080, "nodePort": port}]
    spec = {"type": "NodePort", "selector": {"app": name}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def deploy(kubectl, workload, port):
    name, kind = workload["metadata"]["name"], workload["kind"].lower()
    items = [workload, service(name, port)]
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    kubectl("rollout", "status", f"{kind}/{name}", "--timeout=90s")


def pods(kubectl, app):
    """(name, node, address) of the pods that are to stay."""
    listed = kubectl.json("get", "pods", "-l", f"app={app}")["items"]
    return [
        (p["metadata"]["name"], p["spec"]["nodeName"], p["status"].get("podIP"))
        for p in listed
        if "deletionTimestamp" not in p["metadata"]
    ]


def addresses(kubectl):
    """Node to address."""
    nodes = kubectl.json("get", "nodes")["items"]
    internal = {n["metadata"]["name"]: n["status"]["addresses"] for n in nodes}
    return {name: next(a["address"] for a in found if a["type"] == "InternalIP") for name, found in internal.items()}


def fetched(kubectl, pod, urls, seconds=10):
    """What these pages say, fetched by a pod, in order; `none` for one that does not answer."""
    script = "; ".join(f"timeout {seconds} wget -q -O - {url} || echo none" for url in urls)
    return kubectl("exec", pod, "--", "sh", "-c", script).split()


def test_every_host_is_a_node_with_an_address_and_a_pod_subnet_of_its_own(many):
    _, kubectl = many
    found = addresses(kubectl)
    assert list(found) == ["m-11", "m-21", "m-22"]
    # 10.4.7.0/24, unless another cluster of this machine has that.
    assert {name: address.rpartition(".")[2] for name, address in found.items()} == {
        "m-11": "11", "m-21": "21", "m-22": "22",
    }  # fmt: skip
    assert len({address.rpartition(".")[0] for address in found.values()}) == 1
    subnets = {n["metadata"]["name"]: n["spec"]["podCIDR"] for n in kubectl.json("get", "nodes")["items"]}
    assert subnets == {"m-11": "172.7.11.0/24", "m-21": "172.7.21.0/24", "m-22": "172.7.22.0/24"}


def test_pods_reach_pods_services_names_and_node_ports_of_every_host(many):
    machine, kubectl = many
    deploy(kubectl, talker("DaemonSet", "each"), 30080)
    found = pods(kubectl, "each")
    hosts = addresses(kubectl)
    assert {node for _, node, _ in found} == set(hosts)
    for name, _, _ in found:
        assert kubectl("logs", name) == "here\n"
        direct = fetched(kubectl, name, [f"http://{address}:8080/" for _, _, address in found])
        assert direct == [node for _, node, _ in found]
        anyone = ["http://each/", *(f"http://{address}:30080/" for address in hosts.values())]
        said = fetched(kubectl, name, anyone)
        assert len(said) == len(anyone) and set(said) <= set(hosts)
    # The machine is no node: its API server goes the same ways.
    assert kubectl("get", "--raw", "/api/v1/namespaces/default/services/each:80/proxy/").strip() in hosts
    node_port = f"http://{Cluster.load(kubectl.kubeconfig.rpartition('/')[0]).node_ip}:30080/"
    assert machine.run("curl", "-sS", "-m", "20", node_port).strip() in hosts


def test_a_network_policy_holds_on_every_host_and_goes_again(many):
    _, kubectl = many
    found = pods(kubectl, "each")
    pages = [f"http://{address}:8080/" for _, _, address in found]
    friend = found[0][0]
    kubectl("label", "pod", friend, "friend=yes")
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "friends"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "each"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"friend": "yes"}}}]}],
        },
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(policy))
    nodes = [node for _, node, _ in found]
    stranger, own = found[1][0], found[1][1]
    # A pod always reaches itself.
    until(lambda: set(fetched(kubectl, stranger, pages, 2)) == {own, "none"}, 60, "strangers come in")
    until(lambda: fetched(kubectl, friend, pages) == nodes, 30, "friends do not come in")
    kubectl("delete", "networkpolicy", "friends")
    until(lambda: fetched(kubectl, stranger, pages) == nodes, 60, "the policy stays")
    # The kubelets' probes were never stopped.
    assert all(
        pod["status"]["containerStatuses"][0]["restartCount"] == 0 for pod in kubectl.json("get", "pods")["items"]
    )


def test_a_lost_host_is_found_out_its_pods_move_and_names_still_resolve(many):
    machine, kubectl = many
    directory = kubectl.kubeconfig.rpartition("/")[0]
    deploy(kubectl, talker("Deployment", "few", replicas=3), 30081)
    lost = pods(kubectl, "few")[0][1]
    machine.peavine("down", f"--data-dir={directory}", f"--node={lost}")

    def status(node):
        conditions = kubectl.json("get", "node", node)["status"]["conditions"]
        return next(c["status"] for c in conditions if c["type"] == "Ready")

    until(lambda: status(lost) == "Unknown", 60, "the node is still taken for ready")
    kubectl("wait", "deployment/few", "--for=jsonpath={.status.readyReplicas}=3", "--timeout=60s")
    until(lambda: lost not in {node for _, node, _ in pods(kubectl, "few")}, 60, "pods stay on the lost node")

    def dns_endpoints():
        listed = kubectl.json("-n", "kube-system", "get", "endpointslices", "-l", "kubernetes.io/service-name=kube-dns")
        return {e["nodeName"] for s in listed["items"] for e in s["endpoints"] if e["conditions"]["ready"]}

    until(lambda: dns_endpoints() == set(addresses(kubectl)) - {lost}, 30, "its DNS endpoint is still ready")
    survivor = next(name for name, node, _ in pods(kubectl, "each") if node != lost)
    until(
        lambda: lost not in fetched(kubectl, survivor, ["http://each/"] * 6), 30, "its endpoint is still in the rules"
    )
    said = fetched(kubectl, survivor, ["http://few/", "http://each/"] * 5)
    assert len(said) == 10 and lost not in said

    machine.peavine("up", f"--data-dir={directory}")
    until(lambda: status(lost) == "True", 60, "the node did not come back")
    until(lambda: dns_endpoints() == set(addresses(kubectl)), 60, "its DNS endpoint did not come back")
    kubectl("rollout", "status", "daemonset/each", "--timeout=90s")
    address = next(address for _, node, address in pods(kubectl, "each") if node == lost)
    until(
        lambda: fetched(kubectl, survivor, [f"http://{address}:8080/"]) == [lost], 30, "no way to the node that is back"
    )


def _same_over_ipv6(kubectl, found):
    """Between pods, through a Service's address of that family, and through a node port."""
    addresses6 = [
        next(ip["ip"] for ip in kubectl.json("get", "pod", name)["status"]["podIPs"] if ":" in ip["ip"])
        for name, _, _ in found
    ]
    kubectl("patch", "service", "each", "-p", '{"spec": {"ipFamilyPolicy": "RequireDualStack"}}')
    service_ip = kubectl.json("get", "service", "each")["spec"]["clusterIPs"][1]
    node = kubectl.json("get", "node", found[0][1])["status"]["addresses"]
    node_ip = next(a["address"] for a in node if ":" in a["address"])
    anyone = [f"http://[{service_ip}]/", f"http://[{node_ip}]:30080/"]
    for name, _, _ in found:
        direct = fetched(kubectl, name, [f"http://[{address}]:8080/" for address in addresses6])
        assert direct == [node for _, node, _ in found]
        # The endpoints of the new family follow the change.
        until(lambda name=name: "none" not in fetched(kubectl, name, anyone), 30, "no answer over IPv6")


def test_a_second_cluster_beside_it_takes_the_next_range_and_sends_over_vxlan(many, tmp_path_factory):
    dual = Path("/proc/net/if_inet6").exists()
    ranges = ["--pod-cidr=172.7.0.0/16,fd07::/48", "--service-cidr=192.168.0.0/16,fd08::/108"] if dual else []
    with cluster(tmp_path_factory.mktemp("vxlan"), "--nodes=2", "--backend=vxlan", *ranges) as (_, kubectl):
        deploy(kubectl, talker("DaemonSet", "each"), 30080)
        found = pods(kubectl, "each")
        for name, _, _ in found:
            urls = [*(f"http://{address}:8080/" for _, _, address in found), "http://each/"]
            said = fetched(kubectl, name, urls)
            assert said[:2] == [node for _, node, _ in found] and len(said) == 3
        if dual:
            _same_over_ipv6(kubectl, found)
        host = Cluster.load(kubectl.kubeconfig.rpartition("/")[0]).hosts[0]
        with namespaces.inside(host.namespace):
            device = subprocess.run(["ip", "-d", "link", "show", "peavine.1"], capture_output=True, text=True).stdout
        assert "vxlan id 1" in device and "dstport 8472" in device


def test_another_network_can_take_the_place_of_ours(many, tmp_path_factory):
    """Its configuration stands in for flannel's: a bridge of its own, on the node's subnet."""
    conf = tmp_path_factory.mktemp("cni")
    flags = ["--network=none", f"--cni-conf-dir={conf}", "--cni-bin-dir=/usr/lib/cni", "--node-ip=10.9.9.9"]
    with cluster(tmp_path_factory.mktemp("none"), *flags) as (_, kubectl):
        kubectl("wait", "node/m", "--for=create", "--timeout=60s")
        until(lambda: kubectl.json("get", "node", "m")["spec"].get("podCIDR"), 30)
        node = kubectl.json("get", "node", "m")
        reason = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
        assert reason["status"] == "False" and "network" in reason["message"].lower()
        ipam = {"type": "host-local", "dataDir": str(conf / "state"), "ranges": [[{"subnet": node["spec"]["podCIDR"]}]]}
        bridge = {"type": "bridge", "bridge": "other0", "isGateway": True, "ipam": ipam}
        config = {"cniVersion": "1.0.0", "name": "other", "plugins": [bridge]}
        (conf / "20-other.conflist").write_text(json.dumps(config))
        kubectl("wait", "node/m", "--for=condition=Ready", "--timeout=60s")
        deploy(kubectl, talker("Deployment", "one"), 30080)
        name, _, address = pods(kubectl, "one")[0]
        assert address.startswith("172.7.") and fetched(kubectl, name, [f"http://{address}:8080/"]) == ["m"]
