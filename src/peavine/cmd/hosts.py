"""Hosts that are network namespaces of this machine (`up --nodes N` on containerd): made, lost, removed.

    machine:  bridge `peavine-7`, 10.4.7.1 ──┬── `peavine-7-11` ── eth0 of namespace `peavine-7-11`, 10.4.7.11
              the control plane listens here └── `peavine-7-21` ── eth0 of namespace `peavine-7-21`, 10.4.7.21

Files, mounts and control groups of a host are its own by their paths, so hosts share the machine's mount namespace.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from peavine.base.clock import REAL
from peavine.cmd.cluster import Cluster, Host
from peavine.cmd.kubelet import cgroup_root
from peavine.linux import cgroups, links, mounts, namespaces, nftables, processes
from peavine.network import forwarding

KILL_TRIES_MAX = 100
BRIDGE_SYSCTL = "net/bridge/bridge-nf-call-iptables"


def ensure(cluster: Cluster) -> None:
    """Bridge, namespaces, links and the way out as they should be; what is there is left alone. Raises OSError, and
    ValueError where the names are taken by something else.
    """
    network = ipaddress.ip_network(cluster.node_range)
    bridge, prefix = cluster.bridge, network.prefixlen
    gateway = cluster.node_ip
    mtu = _outer_mtu()
    if links.link(bridge) is None:
        links.batch([f"link add {bridge} mtu {mtu} type bridge", f"address add {gateway}/{prefix} dev {bridge}"])
        if cluster.node_ip6:
            links.batch([f"address add {cluster.node_ip6}/64 dev {bridge} nodad"])
    elif gateway not in {address for _, address, _ in links.addresses(bridge)}:
        raise ValueError(f"the link {bridge} is there already and is not this cluster's: choose another --node-cidr")
    links.batch([f"link set {bridge} up"])
    links.set_sysctl("net/ipv4/ip_forward", "1")
    nftables.run(_way_out(cluster))
    forwarding.ensure([cluster.node_range, *cluster.pod_range.split(",")])
    (cluster.directory / "hosts").mkdir(exist_ok=True, mode=0o700)
    _switch_only(cluster)
    for host in cluster.hosts:
        _ensure_host(host, bridge, gateway, prefix, mtu)
    _write_resolvers(cluster)


def _ensure_host(host: Host, bridge: str, gateway: str, prefix: int, mtu: int) -> None:
    name = host.namespace
    if name not in namespaces.names():
        # A link without its namespace is what is left of a lost host.
        links.remove_link(name)
        namespaces.create(name)
    if links.link(name) is None:
        # A peer still in the namespace would be one whose other end somebody deleted: then it is gone too.
        links.batch(
            [
                f"link add {name} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {name}",
                f"link set {name} master {bridge} up",
            ]
        )
    with namespaces.inside(name):
        links.batch(["link set lo up", "link set eth0 up"])
        if host.address not in {address for _, address, _ in links.addresses("eth0")}:
            links.batch([f"address add {host.address}/{prefix} dev eth0"])
        if host.address6 and host.address6 not in {address for _, address, _ in links.addresses("eth0")}:
            links.batch([f"address add {host.address6}/64 dev eth0 nodad"])
        links.batch([f"route replace default via {gateway}"])
    host.directory.mkdir(parents=True, exist_ok=True, mode=0o700)


def _switch_only(cluster: Cluster) -> None:
    """What one host sends to another must meet the rules of these two and not the machine's, which has the Services'
    too. br_netfilter would show it to them; where the machine has other bridges, somebody may want that: it is left.
    """
    kept = cluster.directory / "hosts" / BRIDGE_SYSCTL.rpartition("/")[2]
    if kept.exists() or links.bridges() - {cluster.bridge}:
        return
    try:
        before = Path("/proc/sys", BRIDGE_SYSCTL).read_text()
    except FileNotFoundError:
        return
    if before.strip() != "0":
        kept.write_text(before)
        links.set_sysctl(BRIDGE_SYSCTL, "0")


def _outer_mtu() -> int:
    device = links.default_source()[1]
    found = links.link(device) if device else None
    return int(found["mtu"]) if found else 1500


def _table(cluster: Cluster) -> str:
    return f"{cluster.bridge}-hosts"


def _way_out(cluster: Cluster) -> str:
    """Hosts reach the world with the machine's address, by IPv4: their IPv6 ends at the machine."""
    table = _table(cluster)
    inside = [cluster.node_range, *(part for part in cluster.pod_range.split(",") if ":" not in part), "224.0.0.0/4"]
    return "\n".join(
        [
            f"add table ip {table}",
            f"delete table ip {table}",
            f"add table ip {table}",
            f"add chain ip {table} postrouting {{ type nat hook postrouting priority 100; }}",
            f"add rule ip {table} postrouting ip saddr {cluster.node_range} "
            f"ip daddr != {{ {', '.join(inside)} }} masquerade fully-random",
            "",
        ]
    )


