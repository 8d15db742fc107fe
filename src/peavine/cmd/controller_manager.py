"""The controller manager: upstream's controllers, one process."""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import importlib
from pathlib import Path
from typing import Any

from peavine.base import pages
from peavine.base.certfiles import CertificateFiles
from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import scope
from peavine.client import Client, EventRecorder, InformerFactory
from peavine.client.identity import ServiceAccountClient, anonymous_context
from peavine.client.rest import wait_ready
from peavine.cmd.process import connect, leader_flags, led, parser, serve, truth
from peavine.controllers import CONTROLLERS
from peavine.controllers.controller import Context, Controller


def flags() -> argparse.ArgumentParser:
    options = parser("controller-manager", __doc__ or "", secure_port=10257)
    leader_flags(options, "kube-controller-manager")
    options.add_argument(
        "--controllers", default="*", help="which to run: '*' for all on by default, 'foo' runs it, '-foo' does not"
    )
    options.add_argument(
        "--root-ca-file", default="", help="CA published to every namespace (the kubeconfig's if empty)"
    )
    options.add_argument("--cluster-cidr", default="172.7.0.0/16", help="range of pod addresses")
    options.add_argument("--node-cidr-mask-size", type=int, default=24, help="prefix length of a node's pod subnet")
    options.add_argument("--allocate-node-cidrs", default="true", help="give each node a pod subnet")
    options.add_argument("--service-cluster-ip-range", default="192.168.0.0/16", help="range of Service addresses")
    options.add_argument("--cluster-name", default="kubernetes", help="instance prefix of the cluster")
    options.add_argument("--cluster-signing-cert-file", default="", help="CA certificate that signs CSRs (PEM)")
    options.add_argument("--cluster-signing-key-file", default="", help="key of that CA (PEM)")
    options.add_argument(
        "--local-path-root", default="/var/lib/peavine/local-path", help="where local-path volumes lie on their nodes"
    )
    options.add_argument("--service-account-private-key-file", default="", help="key that signs legacy tokens (PEM)")
    options.add_argument(
        "--use-service-account-credentials", type=truth, default=True, help="each controller acts as its own account"
    )
    options.add_argument(
        "--metrics-bind-address", default="", metavar="HOST:PORT", help="serve metrics.k8s.io here; empty: do not"
    )
    options.add_argument("--metrics-tls-cert-file", default="", help="certificate of that port (PEM)")
    options.add_argument("--metrics-tls-private-key-file", default="", help="its key (PEM)")
    options.add_argument("--requestheader-client-ca-file", default="", help="CA of the front proxy, who alone may ask")
    options.add_argument("--node-monitor-grace-period", type=float, default=50.0, help="seconds")
    options.add_argument(
        "--horizontal-pod-autoscaler-sync-period", type=float, default=15.0, help="seconds between looks at a target"
    )
    options.add_argument(
        "--horizontal-pod-autoscaler-tolerance", type=float, default=0.1, help="share of the target that is near enough"
    )
    options.add_argument(
        "--horizontal-pod-autoscaler-downscale-stabilization",
        type=float,
        default=300.0,
        help="seconds for which no autoscaler goes below its highest wish",
    )
    options.add_argument("--node-startup-grace-period", type=float, default=60.0, help="seconds")
    options.add_argument("--node-monitor-period", type=float, default=5.0, help="seconds between looks at nodes")
    options.add_argument("--node-eviction-rate", type=float, default=0.1, help="nodes a second driven empty in a zone")
    options.add_argument(
        "--secondary-node-eviction-rate", type=float, default=0.01, help="the same where many nodes of a zone fail"
    )
    options.add_argument("--unhealthy-zone-threshold", type=float, default=0.55, help="share of nodes that is many")
    options.add_argument(
        "--large-cluster-size-threshold", type=int, default=50, help="zones up to this size are then not evicted at all"
    )
    options.add_argument("--terminated-pod-gc-threshold", type=int, default=12500, help="terminated pods kept")
    return options


