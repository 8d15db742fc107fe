"""The Gateway API's definitions as the API server takes them: shapes, defaults, and upstream's rules."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from peavine.ingress.gateways import crds
from peavine.machinery.errors import ApiError
from peavine.testing import AsyncCluster
from tests.ingress.gateways import GROUP, gateway, listener, path, route, rule

pytestmark = pytest.mark.slow

_TLS = {"certificateRefs": [{"name": "x"}]}
_SERVICE = rule("web")


def spec(obj: Any) -> Any:
    return obj["spec"]


REFUSED = [
    ("Gateway", spec(gateway("g", listener("a", 80, tls=_TLS))), "tls must not be specified for protocols"),
    ("Gateway", spec(gateway("g", listener("a", 80), listener("b", 80))), "Combination of port, protocol and hostname"),
    ("Gateway", spec(gateway("g", listener("a", 443, "TLS"))), "tls mode must be set for protocol TLS"),
    ("Gateway", spec(gateway("g", listener("a", 443, "HTTPS", tls={**_TLS, "mode": "Passthrough"}))),
     "tls mode must be Terminate for protocol HTTPS"),
    ("Gateway", spec(gateway("g", listener("a", 80), addresses=[{"value": "1.2.3.4"}] * 2)),
     "IPAddress values must be unique"),
    ("Gateway", spec(gateway("g", listener("a", 80), addresses=[{"value": "nowhere"}])), "spec.addresses[0]"),
    ("Gateway", spec(gateway("g", listener("a", 80, host="A.b"))), "should match"),
    ("Gateway", spec(gateway("g")), "should have at least 1 items"),
    ("GatewayClass", {"controllerName": "nothing"}, "should match"),
    ("HTTPRoute", spec(route("r", rule({"name": "x"}))), "Must have port for Service reference"),
    ("HTTPRoute", spec(route("r", rule(matches=[path("x")]))), "must be an absolute path"),
    ("HTTPRoute", spec(route("r", rule(matches=[path("/a//b")]))), "must not contain '//'"),
    ("HTTPRoute", spec(route("r", rule(matches=[path("/a b")]))), "must only contain valid characters"),
    ("HTTPRoute", spec(route("r", rule(filters=[{"type": "CORS"}]))), "filter.cors must be specified for CORS"),
    ("HTTPRoute", spec(route("r", rule("x", filters=[{"type": "RequestRedirect", "requestRedirect": {}}]))),
     "RequestRedirect filter must not be used together with backendRefs"),
    ("HTTPRoute", spec(route("r", rule(timeouts={"request": "1s", "backendRequest": "2s"}))),
     "backendRequest timeout cannot be longer"),
    ("HTTPRoute", spec(route("r", rule(timeouts={"request": "1"}))), "should match"),
    ("HTTPRoute", spec(route("r", _SERVICE, parents=("a", "a"))), "sectionName must be unique"),
    ("HTTPRoute", spec(route("r", *[rule("x", matches=[path(f"/{n}") for n in range(40)])] * 4)),
     "must be less than 128"),
    ("GRPCRoute", spec(route("r", rule(matches=[{"method": {"service": "a/b"}}]))), "service must only contain valid"),
    ("GRPCRoute", spec(route("r", rule(matches=[{"method": {}}]))), "One or both of 'service' or 'method'"),
    ("TLSRoute", spec(route("r", _SERVICE, hosts=("1.2.3.4",))), "Hostnames cannot contain an IP"),
    ("TLSRoute", spec(route("r", _SERVICE)), "hostnames: Required value"),
    ("ReferenceGrant", {"from": []}, "Required value"),
]  # fmt: skip


def test_definitions_are_installed_once_and_their_rules_hold() -> None:
    asyncio.run(_drive())


async def _drive() -> None:
    async with AsyncCluster(controllers=False, scheduler=False, nodes=0) as cluster:
        client = cluster.client
        await crds.install(client)
        definitions = client.resource("apiextensions.k8s.io/v1", "customresourcedefinitions")
        before = {d["metadata"]["name"]: d["metadata"]["generation"] for d in (await definitions.list())["items"]}
        await crds.install(client)
        listed = (await definitions.list())["items"]
        assert {d["metadata"]["name"]: d["metadata"]["generation"] for d in listed} == before and len(before) == 6

        async def create(kind: str, spec: Any, name: str = "x") -> Any:
            namespace = None if kind == "GatewayClass" else "default"
            obj = {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
            plural = "gatewayclasses" if kind == "GatewayClass" else f"{kind.lower()}s"
            return await client.resource(f"{GROUP}/v1", plural).create(obj, namespace, fieldValidation="Strict")

        for kind, spec, words in REFUSED:
            with pytest.raises(ApiError) as error:
                await create(kind, spec)
            assert words in str(error.value), (kind, str(error.value))
        with pytest.raises(ApiError, match="unknown field"):
            await create("HTTPRoute", {"rules": [{"filter": []}]})
        made = await create("HTTPRoute", route("r", rule("web"))["spec"])
        assert made["spec"]["rules"][0]["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
        assert made["spec"]["rules"][0]["backendRefs"][0]["weight"] == 1
        made = await create("Gateway", gateway("g", listener("a", 80))["spec"])
        assert made["spec"]["listeners"][0]["allowedRoutes"] == {"namespaces": {"from": "Same"}}
        waiting = {c["type"]: (c["status"], c["reason"]) for c in made["status"]["conditions"]}
        assert waiting == {"Accepted": ("Unknown", "Pending"), "Programmed": ("Unknown", "Pending")}
        # A newer version that somebody else has installed stays.
        newer = {"metadata": {"annotations": {crds.BUNDLE: "v9.0.0"}}}
        await definitions.patch(f"gateways.{GROUP}", newer)
        await crds.install(client)
        kept = await definitions.get(f"gateways.{GROUP}")
        assert kept["metadata"]["annotations"][crds.BUNDLE] == "v9.0.0"
