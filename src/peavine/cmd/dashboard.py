"""Serve a web page of the cluster that acts with the rights of whoever logs in."""

from __future__ import annotations

import argparse
import ipaddress
import ssl
import sys
from pathlib import Path

from peavine.base import logs
from peavine.base.lifetimes import run, scope
from peavine.client.config import ClientConfig, ConfigError, load_kubeconfig


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="peavine dashboard", description=__doc__)
    p.add_argument("--server", metavar="URL", default="", help="the API server")
    p.add_argument("--certificate-authority", metavar="FILE", default="", help="whom to trust as the API server (PEM)")
    p.add_argument(
        "--kubeconfig", metavar="FILE", default="", help="take server and CA from here; its user is not looked at"
    )
    p.add_argument("--bind-address", metavar="ADDRESS", default="127.0.0.1", help="listen here (default: 127.0.0.1)")
    p.add_argument("--port", metavar="PORT", type=int, default=9090, help="default: 9090; 0 for any free one")
    p.add_argument("--tls-cert-file", metavar="FILE", default="", help="serve HTTPS with this certificate (PEM)")
    p.add_argument("--tls-private-key-file", metavar="FILE", default="", help="its key (PEM)")
    p.add_argument("--read-only", action="store_true", help="pass no change and no shell to the API server")
    p.add_argument("-v", "--v", dest="verbosity", metavar="LEVEL", type=int, default=2, help="log level: 0 to 4")
    return p


def cluster(options: argparse.Namespace) -> ClientConfig:
    """Where the API server is, without any credentials. Raises ConfigError, OSError."""
    config = ClientConfig(server=options.server.rstrip("/"))
    if options.kubeconfig:
        given = load_kubeconfig(options.kubeconfig)
        config = ClientConfig(given.server, given.ca, tls_server_name=given.tls_server_name, insecure=given.insecure)
        config.server = options.server.rstrip("/") or config.server
    if options.certificate_authority:
        config.ca = Path(options.certificate_authority).read_text()
    if not config.server.startswith(("https://", "http://")):
        raise ConfigError("name the API server: --server URL or --kubeconfig FILE")
    return config


def main(argv: list[str]) -> int:
    p = parser()
    options = p.parse_args(argv)
    try:
        loopback = ipaddress.ip_address(options.bind_address).is_loopback
    except ValueError:
        p.error(f"--bind-address: {options.bind_address!r} is no address")
    if not loopback and not options.tls_cert_file:
        p.error("credentials must not cross a network in plain text: --tls-cert-file, or a loopback --bind-address")
    logs.setup(options.verbosity)
    try:
        where = cluster(options)
        tls = None
        if options.tls_cert_file:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(options.tls_cert_file, options.tls_private_key_file or None)
    except (ConfigError, OSError) as error:
        print(f"peavine dashboard: {error}", file=sys.stderr)
        return 1
    return run(_serve(options, where, tls))


async def _serve(options: argparse.Namespace, where: ClientConfig, tls: ssl.SSLContext | None) -> None:
    from peavine.dashboard.http import Server
    from peavine.dashboard.server import Dashboard

    dashboard = Dashboard(where, read_only=options.read_only)
    server = Server(dashboard.handle, tls=tls)
    try:
        async with scope() as tasks:
            try:
                port = await server.listen(options.bind_address, options.port, tasks)
            except OSError as error:
                raise SystemExit(f"peavine dashboard: {error}") from error
            host = f"[{options.bind_address}]" if ":" in options.bind_address else options.bind_address
            print(f"peavine dashboard: {'https' if tls else 'http'}://{host}:{port}/", flush=True)
            await dashboard.run()
    finally:
        server.close()
        dashboard.close()
