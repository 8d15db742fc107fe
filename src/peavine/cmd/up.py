"""Start a cluster on this machine: certificates, the components under supervision, a kubeconfig."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
import shutil
import socket
import sys
import time
from pathlib import Path

from peavine.base.lifetimes import Scope
from peavine.base.lifetimes import run as run_main
from peavine.client import Client
from peavine.client.rest import wait_ready
from peavine.cmd import addons, hosts
from peavine.cmd.cluster import (
    HOST_NUMBERS,
    NODE_RANGES,
    POD_RANGES,
    SERVICE_RANGES,
    Cluster,
    bridge_name,
    default_data_dir,
    free_range,
    machine_networks,
    primary_address,
)
from peavine.cmd.starting import (
    choose_runtime,
    give_images,
    last_words,
    node_ready,
    port_is_free,
    prepare_containerd,
    reason_of,
    start_supervisor,
)
from peavine.cmd.supervise import lock

READY_SECONDS_MAX = 60.0
# Of a thousand simulated nodes a few tell enough.
NODES_AWAITED_MAX = 16
ADMIN_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def flags() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="peavine up", description=__doc__)
    options.add_argument(
        "--data-dir", default=default_data_dir(), help="where everything is kept (default: %(default)s)"
    )
    options.add_argument(
        "--runtime",
        choices=("auto", "containerd", "simulated"),
        default="auto",
        help="what runs the pods; auto takes containerd where it can, else simulates",
    )
    options.add_argument(
        "--nodes", type=int, default=1, help="how many nodes; on containerd each is a network namespace"
    )
    options.add_argument("--api-only", action="store_true", help="only the API server")
    options.add_argument("--secure-port", type=int, default=6443, help="port of the API server")
    options.add_argument("--node-ip", default="", help="this machine's address (default: that of its default route)")
    options.add_argument("--node-name", default="", help="this node's name (default: the host name)")
    options.add_argument(
        "--pod-cidr", default="", help="range of pod addresses, or an IPv4 and an IPv6 one (default: the first free)"
    )
    options.add_argument(
        "--service-cidr", default="", help="range of Service addresses, or two (default: the first free)"
    )
    options.add_argument(
        "--node-cidr", default="", help="range of --nodes' addresses (default: 10.4.7.0/24 or a free one)"
    )
    options.add_argument(
        "--extra-config",
        action="append",
        default=[],
        metavar="COMPONENT.FLAG=VALUE",
        help="a flag for one component, such as controller-manager.node-monitor-grace-period=20 (repeatable)",
    )
    options.add_argument("--store", default="", help="sqlite (default), or etcd://host:port[,host:port]")
    options.add_argument(
        "--proxy-mode", choices=("nftables", "iptables", "ipvs", "userspace"), default="nftables", help="of Services"
    )
    options.add_argument("--backend", choices=("host-gw", "vxlan", "none"), default="host-gw", help="pod network")
    options.add_argument(
        "--network",
        choices=("peavine", "none"),
        default="peavine",
        help="none: another CNI network (flannel, Calico) takes its place, and the node is ready once that is there",
    )
    options.add_argument("--cni-conf-dir", default="/etc/cni/net.d", help="of --network none (default: %(default)s)")
    options.add_argument(
        "--cni-bin-dir",
        default="",
        help="of --network none (default: /opt/cni/bin if it has plugins, else /usr/lib/cni)",
    )
    options.add_argument("--ingress", action="store_true", help="run the ingress controller too (needs haproxy)")
    options.add_argument(
        "--gateway-api", action="store_true", help="the ingress controller, and the Gateway API with it (needs haproxy)"
    )
    options.add_argument("--load-balancer-pool", default="", help="addresses for Services of type LoadBalancer")
    options.add_argument("--foreground", action="store_true", help="supervise in this process until interrupted")
    options.add_argument("--timeout", type=float, default=READY_SECONDS_MAX, help="seconds to wait for the node")
    return options


def main(argv: list[str]) -> int:
    args = flags().parse_args(argv)
    try:
        cluster, fresh = settle(args)
    except (ValueError, OSError) as error:
        print(f"peavine up: {error}", file=sys.stderr)
        return 1
    for note in cluster.notes if fresh else ():
        print(note)
    started = time.monotonic()
    held = lock(cluster.directory)
    try:
        if held is None:
            print(f"The cluster in {cluster.data_dir} is running already.")
            if cluster.node_range:
                # A host that was lost comes back: the supervisor waits for its namespace.
                hosts.ensure(cluster)
        else:
            port_is_free(cluster.secure_port)
            prepare(cluster)
            os.close(held)
    except (ValueError, OSError) as error:
        print(f"peavine up: {error}", file=sys.stderr)
        return 1
    if held is not None:
        if args.foreground:
            from peavine.cmd import supervise

            print(f"export KUBECONFIG={cluster.admin_kubeconfig}")
            return supervise.main([f"--data-dir={cluster.data_dir}"])
        start_supervisor(cluster)
    try:
        run_main(_until_ready(cluster, args.timeout, started))
    except (TimeoutError, ExceptionGroup, RuntimeError) as error:
        print(f"peavine up: not ready after {args.timeout:.0f} s: {reason_of(error)}", file=sys.stderr)
        for name, words in last_words(cluster):
            print(f"{name} ends again and again: {words}", file=sys.stderr)
        print(f"Look at `peavine status` and {cluster.directory / 'logs'}.", file=sys.stderr)
        return 1
    print(f"\nexport KUBECONFIG={cluster.admin_kubeconfig}\nkubectl get nodes")
    return 0


def settle(args: argparse.Namespace) -> tuple[Cluster, bool]:
    """The cluster of the data directory, as it was made; or a new one as the flags and this machine allow.

    Raises ValueError where the flags ask for what cannot be.
    """
    directory = Path(args.data_dir).absolute()
    if (existing := Cluster.load(directory)) is not None:
        if existing.joined:
            raise ValueError(f"{directory} is a joined node's: `peavine join --data-dir {directory}` starts it")
        return existing, False
    notes: list[str] = []
    runtime = choose_runtime(args.runtime, notes)
    if (args.ingress or args.gateway_api) and shutil.which("haproxy", path=ADMIN_PATH) is None:
        raise ValueError("--ingress and --gateway-api: haproxy is not installed")
    networks = machine_networks()
    nodes = ""
    if args.nodes > 1 and runtime == "containerd" and not args.api_only:
        nodes = _node_range(args, networks)
        networks = [*networks, nodes]
    pods = args.pod_cidr or free_range(POD_RANGES, networks)
    services = args.service_cidr or free_range(SERVICE_RANGES, [*networks, *pods.split(",")])
    _check_ranges(pods, services)
    for given, chosen, wanted, what in (
        (args.pod_cidr, pods, POD_RANGES[0], "pods"),
        (args.service_cidr, services, SERVICE_RANGES[0], "Services"),
        (args.node_cidr, nodes, NODE_RANGES[0], "hosts"),
    ):
        if chosen and not given and chosen != wanted:
            notes.append(f"{what.capitalize()} get {chosen}: {wanted} is in use on this machine.")
    cluster = Cluster(
        data_dir=str(directory),
        node_name=(args.node_name or socket.gethostname()).lower(),
        node_ip=str(ipaddress.ip_network(nodes)[1]) if nodes else args.node_ip.split(",")[0] or primary_address(),
        runtime=runtime,
        secure_port=args.secure_port,
        pod_range=pods,
        service_range=services,
        store=args.store,
        proxy_mode=args.proxy_mode,
        backend=args.backend,
        cni=_cni(args),
        nodes=args.nodes,
        node_range=nodes,
        node_ip6=_node_ip6(args, nodes) if "," in pods else "",
        extra=_extra(args.extra_config),
        api_only=args.api_only,
        ingress=args.ingress or args.gateway_api,
        gateway_api=args.gateway_api,
        load_balancer_pool=args.load_balancer_pool,
        notes=notes,
    )
    cluster.check()
    port_is_free(cluster.secure_port)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    cluster.save()
    return cluster, True


def _node_range(args: argparse.Namespace, networks: list[str]) -> str:
    """Raises ValueError for what cannot be."""
    if missing := [name for name in ("ip", "nsenter") if shutil.which(name, path=ADMIN_PATH) is None]:
        raise ValueError(f"--nodes above 1: {', '.join(missing)} not installed")
    if args.nodes > len(HOST_NUMBERS):
        raise ValueError(f"--nodes: at most {len(HOST_NUMBERS)} on one machine")
    if args.node_ip:
        raise ValueError("--node-ip is for a machine that is the node; with --nodes there is --node-cidr")
    if not args.node_cidr:
        from peavine.linux import namespaces

        # Another cluster's bridge may be out of sight, in a namespace of its own; the names of hosts are not.
        taken = namespaces.names()
        candidates = [r for r in NODE_RANGES if not any(n.startswith(f"{bridge_name(r)}-") for n in taken)]
        return free_range(candidates, networks)
    network = ipaddress.ip_network(args.node_cidr)
    if network.version != 4 or network.prefixlen > 24:
        raise ValueError(f"--node-cidr {network}: IPv4 of at least 256 addresses is wanted")
    return str(network)


def _check_ranges(pods: str, services: str) -> None:
    """One range, or an IPv4 and an IPv6 one. Raises ValueError."""
    for flag, text in (("--pod-cidr", pods), ("--service-cidr", services)):
        versions = [ipaddress.ip_network(part).version for part in text.split(",")]
        if versions not in ([4], [6], [4, 6]):
            raise ValueError(f"{flag} {text}: one range, or an IPv4 and an IPv6 one with a comma")


def _node_ip6(args: argparse.Namespace, nodes: str) -> str:
    """The machine's IPv6 address; among hosts, one like their IPv4 ones: 10.4.7.0/24 goes with fd04:7::/64."""
    if nodes:
        return f"fd04:{ipaddress.ip_network(nodes)[0].packed[2]}::1"
    from peavine.linux import links

    return args.node_ip.partition(",")[2] or links.default_source(ipv6=True)[0]


