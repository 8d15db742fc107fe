"""What time removes: requests nobody waits for, tokens nobody uses. Hours are skipped."""

import asyncio
import contextlib
import time

import pytest

from peavine.testing import AsyncCluster
from tests.controllers.conftest import eventually
from tests.controllers.test_certificates import csr

HOUR, DAY = 3600, 24 * 3600
CERTIFICATES = "certificates.k8s.io/v1"


@contextlib.asynccontextmanager
async def running(*controllers):
    """An API server and some controllers."""
    async with AsyncCluster(controllers=controllers, scheduler=False, nodes=0) as cluster:
        yield cluster


async def names(resource, namespace=None):
    return {o["metadata"]["name"] for o in (await resource.list(namespace))["items"]}


@pytest.mark.slow
def test_certificate_requests_go_when_they_are_denied_or_done_or_forgotten():
    async def main():
        async with running("certificatesigningrequest-cleaner-controller") as cluster:
            requests = cluster.client.resource(CERTIFICATES, "certificatesigningrequests")
            for name in ("pending", "denied", "approved"):
                spec = {"signerName": "example.com/own", "usages": ["client auth"], "request": csr("jane", "people")}
                made = await requests.create({"metadata": {"name": name}, "spec": spec})
                if name != "pending":
                    condition = {"type": name.capitalize(), "status": "True", "reason": "Test", "message": "by a test"}
                    made["status"] = {"conditions": [condition]}
                    await requests.update(made, "approval")
            await cluster.advance(HOUR - 60)
            assert await names(requests) == {"pending", "denied", "approved"}
            await cluster.advance(120)
            assert await names(requests) == {"pending", "approved"}
            await cluster.advance(DAY)
            assert await names(requests) == {"approved"}, "what is approved waits for its signer"

    asyncio.run(main())


def test_bootstrap_tokens_end_and_their_signatures_too():
    async def main():
        async with running("token-cleaner-controller", "bootstrap-signer-controller") as cluster:
            secrets, maps = (cluster.client.resource("v1", plural) for plural in ("secrets", "configmaps"))
            until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(cluster._clock.time() + HOUR))
            data = {"token-id": "abcdef", "token-secret": "0123456789abcdef", "expiration": until}
            data["usage-bootstrap-signing"] = "true"
            meta = {"name": "bootstrap-token-abcdef"}
            body = {"metadata": meta, "type": "bootstrap.kubernetes.io/token", "stringData": data}
            await secrets.create(body, "kube-system")
            with contextlib.suppress(Exception):
                await cluster.client.resource("v1", "namespaces").create({"metadata": {"name": "kube-public"}})
            info = {"metadata": {"name": "cluster-info"}, "data": {"kubeconfig": "kind: Config"}}
            await maps.create(info, "kube-public")

            async def signed():
                return "jws-kubeconfig-abcdef" in (await maps.get("cluster-info", "kube-public"))["data"]

            await eventually(signed, 60)
            await cluster.advance(HOUR + 60)
            assert "bootstrap-token-abcdef" not in await names(secrets, "kube-system")
            assert not await signed()

    asyncio.run(main())


def test_legacy_tokens_that_nobody_uses_are_marked_and_then_removed():
    async def main():
        async with running("legacy-serviceaccount-token-cleaner-controller") as cluster:
            secrets, accounts = (cluster.client.resource("v1", p) for p in ("secrets", "serviceaccounts"))
            maps = cluster.client.resource("v1", "configmaps")
            tracking = "kube-apiserver-legacy-service-account-token-tracking"
            with contextlib.suppress(Exception):
                await maps.create({"metadata": {"name": tracking}}, "kube-system")
            await maps.patch(tracking, {"data": {"since": "2020-01-01"}}, "kube-system")
            listed = [{"name": "idle"}, {"name": "busy"}]
            await accounts.create({"metadata": {"name": "robot"}, "secrets": listed}, "default")
            today = time.strftime("%Y-%m-%d", time.gmtime(cluster._clock.time()))
            for name, used in (("idle", "2020-01-02"), ("busy", today), ("by-hand", "2020-01-02")):
                meta = {"name": name, "labels": {"kubernetes.io/legacy-token-last-used": used}}
                meta["annotations"] = {"kubernetes.io/service-account.name": "robot"}
                body = {"metadata": meta, "type": "kubernetes.io/service-account-token"}
                await secrets.create(body, "default")

            async def marked():
                found = (await secrets.list("default"))["items"]
                mark = "kubernetes.io/legacy-token-invalid-since"
                return {s["metadata"]["name"] for s in found if mark in s["metadata"]["labels"]} == {"idle"}

            await eventually(marked, 60)
            mark = {"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": "2020-02-01"}}}
            await secrets.patch("idle", mark, "default")

            async def removed():
                return await names(secrets, "default") == {"busy", "by-hand"}

            await eventually(removed, 60)

    asyncio.run(main())


def test_pod_certificate_requests_go_after_a_quarter_of_an_hour():
    async def main():
        async with running("podcertificaterequest-cleaner-controller") as cluster:
            requests = cluster.client.resource(CERTIFICATES, "podcertificaterequests")
            parts = ("pod", "serviceAccount", "node")
            spec = {f"{p}Name": "one" for p in parts} | {f"{p}UID": "u" for p in parts}
            spec |= {"signerName": "example.com/own", "pkixPublicKey": "AAAA", "proofOfPossession": "AAAA"}
            await requests.create({"metadata": {"name": "old"}, "spec": spec}, "default")
            await cluster.advance(14 * 60)
            assert await names(requests, "default") == {"old"}
            await cluster.advance(2 * 60)
            assert await names(requests, "default") == set()

    asyncio.run(main())
