"""Run the pod network of one node: CNI configuration, subnet, routes or VXLAN, network policies."""

from __future__ import annotations

import argparse
import ipaddress
import socket
import sys
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="peavine network", description="Give this node's pods their network and connect it with the other nodes'."
    )
    p.add_argument("--kubeconfig", metavar="FILE", help="how to reach the API server, and as whom")
    p.add_argument("--hostname-override", metavar="NAME", default="", help="this node's name (default: the hostname)")
    p.add_argument(
        "--pod-cidr", metavar="CIDRS", default="", help="this node's pod subnet (default: the Node's spec.podCIDRs)"
    )
    p.add_argument("--cluster-cidr", metavar="CIDRS", default="", help="where all pods live; not masqueraded")
    p.add_argument(
        "--backend",
        choices=("host-gw", "vxlan", "none"),
        default="host-gw",
        help="how pods reach other nodes: routes (default), flannel's VXLAN, or somebody else's business",
    )
    p.add_argument(
        "--node-ip", metavar="ADDRESS", default="", help="this node's address (default: the Node's InternalIP)"
    )
    p.add_argument("--mtu", metavar="BYTES", type=int, default=0, help="of pods (default: fits the node's device)")
    p.add_argument("--bridge", metavar="NAME", default="peavine0", help="default: peavine0")
    p.add_argument(
        "--cni-conf-dir",
        metavar="DIR",
        type=Path,
        default=Path("/etc/cni/net.d"),
        help="where the runtime looks for network configurations (default: /etc/cni/net.d)",
    )
    p.add_argument(
        "--cni-bin-dir", metavar="DIRS", default="/usr/lib/cni:/opt/cni/bin", help="where plugins are, with colons"
    )
    p.add_argument(
        "--state-dir", metavar="DIR", type=Path, default=Path("/var/lib/peavine/cni"), help="addresses given to pods"
    )
    p.add_argument(
        "--pods", choices=("true", "false"), default="true", help="false: no pods here, only routes to theirs"
    )
    p.add_argument("--ip-masq", choices=("true", "false"), default="true", help="pods leave with the node's address")
    p.add_argument("--network-policy", choices=("true", "false"), default="true", help="enforce NetworkPolicies")
    p.add_argument(
        "--healthz-bind-address", metavar="HOST:PORT", default="", help="/healthz and /metrics (default: none)"
    )
    p.add_argument(
        "--announce-load-balancers",
        choices=("true", "false"),
        default="false",
        help="answer by ARP and NDP for load balancers' addresses (default: false)",
    )
    p.add_argument("--cleanup", action="store_true", help="remove everything that this command makes and exit")
    p.add_argument("-v", "--v", dest="verbosity", metavar="LEVEL", type=int, default=2, help="log verbosity")
    return p


def _cidrs(text: str) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(part.strip())) for part in text.split(",") if part.strip())


def main(argv: list[str]) -> int:
    p = parser()
    options = p.parse_args(argv)
    from peavine.base import lifetimes, logs
    from peavine.client.config import ConfigError, load_kubeconfig
    from peavine.network import agent

    logs.setup(options.verbosity)
    if options.cleanup:
        agent.cleanup(options.cni_conf_dir, options.state_dir, options.bridge)
        return 0
    if not options.kubeconfig and not options.pod_cidr:
        p.error("--kubeconfig (or at least --pod-cidr) is required")
    try:
        settings = agent.Settings(
            node_name=options.hostname_override or socket.gethostname().lower(),
            conf_dir=options.cni_conf_dir,
            bin_dirs=tuple(Path(d) for d in options.cni_bin_dir.split(":") if d),
            state_dir=options.state_dir,
            pod_cidrs=_cidrs(options.pod_cidr),
            cluster_cidrs=_cidrs(options.cluster_cidr),
            backend=options.backend,
            bridge=options.bridge,
            mtu=options.mtu,
            node_ip=options.node_ip,
            masquerade=options.ip_masq == "true",
            network_policy=options.network_policy == "true",
            pods=options.pods == "true",
            announce=options.announce_load_balancers == "true",
        )
    except ValueError as error:
        p.error(str(error))
    try:
        options.config = load_kubeconfig(options.kubeconfig) if options.kubeconfig else None
    except (OSError, ConfigError) as error:
        print(f"peavine network: {error}", file=sys.stderr)
        return 1
    return lifetimes.run(_run(options, settings))


async def _run(options: argparse.Namespace, settings: object) -> None:
    from peavine.base import pages
    from peavine.client.informer import InformerFactory
    from peavine.client.rest import Client
    from peavine.network.agent import Agent, Settings

    assert isinstance(settings, Settings)
    informers = None
    if options.config:
        client = Client(options.config, user_agent="peavine-network")
        informers = InformerFactory(client)
    agent = Agent(settings, informers)
    agent.prepare()
    healthy = pages.text(200, "ok"), pages.text(503, "not ready")
    paths = {
        "/healthz": lambda: healthy[0] if agent.ready or informers is None else healthy[1],
        "/metrics": pages.metrics,
    }
    async with pages.serving(options.healthz_bind_address, pages.at(paths)):
        await agent.run()
