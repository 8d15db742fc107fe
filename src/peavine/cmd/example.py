"""Deploy an example and show it answering through its Service and its DNS name."""

from __future__ import annotations

import asyncio
import importlib.resources
import random
import socket
import sys
from functools import partial
from pathlib import Path

from peavine.base.clock import wait_until
from peavine.base.lifetimes import run as run_main
from peavine.client import Client
from peavine.client.transport import Transport, Unreachable
from peavine.cmd import up
from peavine.cmd.cluster import CLUSTER_DOMAIN, Cluster
from peavine.cmd.starting import reason_of
from peavine.machinery.errors import ApiError

ANSWER_SECONDS_MAX = 60.0
RESOURCES = {"Deployment": "deployments", "Service": "services"}


def main(argv: list[str]) -> int:
    # Takes the flags of `up` too: script/up hands both the same.
    args, _ = up.flags().parse_known_args(argv)
    cluster = Cluster.load(Path(args.data_dir))
    if cluster is None:
        print(f"peavine example: no cluster in {args.data_dir}; `peavine up` makes one", file=sys.stderr)
        return 1
    if cluster.api_only:
        return 0
    try:
        run_main(_show(cluster))
    except ExceptionGroup as group:
        print(f"peavine example: {reason_of(group)}", file=sys.stderr)
        return 1
    return 0


async def _show(cluster: Cluster) -> None:
    import yaml

    client = Client.from_kubeconfig(cluster.admin_kubeconfig, user_agent="peavine-example")
    manifest = importlib.resources.files("peavine.cmd").joinpath("example.yaml").read_text()
    for obj in yaml.safe_load_all(manifest):
        resource = client.resource(obj["apiVersion"], RESOURCES[obj["kind"]])
        try:
            await resource.create(obj, "default")
        except ApiError as error:
            # It is there already, and may have been changed since: that is its owner's business.
            if error.reason != "AlreadyExists":
                raise
    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        await _available(client)
        print("Deployment default/hello is available.")
        if cluster.runtime == "simulated":
            print("Pods are simulated here, so nothing answers on the network.")
            return
        name = f"hello.default.svc.{CLUSTER_DOMAIN}"
        address = await _resolve(name, cluster.dns_service_ip)
        print(f"{name} is {address}, says {cluster.dns_service_ip}.")
        print(f"http://{address}/ says: {(await _fetch(address)).strip()}")
    print(
        "\nNext: kubectl get pods -o wide; kubectl scale deployment hello --replicas 5; kubectl delete deploy,svc hello"
    )


async def _available(client: Client) -> None:
    deployments = client.resource("apps/v1", "deployments")
    selector = "metadata.name=hello"
    while True:
        try:
            listed = await deployments.list("default", field_selector=selector)
            if any(_is_available(d) for d in listed["items"]):
                return
            version = listed["metadata"]["resourceVersion"]
            async for _, obj in deployments.watch("default", resource_version=version, field_selector=selector):
                if _is_available(obj):
                    return
        except (Unreachable, ApiError):
            await client.clock.sleep(0.2)


def _is_available(deployment: dict) -> bool:
    wanted = deployment.get("spec", {}).get("replicas", 1)
    status = deployment.get("status") or {}
    fresh = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return fresh and status.get("availableReplicas", 0) >= wanted


class _Question(asyncio.DatagramProtocol):
    """One DNS question over UDP, asked again every half second until an answer comes."""

    def __init__(self, question: bytes) -> None:
        self._question = question
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, _: object) -> None:
        if not self.answer.done():
            self.answer.set_result(data)

    async def ask(self) -> bytes:
        while True:
            self._transport.sendto(self._question)
            if (answer := await wait_until(asyncio.shield(self.answer), 0.5)) is not None:
                return answer


async def _resolve(name: str, server: str) -> str:
    """The A record of `name`, asked of the cluster's DNS through its Service address."""
    from peavine.wire import dns

    while True:
        question = dns.query(random.randrange(1 << 16), dns.name(name), dns.A)
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(
            partial(_Question, question), remote_addr=(server, 53)
        )
        try:
            answer = dns.parse_answer(await protocol.ask())
        finally:
            transport.close()
        for record in answer.records:
            if record.type == dns.A:
                return socket.inet_ntoa(record.rdata)
        # The server may not have seen the Service yet.
        await asyncio.sleep(0.1)


async def _fetch(address: str) -> str:
    while True:
        try:
            request = f"GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()
            answer = await Transport(f"http://{address}", None).exchange(request, idempotent=True)
            if answer.status == 200:
                return (await answer.read()).decode()
        except Unreachable:
            # The rules of a Service follow its endpoints within moments.
            await asyncio.sleep(0.1)
