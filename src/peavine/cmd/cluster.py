"""What `up` decided about a cluster, kept in `cluster.json`; and the processes that follow from it."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_POD_RANGE = "172.7.0.0/16"
DEFAULT_SERVICE_RANGE = "192.168.0.0/16"
# Where the defaults would overlap a network of this machine, the first of these that does not is taken (docs/up.md).
POD_RANGES = (DEFAULT_POD_RANGE, "172.27.0.0/16", "10.244.0.0/16", "100.64.0.0/16", "10.84.0.0/16")
SERVICE_RANGES = (DEFAULT_SERVICE_RANGE, "10.96.0.0/16", "172.31.0.0/16", "100.66.0.0/16", "10.85.0.0/16")
DNS_PORT = 10053
METRICS_PORT = 10443
CLUSTER_DOMAIN = "cluster.local"


@dataclass
class Cluster:
    """One `peavine up` on this machine."""

    data_dir: str
    node_name: str
    node_ip: str
    runtime: str = "containerd"
    secure_port: int = 6443
    pod_range: str = DEFAULT_POD_RANGE
    service_range: str = DEFAULT_SERVICE_RANGE
    store: str = ""
    proxy_mode: str = "nftables"
    backend: str = "host-gw"
    simulated_nodes: int = 1
    api_only: bool = False
    ingress: bool = False
    load_balancer_pool: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        return Path(self.data_dir)

    @property
    def server(self) -> str:
        host = f"[{self.node_ip}]" if ":" in self.node_ip else self.node_ip
        return f"https://{host}:{self.secure_port}"

    @property
    def api_service_ip(self) -> str:
        return str(ipaddress.ip_network(self.service_range)[1])

    @property
    def dns_service_ip(self) -> str:
        return str(ipaddress.ip_network(self.service_range)[2])

    @property
    def first_node(self) -> str:
        return f"{self.node_name}-0" if self.simulated_nodes > 1 else self.node_name

    @property
    def admin_kubeconfig(self) -> Path:
        return self.directory / "admin.kubeconfig"

    @property
    def run_dir(self) -> Path:
        return self.directory / "run"

    def save(self) -> None:
        draft = self.directory / "cluster.json.new"
        draft.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        draft.replace(self.directory / "cluster.json")

    @classmethod
    def load(cls, data_dir: str | os.PathLike[str]) -> Cluster | None:
        """The cluster of a data directory; None if there is none. Raises ValueError for a file that is not ours."""
        path = Path(data_dir) / "cluster.json"
        if not path.exists():
            return None
        try:
            return cls(**json.loads(path.read_text()))
        except TypeError as error:
            raise ValueError(f"{path}: {error}") from error


@dataclass(frozen=True)
class Process:
    """One supervised process."""

    name: str
    command: list[str]


def default_data_dir() -> str:
    if os.geteuid() == 0:
        return "/var/lib/peavine"
    return str(Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "peavine")


def free_range(candidates: Iterable[str], taken: Iterable[str]) -> str:
    """The first candidate that overlaps none of the networks in use. Raises ValueError if all do."""
    networks = [ipaddress.ip_network(t, strict=False) for t in taken]
    for text in candidates:
        candidate = ipaddress.ip_network(text)
        if not any(n.version == candidate.version and n.prefixlen > 0 and n.overlaps(candidate) for n in networks):
            return text
    raise ValueError("every range overlaps a network of this machine: name one with a flag")


def machine_networks() -> list[str]:
    """The networks that this machine has addresses in or routes to, as `ip` tells them."""
    try:
        routes = subprocess.run(["ip", "-j", "route"], capture_output=True, check=True, text=True).stdout
        addresses = subprocess.run(["ip", "-j", "addr"], capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    found = [route["dst"] for route in json.loads(routes or "[]") if route.get("dst", "default") != "default"]
    for link in json.loads(addresses or "[]"):
        found += [f"{a['local']}/{a['prefixlen']}" for a in link.get("addr_info", ()) if a.get("family") == "inet"]
    return found


def primary_address() -> str:
    """The address from which this machine reaches others (no packet is sent); the loopback one if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def processes(cluster: Cluster) -> list[Process]:
    """Everything that runs, in the order of starting. Each waits for what it needs, so they start at once."""
    d = cluster.directory
    configs, pki = d / "kubeconfigs", d / "pki"

    def component(name: str, *flags: str) -> Process:
        return Process(name, [sys.executable, "-m", "peavine.cmd.main", name, *flags])

    def configured(name: str, *flags: str) -> Process:
        return component(name, "--kubeconfig", str(configs / f"{name}.kubeconfig"), *flags)

    wanted = [
        component(
            "apiserver",
            f"--data-dir={d}",
            f"--secure-port={cluster.secure_port}",
            f"--advertise-address={cluster.node_ip}",
            f"--service-cluster-ip-range={cluster.service_range}",
            *([f"--store={cluster.store}"] if cluster.store else []),
        )
    ]
    if cluster.api_only:
        return wanted
    # Simulated clusters may be many on one machine: no fixed ports but the API server's.
    quiet = ["--secure-port=0"] if cluster.runtime == "simulated" else []
    wanted += [
        configured(
            "controller-manager",
            "--leader-elect=false",
            *quiet,
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--cluster-signing-cert-file={pki / 'ca.crt'}",
            f"--cluster-signing-key-file={pki / 'ca.key'}",
            f"--service-account-private-key-file={pki / 'sa.key'}",
            f"--cluster-cidr={cluster.pod_range}",
            f"--service-cluster-ip-range={cluster.service_range}",
            f"--local-path-root={d / 'local-path'}",
            *_metrics(cluster),
        ),
        configured("scheduler", "--leader-elect=false", *quiet),
    ]
    node = cluster.node_name
    kubelet = [
        f"--kubeconfig={configs / f'kubelet-{node}.kubeconfig'}",
        f"--hostname-override={node}",
        f"--node-ip={cluster.node_ip}",
        f"--data-dir={d}",
        f"--cluster-dns={cluster.dns_service_ip}",
        f"--cluster-domain={CLUSTER_DOMAIN}",
        f"--tls-cert-file={pki / f'kubelet-{node}.crt'}",
        f"--tls-private-key-file={pki / f'kubelet-{node}.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
    ]
    if cluster.runtime == "simulated":
        return [*wanted, component("kubelet", *kubelet, *_simulated(cluster))]
    from peavine.kubelet.containerd import containerd_command

    return [
        *wanted,
        Process("containerd", containerd_command(d)),
        configured(
            "network",
            f"--hostname-override={node}",
            f"--cluster-cidr={cluster.pod_range}",
            f"--node-ip={cluster.node_ip}",
            f"--cni-conf-dir={d / 'cni/net.d'}",
            f"--state-dir={d / 'cni/state'}",
            f"--backend={cluster.backend}",
            *(["--announce-load-balancers=true"] if cluster.load_balancer_pool else []),
        ),
        component("kubelet", *kubelet, f"--container-runtime-endpoint={d / 'containerd/containerd.sock'}"),
        configured(
            "proxy",
            f"--hostname-override={node}",
            f"--cluster-cidr={cluster.pod_range}",
            f"--proxy-mode={cluster.proxy_mode}",
            "--healthz-bind-address=127.0.0.1:10256",
            "--metrics-bind-address=127.0.0.1:10249",
        ),
        configured(
            "dns",
            f"--hostname-override={node}",
            f"--listen={cluster.node_ip}",
            f"--port={DNS_PORT}",
            f"--cluster-domain={CLUSTER_DOMAIN}",
            f"--service-ip={cluster.dns_service_ip}",
            "--healthz-bind-address=127.0.0.1:10254",
        ),
        *([configured("ingress", *_ingress(cluster))] if cluster.ingress else []),
    ]