def _cni(args: argparse.Namespace) -> str:
    if args.network != "none":
        return ""
    usual = "/opt/cni/bin" if os.path.exists("/opt/cni/bin/loopback") else "/usr/lib/cni"
    return f"{Path(args.cni_conf_dir).absolute()}:{args.cni_bin_dir or usual}"


def _extra(texts: list[str]) -> dict[str, list[str]]:
    """`COMPONENT.FLAG=VALUE` of the command line, by component. Raises ValueError."""
    found: dict[str, list[str]] = {}
    for text in texts:
        component, dot, rest = text.partition(".")
        if not dot or not component or "=" not in rest:
            raise ValueError(f"--extra-config {text}: COMPONENT.FLAG=VALUE is wanted")
        found.setdefault(component, []).append(f"--{rest}")
    return found


def prepare(cluster: Cluster) -> None:
    """Certificates, kubeconfigs and the runtime's configuration: what the processes find when they start."""
    from peavine.cmd.pki import ensure_kubeconfigs, ensure_node, ensure_pki

    real = cluster.runtime == "containerd" and not cluster.api_only
    advertised = dict.fromkeys([cluster.node_ip, primary_address()])
    pki = ensure_pki(cluster.data_dir, advertise_addresses=advertised, service_ip=cluster.api_service_ip)
    ensure_kubeconfigs(pki, cluster.server)
    for host in cluster.hosts:
        ensure_node(pki, host.node, [host.address, "127.0.0.1"], cluster.server)
    if not real:
        return
    from peavine.cmd.pki import SERVER, Wanted, ensure_certificate

    name = "metrics-server.kube-system.svc"
    ensure_certificate(pki, Wanted("metrics-server", "ca", name, usages=(SERVER,), dns_names=(name,)))
    if cluster.node_range:
        hosts.ensure(cluster)
    for host in cluster.hosts:
        prepare_containerd(cluster, host)


async def _until_ready(cluster: Cluster, seconds: float, started: float) -> None:
    client = Client.from_kubeconfig(cluster.admin_kubeconfig, user_agent="peavine-up")
    async with asyncio.timeout(seconds):
        await wait_ready(client, seconds)
        print(f"API server ready after {time.monotonic() - started:.1f} s at {cluster.server}")
        if cluster.api_only:
            return
        await addons.apply(client, cluster)
        awaited = [] if cluster.cni else cluster.node_names[:NODES_AWAITED_MAX]
        async with Scope() as tasks:
            for name in awaited:
                tasks.start(node_ready(client, name), name=name)
            if cluster.runtime == "containerd":
                for host in cluster.hosts:
                    tasks.start(give_images(host, seconds), name=f"images of {host.node}")
        ready = time.monotonic() - started
        for name in awaited:
            print(f"Node {name} ready after {ready:.1f} s")
        if cluster.cni:
            print(f"Nodes get ready once a network has written its configuration to {cluster.cni.partition(':')[0]}.")
