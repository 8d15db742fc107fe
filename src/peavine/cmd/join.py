"""Make this machine a node of a cluster that runs elsewhere; without HOST:PORT start a node that has joined before."""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import dataclasses
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from peavine.api.core import bootstrap_token as tokens
from peavine.base.lifetimes import run as run_main
from peavine.client import Client, ClientConfig
from peavine.client.certificates import Refused
from peavine.client.transport import Unreachable
from peavine.cmd import nodecerts
from peavine.cmd.cluster import Cluster, default_data_dir, primary_address
from peavine.cmd.pki import make_private, write_private
from peavine.cmd.processes import BOOTSTRAP_KUBECONFIG
from peavine.cmd.starting import (
    choose_runtime,
    give_images,
    node_ready,
    prepare_containerd,
    reason_of,
    start_supervisor,
)
from peavine.cmd.supervise import lock
from peavine.cmd.token import CONFIGURATION, public_key_hash
from peavine.machinery.errors import ApiError

READY_SECONDS_MAX = 300.0
TRY_SECONDS = 1.0


class CannotJoin(Exception):
    """Trying again would not help; the message says why."""


def flags() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="peavine join", description=__doc__)
    options.add_argument("server", nargs="?", default="", metavar="HOST:PORT", help="the cluster's API server")
    options.add_argument("--token", default="", help="bootstrap token (on the other machine: `peavine token create`)")
    options.add_argument(
        "--discovery-token-ca-cert-hash",
        "--ca-cert-hash",
        dest="hashes",
        action="append",
        default=[],
        metavar="sha256:HEX",
        help="hash of the public key that the cluster's CA must have (repeatable)",
    )
    options.add_argument(
        "--discovery-token-unsafe-skip-ca-verification",
        dest="unpinned",
        action="store_true",
        help="trust whoever knows the token to be the cluster: others who have one could pretend",
    )
    options.add_argument("--data-dir", default=default_data_dir(), help="where everything is kept")
    options.add_argument("--node-name", default="", help="this node's name (default: the host name)")
    options.add_argument("--node-ip", default="", help="this machine's address (default: that of its default route)")
    options.add_argument(
        "--runtime",
        choices=("auto", "containerd", "simulated"),
        default="auto",
        help="what runs the pods; auto takes containerd where it can, else simulates",
    )
    options.add_argument("--foreground", action="store_true", help="supervise in this process until interrupted")
    options.add_argument("--timeout", type=float, default=READY_SECONDS_MAX, help="seconds to wait for the node")
    return options


def main(argv: list[str]) -> int:
    args = flags().parse_args(argv)
    started = time.monotonic()
    try:
        cluster = settle(args)
    except (ValueError, OSError, CannotJoin, ApiError, Unreachable, Refused, TimeoutError) as error:
        print(f"peavine join: {error or 'no answer in time'}", file=sys.stderr)
        return 1
    for note in cluster.notes:
        print(note)
    held = lock(cluster.directory)
    if held is None:
        print(f"The node in {cluster.data_dir} is running already.")
    else:
        if cluster.runtime == "containerd":
            prepare_containerd(cluster, cluster.hosts[0])
        os.close(held)
        if args.foreground:
            from peavine.cmd import supervise

            return supervise.main([f"--data-dir={cluster.data_dir}"])
        start_supervisor(cluster)
    try:
        run_main(_until_ready(cluster, args.timeout))
    except (TimeoutError, ExceptionGroup) as error:
        print(f"peavine join: not ready after {args.timeout:.0f} s: {reason_of(error)}", file=sys.stderr)
        print(f"Look at `peavine status` and {cluster.directory / 'logs'}.", file=sys.stderr)
        return 1
    print(f"Node {cluster.node_name} ready after {time.monotonic() - started:.1f} s at {cluster.server}")
    return 0


def settle(args: argparse.Namespace) -> Cluster:
    """The node of the data directory as it joined before, or a new one: everything that its processes need is there.

    Raises ValueError, CannotJoin, and what asking the cluster raises.
    """
    directory = Path(args.data_dir).absolute()
    existing = Cluster.load(directory)
    if existing is not None:
        if not existing.joined:
            raise ValueError(f"{directory} is a cluster's own: `peavine up` starts it")
        return dataclasses.replace(existing, notes=[])
    if not args.server:
        raise ValueError("HOST:PORT of the cluster's API server is wanted")
    if tokens.FORM.fullmatch(args.token) is None:
        raise ValueError(f"--token: {tokens.FORM.pattern} is wanted")
    if not args.hashes and not args.unpinned:
        raise ValueError(
            "--discovery-token-ca-cert-hash is wanted (or --discovery-token-unsafe-skip-ca-verification); "
            "`peavine token create --print-join-command` prints it"
        )
    notes: list[str] = []
    cluster = Cluster(
        data_dir=str(directory),
        node_name=(args.node_name or socket.gethostname()).lower(),
        node_ip=args.node_ip or primary_address(),
        runtime=choose_runtime(args.runtime, notes),
        notes=notes,
    )
    return asyncio.run(_prepare(cluster, args))


