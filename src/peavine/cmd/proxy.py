"""Run the proxy of one node: the service network to the pod network."""

from __future__ import annotations

import argparse
import ipaddress
import socket
import sys

MODES = ("nftables", "iptables", "ipvs", "userspace")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="peavine proxy",
        description="Program this node's kernel (or relay) so that Services reach their endpoints.",
    )
    p.add_argument("--kubeconfig", metavar="FILE", help="how to reach the API server, and as whom")
    p.add_argument("--proxy-mode", "--mode", dest="mode", choices=MODES, default="nftables", help="default: nftables")
    p.add_argument("--hostname-override", metavar="NAME", default="", help="this node's name (default: the hostname)")
    p.add_argument("--cluster-cidr", metavar="CIDRS", default="", help="where pods live, one per family, with commas")
    p.add_argument(
        "--nodeport-addresses",
        metavar="CIDRS",
        default="",
        help="local addresses that serve node ports, with commas (default: all but loopback)",
    )
    p.add_argument("--masquerade-all", action="store_true", help="masquerade everything sent to a Service")
    p.add_argument(
        "--iptables-masquerade-bit", metavar="BIT", type=int, default=14, help="bit of the packet mark (default: 14)"
    )
    p.add_argument(
        "--iptables-min-sync-period", metavar="SECONDS", type=_seconds, default=0.0, help="least time between syncs"
    )
    p.add_argument("--ipvs-scheduler", metavar="NAME", default="rr", help="of mode ipvs (default: rr)")
    for name in ("tcp", "tcpfin", "udp"):
        p.add_argument(
            f"--ipvs-{name}-timeout",
            metavar="SECONDS",
            type=_seconds,
            default=0.0,
            help="of idle flows (0: the kernel's)",
        )
    p.add_argument("--healthz-bind-address", metavar="HOST:PORT", default="0.0.0.0:10256", help="empty: none")
    p.add_argument("--metrics-bind-address", metavar="HOST:PORT", default="127.0.0.1:10249", help="empty: none")
    p.add_argument("--cleanup", action="store_true", help="remove the rules of every mode and exit")
    p.add_argument("-v", "--v", dest="verbosity", metavar="LEVEL", type=int, default=2, help="log verbosity")
    return p


def _seconds(text: str) -> float:
    """Go's durations as far as people write them here: 1s, 500ms, 1m, or plain seconds."""
    for suffix, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0)):
        if text.endswith(suffix):
            return float(text.removesuffix(suffix)) * factor
    return float(text)


def _cidrs(text: str) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(part.strip(), strict=False)) for part in text.split(",") if part.strip())


def main(argv: list[str]) -> int:
    p = parser()
    options = p.parse_args(argv)
    from peavine.base import logs

    logs.setup(options.verbosity)
    if options.cleanup:
        from peavine.linux import iptables
        from peavine.proxy import modes

        modes.cleanup()
        iptables.remove_empty_tables()
        return 0
    if not options.kubeconfig:
        p.error("--kubeconfig is required")
    try:
        _cidrs(options.cluster_cidr), _cidrs(options.nodeport_addresses)
    except ValueError as error:
        p.error(str(error))
    from peavine.base import lifetimes
    from peavine.client.config import ConfigError, load_kubeconfig

    try:
        options.config = load_kubeconfig(options.kubeconfig)
    except (OSError, ConfigError) as error:
        print(f"peavine proxy: {error}", file=sys.stderr)
        return 1
    return lifetimes.run(_run(options))


async def _run(options: argparse.Namespace) -> None:
    from peavine.base import pages
    from peavine.client.informer import InformerFactory
    from peavine.client.rest import Client
    from peavine.proxy import modes
    from peavine.proxy.backend import Settings
    from peavine.proxy.health import ProxyHealth, ServiceHealth
    from peavine.proxy.proxier import Proxier

    settings = Settings(
        cluster_cidrs=_cidrs(options.cluster_cidr),
        node_port_addresses=_cidrs(options.nodeport_addresses),
        masquerade_all=options.masquerade_all,
        masquerade_mark=1 << options.iptables_masquerade_bit,
        families=modes.families(),
        ipvs_scheduler=options.ipvs_scheduler,
        ipvs_timeouts=(
            int(options.ipvs_tcp_timeout),
            int(options.ipvs_tcpfin_timeout),
            int(options.ipvs_udp_timeout),
        ),
    )
    # Another mode's rules would fight with this one's.
    modes.cleanup(keep=options.mode)
    backend = modes.make(options.mode, settings)
    client = Client(options.config, user_agent="peavine-proxy")
    health = ProxyHealth()
    service_health = ServiceHealth("", lambda: health.working)
    proxier = Proxier(
        InformerFactory(client),
        backend,
        options.hostname_override or socket.gethostname().lower(),
        families=settings.families,
        min_sync_seconds=options.iptables_min_sync_period,
        health=health,
        service_health=service_health,
    )
    outside = {"/healthz": health.healthz, "/livez": health.livez}
    inside = {
        "/metrics": pages.metrics,
        "/proxyMode": lambda: pages.text(200, options.mode),
        "/healthz": health.healthz,
    }
    servers = []
    for where, what in ((options.healthz_bind_address, outside), (options.metrics_bind_address, inside)):
        if where:
            try:
                servers.append(await pages.serve(*pages.host_and_port(where), pages.at(what)))
            except OSError as error:
                print(f"peavine proxy: cannot listen on {where}: {error}", file=sys.stderr)
    try:
        await proxier.run()
    finally:
        for server in servers:
            server.close()
