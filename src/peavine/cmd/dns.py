"""Run the cluster's DNS server."""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="peavine dns", description="Answer for the cluster's names, and forward every other question."
    )
    p.add_argument("--kubeconfig", metavar="FILE", required=True, help="how to reach the API server, and as whom")
    p.add_argument("--hostname-override", metavar="NAME", default="", help="this node's name (default: the hostname)")
    p.add_argument(
        "--listen", metavar="ADDRESS", default="127.0.0.1", help="one address of this node; pods must reach it"
    )
    p.add_argument("--port", metavar="PORT", type=int, default=10053, help="UDP and TCP (default: 10053)")
    p.add_argument("--cluster-domain", metavar="NAME", default="cluster.local", help="default: cluster.local")
    p.add_argument(
        "--service-ip",
        metavar="ADDRESS",
        default="",
        help="make the Service kube-system/kube-dns with this cluster IP if there is none",
    )
    p.add_argument("--publish", choices=("true", "false"), default="true", help="be an endpoint of kube-dns")
    p.add_argument("--ttl", metavar="SECONDS", type=int, default=5, help="of the cluster's records (default: 5)")
    p.add_argument(
        "--resolv-conf", metavar="FILE", type=Path, default=Path("/etc/resolv.conf"), help="whom to forward to"
    )
    p.add_argument(
        "--forward", metavar="ADDRESS[:PORT]", action="append", default=[], help="forward to these instead (repeatable)"
    )
    p.add_argument(
        "--stub-domain",
        metavar="DOMAIN=ADDRESS[:PORT]",
        action="append",
        default=[],
        help="forward a domain to its own resolver (repeatable)",
    )
    p.add_argument(
        "--healthz-bind-address", metavar="HOST:PORT", default="127.0.0.1:10254", help="/health /ready /metrics"
    )
    p.add_argument("-v", "--v", dest="verbosity", metavar="LEVEL", type=int, default=2, help="log verbosity")
    return p


def main(argv: list[str]) -> int:
    p = parser()
    options = p.parse_args(argv)
    from peavine.base import lifetimes, logs
    from peavine.client.config import ConfigError, load_kubeconfig
    from peavine.wire import dns

    try:
        dns.name(options.cluster_domain)
        for text in options.stub_domain:
            dns.name(text.partition("=")[0])
        for text in [*options.forward, *(t.partition("=")[2] for t in options.stub_domain)]:
            _endpoint(text)
    except ValueError as error:
        p.error(str(error))
    logs.setup(options.verbosity)
    try:
        options.config = load_kubeconfig(options.kubeconfig)
    except (OSError, ConfigError) as error:
        print(f"peavine dns: {error}", file=sys.stderr)
        return 1
    return lifetimes.run(_run(options))


def _endpoint(text: str) -> tuple[str, int]:
    """`1.2.3.4`, `1.2.3.4:53`, `fd00::1`, `[fd00::1]:53`"""
    import ipaddress

    host, port = text, "53"
    if text.startswith("[") or text.count(":") == 1:
        host, _, port = text.rpartition(":") if not text.endswith("]") else (text, "", "53")
    return str(ipaddress.ip_address(host.strip("[]"))), int(port)


async def _run(options: argparse.Namespace) -> None:
    from peavine.base import pages
    from peavine.base.lifetimes import scope
    from peavine.client.informer import InformerFactory
    from peavine.client.rest import Client
    from peavine.dns import metrics as dns_metrics
    from peavine.dns.feed import Feed
    from peavine.dns.forward import Forwarder, Resolver, host_resolvers, remove_loops
    from peavine.dns.publish import Publisher
    from peavine.dns.server import Server
    from peavine.dns.zone import Zone
    from peavine.wire import dns

    own = [options.listen, *([options.service_ip] if options.service_ip else [])]
    resolvers = [Resolver(*_endpoint(text)) for text in options.forward]
    stubs: dict[bytes, list[Resolver]] = {}
    for text in options.stub_domain:
        domain, _, where = text.partition("=")
        stubs.setdefault(dns.name(domain.lower()), []).append(Resolver(*_endpoint(where)))
    # Only an address with our own port is ourselves: the host's resolver may listen on the same address, port 53.
    but = own if options.port == 53 else own[1:]
    forwarder = Forwarder(resolvers or host_resolvers(options.resolv_conf, but), stubs)
    zone = Zone(options.cluster_domain, options.ttl, own[1:])
    server = Server(zone, forwarder)
    port = server.start(options.listen, options.port)
    client = Client(options.config, user_agent="peavine-dns")
    informers = InformerFactory(client)
    feed = Feed(informers, server)

    def exposition() -> pages.Page:
        page = pages.metrics()
        return page._replace(body=page.body + dns_metrics.exposition(server))

    paths = {
        "/health": lambda: pages.text(200, "OK"),
        "/healthz": lambda: pages.text(200, "ok"),
        "/ready": lambda: pages.text(200, "OK") if server.ready else pages.text(503, "kubernetes"),
        "/metrics": exposition,
    }
    node = options.hostname_override or socket.gethostname().lower()
    publisher = None
    if options.publish == "true":
        publisher = Publisher(informers, node, options.listen, port, options.service_ip)
    async with pages.serving(options.healthz_bind_address, pages.at(paths)), scope() as tasks:
        tasks.start(informers.run(), name="informers")
        serving = tasks.start(server.run(), name="server")
        tasks.start(remove_loops(forwarder, server.was_asked), name="loop probe")
        await feed.synced()
        server.ready = True
        if publisher is not None:
            tasks.start(publisher.run(), name="publisher")
        await serving
