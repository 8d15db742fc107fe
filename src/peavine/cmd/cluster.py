"""What `up` decided about a cluster, kept in `cluster.json`: names, addresses, ranges, hosts."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
import socket
import subprocess
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


# Hosts that Peavine makes itself (`--nodes N` on containerd) live in the first free one of these.
NODE_RANGES = tuple(f"10.4.{third}.0/24" for third in range(7, 16))
SOCKET_NAME_BYTES_MAX = 107
CONTAINERD_SOCKET = "containerd/containerd.sock.ttrpc"
# Fields of earlier versions' cluster.json.
RENAMED = {"simulated_nodes": "nodes"}
HOST_NUMBERS = (11, *range(21, 254))


@dataclass(frozen=True)
class Host:
    """One node on containerd: the machine itself, or one of several network namespaces of it."""

    node: str
    address: str
    directory: Path
    namespace: str = ""
    """Empty: the machine's own."""
    address6: str = ""
    """In a dual-stack cluster."""


@dataclass
class Cluster:
    """One `peavine up` (or `peavine join`) on this machine."""

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
    cni: str = ""
    """CONFIGURATIONS:PROGRAMS, the directories of another network that takes the place of ours."""
    nodes: int = 1
    node_range: str = ""
    """Of the hosts that are network namespaces; empty where the machine itself is the node."""
    node_ip6: str = ""
    """Of a dual-stack cluster: the machine's IPv6 address, among its hosts where there are some."""
    api_only: bool = False
    ingress: bool = False
    gateway_api: bool = False
    load_balancer_pool: str = ""
    joined: str = ""
    """The API server (URL) of a cluster that another machine started and that this one has joined as a node."""
    extra: dict[str, list[str]] = field(default_factory=dict)
    """Component -> flags of its own, after ours."""
    notes: list[str] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        return Path(self.data_dir)

    @property
    def server(self) -> str:
        if self.joined:
            return self.joined
        host = f"[{self.node_ip}]" if ":" in self.node_ip else self.node_ip
        return f"https://{host}:{self.secure_port}"

    @property
    def api_service_ip(self) -> str:
        return str(ipaddress.ip_network(self.service_range.split(",")[0])[1])

    @property
    def dns_service_ip(self) -> str:
        return str(ipaddress.ip_network(self.service_range.split(",")[0])[2])

    @property
    def node_names(self) -> list[str]:
        if self.runtime == "simulated":
            return [f"{self.node_name}-{n}" for n in range(self.nodes)] if self.nodes > 1 else [self.node_name]
        return [host.node for host in self.hosts]

    @property
    def hosts(self) -> list[Host]:
        """Where kubelets run on containerd. A host's name ends in the last number of its address."""
        if not self.node_range:
            return [Host(self.node_name, self.node_ip, self.directory, address6=self.node_ip6)]
        network = ipaddress.ip_network(self.node_range)
        return [
            Host(
                f"{self.node_name}-{number}",
                str(network[number]),
                self.directory / "hosts" / str(number),
                f"{self.bridge}-{number}",
                self.node_ip6.replace("::1", f"::{number}"),
            )
            for number in HOST_NUMBERS[: self.nodes]
        ]

    @property
    def bridge(self) -> str:
        """Of the hosts; its first address is the machine's own among them."""
        return bridge_name(self.node_range)

    @property
    def admin_kubeconfig(self) -> Path:
        return self.directory / "admin.kubeconfig"

    @property
    def run_dir(self) -> Path:
        return self.directory / "run"

    def check(self) -> None:
        """Raises ValueError where the kernel would not take the name of a socket below the data directory."""
        longest = max(len(str(host.directory / CONTAINERD_SOCKET)) for host in self.hosts)
        if self.runtime == "containerd" and not self.api_only and longest > SOCKET_NAME_BYTES_MAX:
            room = SOCKET_NAME_BYTES_MAX - (longest - len(self.data_dir))
            raise ValueError(f"--data-dir {self.data_dir}: longer than {room} letters, too long for the sockets in it")

    def save(self) -> None:
        draft = self.directory / "cluster.json.new"
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        draft.replace(self.directory / "cluster.json")

    @classmethod
    def load(cls, data_dir: str | os.PathLike[str]) -> Cluster | None:
        """The cluster of a data directory; None if there is none. Raises ValueError for a file that is not ours."""
        path = Path(data_dir) / "cluster.json"
        if not path.exists():
            return None
        try:
            facts = json.loads(path.read_text())
            return cls(**{RENAMED.get(name, name): value for name, value in facts.items()})
        except TypeError as error:
            raise ValueError(f"{path}: {error}") from error


def bridge_name(node_range: str) -> str:
    """`10.4.7.0/24` gives `peavine-7`: hosts' names begin with it, and the kernel takes 15 letters for a link's."""
    return f"peavine-{ipaddress.ip_network(node_range)[0].packed[2]}"


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
