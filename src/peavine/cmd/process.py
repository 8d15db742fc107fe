"""What every component's process has in common: the flags of a client, logs, leader election, a health server."""

from __future__ import annotations

import argparse
import os
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from peavine.base import logs, pages
from peavine.base.certfiles import CertificateFiles
from peavine.base.lifetimes import run, scope
from peavine.client import Client, LeaderElector, load_kubeconfig
from peavine.client.config import ConfigError, in_cluster


def parser(component: str, description: str, *, secure_port: int = 0) -> argparse.ArgumentParser:
    """An argument parser with the flags that all components share."""
    flags = argparse.ArgumentParser(prog=f"peavine {component}", description=description)
    flags.add_argument("--kubeconfig", default="", help="kubeconfig of the API server (in-cluster if empty)")
    flags.add_argument("--context", default="", help="kubeconfig context (the current one if empty)")
    flags.add_argument("-v", "--v", type=int, default=2, dest="verbosity", help="log level: 0 warnings to 4 debug")
    if secure_port:
        flags.add_argument("--bind-address", default="127.0.0.1", help="address of /healthz and /metrics")
        flags.add_argument(
            "--secure-port", type=int, default=secure_port, help="port of /healthz and /metrics; 0 turns them off"
        )
        flags.add_argument("--tls-cert-file", default="", help="certificate of that port (PEM); plain HTTP without")
        flags.add_argument("--tls-private-key-file", default="", help="key of that certificate (PEM)")
    return flags


def leader_flags(flags: argparse.ArgumentParser, lease: str) -> None:
    """Upstream's leader election flags."""
    flags.add_argument(
        "--leader-elect", type=truth, nargs="?", const=True, default=True, help="work only while holding the lease"
    )
    flags.add_argument("--leader-elect-lease-duration", type=float, default=15.0, help="seconds")
    flags.add_argument("--leader-elect-renew-deadline", type=float, default=10.0, help="seconds")
    flags.add_argument("--leader-elect-retry-period", type=float, default=2.0, help="seconds")
    flags.add_argument("--leader-elect-resource-name", default=lease, help="name of the Lease")
    flags.add_argument("--leader-elect-resource-namespace", default="kube-system", help="namespace of the Lease")


def truth(text: str) -> bool:
    """A boolean flag's value, as Go's flags take it."""
    if text.lower() in ("true", "t", "1"):
        return True
    if text.lower() in ("false", "f", "0"):
        return False
    raise argparse.ArgumentTypeError(f"invalid boolean value {text!r}")


def connect(args: argparse.Namespace, component: str) -> Client:
    """The client that the flags describe. Ends the process with a clear line if they describe none."""
    try:
        config = load_kubeconfig(args.kubeconfig, args.context) if args.kubeconfig else in_cluster()
    except (ConfigError, OSError) as error:
        raise SystemExit(f"peavine {component}: {error}") from error
    return Client(config, user_agent=f"peavine-{component}/v1.37.0")


async def led(args: argparse.Namespace, client: Client, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `work()` as the leader (at once where election is off). Raises LeadershipLost."""
    if not args.leader_elect:
        await work()
        return
    elector = LeaderElector(
        client,
        args.leader_elect_resource_name,
        f"{socket.gethostname()}_{os.getpid()}",
        namespace=args.leader_elect_resource_namespace,
        lease_duration=args.leader_elect_lease_duration,
        renew_deadline=args.leader_elect_renew_deadline,
        retry_period=args.leader_elect_retry_period,
    )
    await elector.run(work)


def serve(args: argparse.Namespace, main: Coroutine[Any, Any, None]) -> int:
    """Run a component's main coroutine beside its health server until a signal comes."""
    logs.setup(args.verbosity)

    async def both() -> None:
        async with scope() as tasks:
            if getattr(args, "secure_port", 0):
                tasks.start(_health(args), name="health")
            await main

    return run(both())


async def _health(args: argparse.Namespace) -> None:
    context = files = None
    if args.tls_cert_file:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        files = CertificateFiles(context, args.tls_cert_file, args.tls_private_key_file)
    server = await pages.serve(args.bind_address, args.secure_port, pages.health_and_metrics, context=context)
    async with server, scope() as tasks:
        if files is not None:
            tasks.start(files.follow(), name="certificate")
        await server.serve_forever()