def _simulated(cluster: Cluster) -> list[str]:
    """Flags of the one kubelet that plays all nodes; it has a free port, so that several clusters run side by side."""
    flags = ["--runtime=simulated", f"--simulated-nodes={cluster.simulated_nodes}", "--port=0"]
    if cluster.simulated_nodes > 1:
        # No single node's identity may speak for the others.
        flags.append(f"--kubeconfig={cluster.admin_kubeconfig}")
    return flags


def _metrics(cluster: Cluster) -> list[str]:
    """Flags for the resource metrics API; simulated clusters do without: their pods use nothing."""
    if cluster.runtime == "simulated":
        return []
    pki = cluster.directory / "pki"
    return [
        f"--metrics-bind-address={cluster.node_ip}:{METRICS_PORT}",
        f"--metrics-tls-cert-file={pki / 'metrics-server.crt'}",
        f"--metrics-tls-private-key-file={pki / 'metrics-server.key'}",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
    ]


def _ingress(cluster: Cluster) -> list[str]:
    flags = [
        f"--hostname-override={cluster.node_name}",
        f"--publish-address={cluster.node_ip}",
        f"--run-dir={cluster.run_dir / 'ingress'}",
        "--healthz-bind-address=127.0.0.1:10253",
    ]
    if cluster.load_balancer_pool:
        return [*flags, f"--load-balancer-pool={cluster.load_balancer_pool}"]
    return [*flags, "--load-balancer-node-addresses"]