async def _prepare(cluster: Cluster, args: argparse.Namespace) -> Cluster:
    server, authority = await discover(args.server, args.token, args.hashes, seconds=args.timeout)
    client = Client(ClientConfig(server, authority, token=args.token), user_agent="peavine-join")
    found = await client.resource("v1", "configmaps").get(CONFIGURATION, tokens.NAMESPACE)
    networks = json.loads(found["data"]["networks"])
    cluster = dataclasses.replace(
        cluster,
        joined=server,
        pod_range=networks["podRange"],
        service_range=networks["serviceRange"],
        proxy_mode=networks["proxyMode"],
        backend=networks["backend"],
    )
    make_private(cluster.directory)
    for name in ("pki", "kubeconfigs"):
        make_private(cluster.directory / name)
    write_private(cluster.directory / "pki" / "ca.crt", authority)
    write_private(_bootstrap_kubeconfig(cluster), _with_token(server, authority, args.token))
    if cluster.runtime == "containerd":
        await nodecerts.obtain(client, cluster.directory)
    client.close()
    cluster.save()
    return cluster


def _bootstrap_kubeconfig(cluster: Cluster) -> Path:
    return cluster.directory / "kubeconfigs" / BOOTSTRAP_KUBECONFIG


def _with_token(server: str, authority: str, token: str) -> str:
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(authority.encode()).decode()}
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "peavine", "cluster": cluster}],
        "users": [{"name": "tls-bootstrap-token-user", "user": {"token": token}}],
        "contexts": [{"name": "peavine", "context": {"cluster": "peavine", "user": "tls-bootstrap-token-user"}}],
        "current-context": "peavine",
    }
    return json.dumps(document, indent=2) + "\n"


async def discover(address: str, token: str, hashes: list[str], *, seconds: float) -> tuple[str, str]:
    """(URL, CA) of the cluster at `address`, as its cluster-info says; believed as kubeadm believes it.

    It is read from whoever answers there; who signed it must know the token, the CA in it must have one of the hashes
    (where there are any), and the server must then show a certificate of that CA and say the same again. Waits for the
    signature: a token is a moment older than it. Raises CannotJoin, TimeoutError.
    """
    stranger = Client(ClientConfig(f"https://{address}", insecure=True), user_agent="peavine-join")
    last: Exception | None = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(ApiError, Unreachable):
                    found = await stranger.json("GET", tokens.PUBLIC_PATH)
                    if tokens.is_signed(found, token):
                        break
                    last = CannotJoin("nothing there is signed by this token: is it right, has it ended?")
                await asyncio.sleep(TRY_SECONDS)
    except TimeoutError:
        raise last or TimeoutError(f"{address}: no cluster-info: is there a token that has not ended?") from None
    finally:
        stranger.close()
    server, authority = _read(found)
    if hashes and public_key_hash(authority.encode()) not in [h.lower() for h in hashes]:
        raise CannotJoin(f"the CA of the cluster at {address} is not the one of the hash: somebody is in between")
    known = Client(ClientConfig(f"https://{address}", authority), user_agent="peavine-join")
    try:
        again = await known.json("GET", tokens.PUBLIC_PATH)
    finally:
        known.close()
    if not tokens.is_signed(again, token) or _read(again) != (server, authority):
        raise CannotJoin(f"{address} says something else over a trusted connection than before")
    return server, authority


def _read(config_map: dict[str, Any]) -> tuple[str, str]:
    entry = json.loads(config_map["data"]["kubeconfig"])["clusters"][0]["cluster"]
    return entry["server"].rstrip("/"), base64.b64decode(entry["certificate-authority-data"]).decode()


async def _until_ready(cluster: Cluster, seconds: float) -> None:
    """Return once the node says so itself; the token is of no use then, and goes."""
    own = cluster.directory / "kubeconfigs" / f"kubelet-{cluster.node_name}.kubeconfig"
    async with asyncio.timeout(seconds):
        if cluster.runtime == "containerd":
            await give_images(cluster.hosts[0], seconds)
        while not own.exists():
            await asyncio.sleep(0.1)
        client = Client.from_kubeconfig(own, user_agent="peavine-join")
        await node_ready(client, cluster.node_name)
    _bootstrap_kubeconfig(cluster).unlink(missing_ok=True)