def chosen(wanted: str) -> list[str]:
    """The controllers that a `--controllers` value names. Raises SystemExit for one that does not exist."""
    entries = [entry.strip() for entry in wanted.split(",") if entry.strip()]
    for entry in entries:
        if entry != "*" and entry.lstrip("-") not in CONTROLLERS:
            raise SystemExit(
                f'peavine controller-manager: "{entry.lstrip("-")}" is not in the list of known controllers'
            )
    return [
        name
        for name in CONTROLLERS
        if f"-{name}" not in entries and any(fnmatch.fnmatchcase(name, entry) for entry in entries)
    ]


def load(name: str) -> type[Controller]:
    module, _, class_ = CONTROLLERS[name].partition(":")
    return getattr(importlib.import_module(f"peavine.controllers.{module}"), class_)


async def run_controllers(
    client: Client, names: list[str], options: dict[str, Any], *, own_accounts: bool = True, clock: Clock = REAL
) -> None:
    """Run the named controllers over shared informers until cancelled.

    With `own_accounts` each acts as its own service account, so that it can do no more than its role allows; the
    informers are the process' own.
    """
    informers = InformerFactory(client, clock=clock)
    async with scope() as tasks:
        tasks.start(informers.run(), name="informers")
        classes = [load(name) for name in names]
        clients: dict[str, Client] = {}
        if own_accounts:
            context, waiting = anonymous_context(client), []
            for account in dict.fromkeys(c.account for c in classes if c.account):
                clients[account] = own = ServiceAccountClient(client, "kube-system", account, context, clock=clock)
                tasks.start(own.run(), name=f"token of {account}")
                waiting.append(own.ready.wait())
            await asyncio.gather(*waiting)
        controllers = []
        for class_ in classes:
            acting = clients.get(class_.account, client)
            recorder = EventRecorder(acting, class_.name, clock=clock)
            tasks.start(recorder.run(), name=f"events of {class_.name}")
            controllers.append(class_(Context(acting, informers, recorder, clock, options)))
        for controller in controllers:
            tasks.start(controller.run(), name=controller.name)
        await asyncio.Event().wait()


async def serve_metrics(client: Client, args: argparse.Namespace) -> None:
    """The resource metrics API, for the API server's aggregation layer alone: only its front-proxy may ask."""
    import ssl

    from peavine.metrics.collector import Collector
    from peavine.metrics.resources import ResourceMetrics

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=args.requestheader_client_ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    files = CertificateFiles(context, args.metrics_tls_cert_file, args.metrics_tls_private_key_file)
    informers = InformerFactory(client)
    pods, nodes = informers.informer("v1", "pods", transform=_labels_only), informers.informer("v1", "nodes")
    reader = ServiceAccountClient(client, "kube-system", "metrics-server", anonymous_context(client))
    collector = Collector(reader, nodes)

    def labels_of(namespace: str, name: str) -> dict[str, str] | None:
        pod = pods.get(namespace, name)
        return None if pod is None else pod["metadata"].get("labels") or {}

    host, _, port = args.metrics_bind_address.rpartition(":")
    server = await pages.serve(host, int(port), ResourceMetrics(collector, labels_of).answer, context=context)
    async with server, scope() as tasks:
        tasks.start(files.follow(), name="metrics certificate")
        tasks.start(informers.run(), name="metrics informers")
        tasks.start(reader.run(), name="metrics token")
        await reader.ready.wait()
        await collector.run()


def _labels_only(pod: dict[str, Any]) -> dict[str, Any]:
    kept = ("name", "namespace", "uid", "resourceVersion", "labels")
    return {"metadata": {k: pod["metadata"][k] for k in kept if k in pod["metadata"]}}


async def _main(args: argparse.Namespace, root_ca: str) -> None:
    client = connect(args, "controller-manager")
    await wait_ready(client)
    options = {**vars(args), "root_ca": root_ca or client.config.ca}
    own = args.use_service_account_credentials
    async with scope() as tasks:
        if args.metrics_bind_address:
            tasks.start(serve_metrics(client, args), name="metrics API")
        await led(args, client, lambda: run_controllers(client, chosen(args.controllers), options, own_accounts=own))


def main(argv: list[str]) -> int:
    args = flags().parse_args(argv)
    chosen(args.controllers)
    root_ca = Path(args.root_ca_file).read_text() if args.root_ca_file else ""
    return serve(args, _main(args, root_ca))