def _write_resolvers(cluster: Cluster) -> None:
    """A resolver that listens on the machine's loopback is out of a host's reach: systemd tells those behind it."""
    wanted: list[str] = []
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        with contextlib.suppress(OSError):
            lines = path.read_text().splitlines()
            wanted = [line for line in lines if not line.startswith("nameserver") or not _is_loopback(line)]
            if any(line.startswith("nameserver") for line in wanted):
                break
    (cluster.directory / "hosts" / "resolv.conf").write_text("\n".join(wanted) + "\n")


def _is_loopback(line: str) -> bool:
    words = line.split()
    try:
        return len(words) > 1 and ipaddress.ip_address(words[1].partition("%")[0]).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def inside(host: Host) -> Iterator[None]:
    """The calling thread, and what it starts, is on that host for the duration of the block."""
    if not host.namespace:
        yield
        return
    with namespaces.inside(host.namespace):
        yield


async def lose(host: Host) -> None:
    """What a power cut does to a machine: its network, processes, containers, mounts and volatile state are gone at
    once; its disk stays. Its supervised processes cannot come back until `ensure` has made the namespace again.
    """
    identity = namespaces.identity(host.namespace)
    # The name goes first, so that nothing can be started there any more.
    namespaces.remove(host.namespace)
    links.remove_link(host.namespace)
    for _ in range(KILL_TRIES_MAX):
        running = _running(host, identity)
        if not running:
            break
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # Nothing tells when a process that is not our child has ended for good.
        await REAL.sleep(0.05)
    await cgroups.remove_tree(cgroup_root(str(host.directory)))
    mounts.unmount_below(host.directory)
    # On a machine of its own this is below /run.
    shutil.rmtree(host.directory / "containerd" / "state", ignore_errors=True)


def _running(host: Host, identity: int) -> set[int]:
    """What is in the host's namespace, and what works with its files, in case somebody else has removed the name."""
    found = set(namespaces.members(identity)) if identity else set()
    for pid, command in processes.commands():
        ours = Path(command[0]).name.startswith("containerd") or "peavine.cmd.main" in command
        if ours and any(f"{host.directory}/" in word for word in command):
            found.add(pid)
    return found


def is_lost(host: Host) -> bool:
    return bool(host.namespace) and host.namespace not in namespaces.names()


def remove(cluster: Cluster) -> None:
    """All that `ensure` makes but files. What is not there is no error."""
    kept = cluster.directory / "hosts" / BRIDGE_SYSCTL.rpartition("/")[2]
    if kept.exists():
        links.set_sysctl(BRIDGE_SYSCTL, kept.read_text().strip())
        kept.unlink()
    for host in cluster.hosts:
        namespaces.remove(host.namespace)
        links.remove_link(host.namespace)
    links.remove_link(cluster.bridge)
    nftables.remove_tables([("ip", _table(cluster))])
