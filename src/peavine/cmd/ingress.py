"""Run the ingress: Ingresses and Gateways as routes of HAProxy, addresses for Services of type LoadBalancer."""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path
from typing import Any


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="peavine ingress",
        description="Serve Ingresses and Gateways with HAProxy, and give addresses to load balancers.",
    )
    p.add_argument("--kubeconfig", metavar="FILE", required=True, help="how to reach the API server, and as whom")
    p.add_argument("--hostname-override", metavar="NAME", default="", help="this node's name (default: the hostname)")
    p.add_argument("--listen", metavar="ADDRESS", default="", help="where HTTP and HTTPS listen (default: everywhere)")
    p.add_argument("--http-port", metavar="PORT", type=int, default=80, help="0: none (default: 80)")
    p.add_argument("--https-port", metavar="PORT", type=int, default=443, help="0: none (default: 443)")
    p.add_argument("--accept-proxy", action="store_true", help="expect the PROXY protocol from a balancer in front")
    p.add_argument("--trust-forwarded-headers", action="store_true", help="keep X-Forwarded-For as clients send it")
    p.add_argument(
        "--publish-address", metavar="ADDRESS", action="append", default=[], help="into Ingress status (repeatable)"
    )
    p.add_argument(
        "--run-dir",
        metavar="DIR",
        type=Path,
        default=Path("/run/peavine-ingress"),
        help="HAProxy's configuration, certificates and sockets (default: /run/peavine-ingress)",
    )
    p.add_argument("--ingress-class", metavar="NAME", default="peavine", help="made if absent; empty: make none")
    p.add_argument(
        "--gateway-api", action="store_true", help="install the Gateway API's definitions and serve Gateways too"
    )
    p.add_argument(
        "--gateway-class",
        metavar="NAME",
        default="peavine",
        help="with --gateway-api: made if absent; empty: make none",
    )
    p.add_argument("--access-log", action="store_true", help="HAProxy's log of requests, to standard output")
    p.add_argument("--drain", metavar="SECONDS", type=int, default=300, help="for connections of an old HAProxy")
    p.add_argument(
        "--load-balancer-pool",
        metavar="RANGES",
        default="",
        help="give Services of type LoadBalancer addresses from these CIDRs or FIRST-LAST ranges, with commas",
    )
    p.add_argument(
        "--load-balancer-node-addresses",
        action="store_true",
        help="give Services of type LoadBalancer the addresses of the nodes",
    )
    p.add_argument("--metrics-bind-address", metavar="HOST:PORT", default="", help="HAProxy's metrics (default: none)")
    p.add_argument("--healthz-bind-address", metavar="HOST:PORT", default="127.0.0.1:10253", help="empty: none")
    p.add_argument("-v", "--v", dest="verbosity", metavar="LEVEL", type=int, default=2, help="log verbosity")
    return p


def main(argv: list[str]) -> int:
    p = parser()
    options = p.parse_args(argv)
    from peavine.base import lifetimes, logs
    from peavine.client.config import ConfigError, load_kubeconfig
    from peavine.ingress import haproxy
    from peavine.ingress.pools import PoolError, Pools

    logs.setup(options.verbosity)
    if haproxy.program() is None:
        print("peavine ingress: haproxy is not installed", file=sys.stderr)
        return 1
    try:
        options.config = load_kubeconfig(options.kubeconfig)
        options.pools = Pools.parse(options.load_balancer_pool)
    except (OSError, ConfigError) as error:
        print(f"peavine ingress: {error}", file=sys.stderr)
        return 1
    except PoolError as error:
        p.error(str(error))
    return lifetimes.run(_run(options))


async def _run(options: argparse.Namespace) -> None:
    from peavine.base import pages
    from peavine.base.lifetimes import scope
    from peavine.client.events import EventRecorder
    from peavine.client.informer import InformerFactory
    from peavine.client.rest import Client
    from peavine.ingress.balancers import Balancers
    from peavine.ingress.certificates import ensure_default
    from peavine.ingress.classes import ensure_class, ensure_gateway_api
    from peavine.ingress.controller import Controller
    from peavine.ingress.haproxy import HAProxy
    from peavine.ingress.settings import Settings

    node = options.hostname_override or socket.gethostname().lower()
    client = Client(options.config, user_agent="peavine-ingress")
    informers = InformerFactory(client)
    recorder = EventRecorder(client, "peavine-ingress", node)
    options.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    ensure_default(options.run_dir / "certs")
    settings = Settings(
        str(options.run_dir),
        options.listen,
        options.http_port,
        options.https_port,
        options.accept_proxy,
        options.trust_forwarded_headers,
        options.metrics_bind_address,
        options.access_log,
        options.drain,
    )
    controller = Controller(
        informers,
        HAProxy(options.run_dir),
        settings,
        options.publish_address,
        gateway_api=options.gateway_api,
        recorder=recorder,
    )

    def exposition() -> pages.Page:
        page = pages.metrics()
        counts: dict[str, Any] = {
            "peavine_ingress_reloads_total": controller.counts.reloads,
            "peavine_ingress_runtime_changes_total": controller.counts.runtime_changes,
            "peavine_ingress_refused_ingresses": controller.counts.refused,
        }
        lines = "".join(f"{name} {value}\n" for name, value in counts.items())
        return page._replace(body=page.body + lines.encode())

    paths = {
        "/healthz": lambda: pages.text(200, "ok"),
        "/readyz": lambda: pages.text(200, "ok") if controller.ready else pages.text(503, "not synced"),
        "/metrics": exposition,
    }
    async with pages.serving(options.healthz_bind_address, pages.at(paths)), scope() as tasks:
        tasks.start(recorder.run(), name="events")
        if options.ingress_class:
            tasks.start(ensure_class(client, options.ingress_class), name="ingress class")
        if options.gateway_api:
            # Before their informers: what is not served cannot be watched.
            await tasks.start(ensure_gateway_api(client, options.gateway_class), name="gateway api")
        if options.pools or options.load_balancer_node_addresses:
            balancers = Balancers(client, informers, options.pools, node, recorder=recorder)
            tasks.start(balancers.run(), name="load balancers")
        await tasks.start(controller.run(), name="controller")
