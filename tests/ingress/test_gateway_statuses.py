"""What the statuses of Gateways and routes say, without HAProxy: conditions, reasons, kinds, counts."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from peavine.base.lifetimes import scope
from peavine.ingress.gateways import crds, hosts
from peavine.ingress.gateways.filters import milliseconds
from peavine.ingress.gateways.listeners import Gateway
from peavine.ingress.gateways.objects import Objects
from peavine.ingress.gateways.reader import Verdict, read_gateways
from peavine.ingress.gateways.source import VERSION, Gateways
from peavine.ingress.model import Frontend, Routing
from peavine.ingress.settings import Settings
from peavine.ingress.statuses import StatusWriter, Target
from tests.ingress.cluster import Informers
from tests.ingress.gateways import CLASS, GROUP, backend, gateway, grant, listener, path, route, rule
from tests.ingress.test_ingress import certificate

Object = dict[str, Any]
SETTINGS = Settings("/nowhere")


def listed(objects: list[Object]) -> list[Object]:
    """As an informer has them."""
    found = []
    for place, obj in enumerate(objects):
        meta = {"creationTimestamp": f"2026-01-01T00:00:{place:02d}Z", "generation": 3, **obj["metadata"]}
        found.append({**obj, "metadata": meta})
    return found


class World:
    def __init__(self, *gateways: Object, **more: Any) -> None:
        service = {"spec": {"ports": [{"name": "http", "port": 80}]}}
        far = {"spec": {"type": "ExternalName"}}
        ws = {"spec": {"ports": [{"port": 80, "appProtocol": "kubernetes.io/ws"}]}}
        self.objects = Objects(
            classes=[CLASS],
            gateways=listed(list(gateways)),
            services={
                ("default", "web"): service,
                ("other", "web"): service,
                ("default", "far"): far,
                ("default", "ws"): ws,
            },
            bundles=frozenset({crds.bundle()}),
            **more,
        )
        self.routing = Routing()

    def routes(self, *routes: Object, kind: str = "HTTPRoute") -> World:
        self.objects.routes[kind] = listed(list(routes))
        return self

    def read(self) -> Verdict:
        return read_gateways(self.objects, self.routing, SETTINGS)

    def of_route(self, name: str) -> list[dict[str, str]]:
        """For each parent the reasons of its conditions; those that do not hold in parentheses."""
        for _, obj, parents in self.read().routes:
            if obj["metadata"]["name"] == name:
                return [{c.type: c.reason if c.true else f"({c.reason})" for c in p.conditions} for p in parents]
        raise AssertionError(name)

    def gateway(self, name: str = "gw") -> Gateway:
        return next(g for g in self.read().gateways if g.key[1] == name)

    def of_listeners(self, name: str = "gw") -> dict[str, list[str]]:
        """Listener to its conditions that are out of the ordinary."""
        result = {}
        for item in self.gateway(name).listeners:
            conditions = item.conditions(item in self.gateway(name).served or item.served)
            usual = {("Accepted", True), ("Programmed", True), ("ResolvedRefs", True), ("Conflicted", False)}
            result[item.name] = [f"{c.type} {c.reason}" for c in conditions if (c.type, c.true) not in usual]
        return result


HTTP = listener("http", 80)
FINE = {"Accepted": "Accepted", "ResolvedRefs": "ResolvedRefs"}


def test_routes_attach_where_listeners_let_them() -> None:
    """HTTPRouteCrossNamespace, HTTPRouteInvalidCrossNamespaceParentRef, HTTPRouteInvalidParentRefNotMatchingListener,
    HTTPRouteListenerHostnameMatching, HTTPRouteDisallowedKind, GatewayWithAttachedRoutes.
    """
    selector = {"matchLabels": {"team": "a"}}
    world = World(
        gateway("gw", HTTP),
        gateway("all", listener("http", 81, allowedRoutes={"namespaces": {"from": "All"}})),
        gateway("some", listener("http", 82, allowedRoutes={"namespaces": {"from": "Selector", "selector": selector}})),
        gateway("named", listener("http", 83, host="*.example.com"), listener("b", 84, host="b.example.com")),
        gateway("grpc", listener("http", 85, allowedRoutes={"kinds": [{"group": GROUP, "kind": "GRPCRoute"}]})),
        gateway("tls", listener("tls", 86, "TLS", tls={"mode": "Passthrough"})),
        namespaces={"other": {"team": "a"}, "third": {}},
    )
    web = rule("web")
    world.routes(
        route("same", web),
        route("cross", web, namespace="other",
              parents=[{"name": n, "namespace": "default"} for n in ("gw", "all", "some")]),
        route("third", web, namespace="third", parents=[{"name": "some", "namespace": "default"}]),
        route("section", web, parents=[{"name": "gw", "sectionName": "none"}, {"name": "gw", "port": 9}]),
        route("hosts", web, hosts=("x.example.org", "x.example.com"), parents=("named",)),
        route("no-host", web, hosts=("example.com", "x.example.org"), parents=("named",)),
        route("kind", web, parents=("grpc", "tls")),
        route("stranger", web, parents=("nobody", {"name": "web", "kind": "Service", "group": ""})),
    )  # fmt: skip

    def accepted(name: str) -> list[str]:
        return [conditions["Accepted"] for conditions in world.of_route(name)]

    assert world.of_route("same") == [FINE]
    assert accepted("cross") == ["(NotAllowedByListeners)", "Accepted", "Accepted"]
    assert accepted("third") == ["(NotAllowedByListeners)"]
    assert accepted("section") == ["(NoMatchingParent)", "(NoMatchingParent)"]
    assert accepted("hosts") == ["Accepted"] and accepted("no-host") == ["(NoMatchingListenerHostname)"]
    assert accepted("kind") == ["(NotAllowedByListeners)", "(NotAllowedByListeners)"]
    assert world.of_route("stranger") == []
    assert [x.attached for x in world.gateway("named").listeners] == [1, 0]
    assert [x.attached for x in world.gateway("gw").listeners] == [1]


def test_references_of_routes_are_resolved_or_the_reason_is_told() -> None:
    """HTTPRouteInvalidBackendRefUnknownKind, -NonExistentBackendRef, -CrossNamespaceBackendRef, -ReferenceGrant."""
    world = World(gateway("gw", HTTP))
    world.routes(
        route("kind", rule(backend("web", kind="Bucket"))),
        route("gone", rule("nothing")),
        route("port", rule(backend("web", port=81))),
        route("external", rule("far")),
        route("cross", rule(backend("web", namespace="other"))),
    )
    wanted = {
        "kind": "InvalidKind",
        "gone": "BackendNotFound",
        "port": "BackendNotFound",
        "external": "BackendNotFound",
        "cross": "RefNotPermitted",
    }
    for name, reason in wanted.items():
        assert world.of_route(name) == [{"Accepted": "Accepted", "ResolvedRefs": f"({reason})"}], name
    for made, helps in (
        (grant("HTTPRoute", "default", "other", "Service", "web"), True),
        (grant("HTTPRoute", "default", "other", "Service"), True),
        (grant("HTTPRoute", "default", "other", "Service", "else"), False),
        (grant("GRPCRoute", "default", "other", "Service"), False),
        (grant("HTTPRoute", "third", "other", "Service"), False),
        (grant("HTTPRoute", "default", "third", "Service"), False),
    ):
        world.objects.grants = [made]
        assert (world.of_route("cross") == [FINE]) == helps, made
    world.routes(route("ws", rule("ws")), kind="GRPCRoute")
    assert world.of_route("ws")[0]["ResolvedRefs"] == "(UnsupportedProtocol)"


def test_rules_that_cannot_be_served_are_named_and_the_others_are() -> None:
    mirror = {"type": "ExtensionRef", "extensionRef": {"group": "x", "kind": "Y", "name": "z"}}
    world = World(gateway("gw", HTTP))
    world.routes(
        route("none", rule("web", filters=[mirror])),
        route("part", rule("web"), rule("web", filters=[mirror], matches=[path("/x")])),
        route("backoff", rule("web", retry={"backoff": "1s"})),
        route("code", rule("web", retry={"codes": [555]})),
        route("name", rule("web", matches=[{"headers": [{"name": "x'y", "value": "z"}]}])),
        route("regex", rule("web", matches=[path("(", "RegularExpression")])),
    )
    for name in ("none", "backoff", "code", "name", "regex"):
        assert world.of_route(name)[0]["Accepted"] == "(UnsupportedValue)", name
    assert world.of_route("part") == [{**FINE, "PartiallyInvalid": "UnsupportedValue"}]
    verdict = world.read()
    message = next(p[0].conditions[2].message for _, r, p in verdict.routes if r["metadata"]["name"] == "part")
    assert message.startswith("Dropped Rule")


def test_of_two_kinds_of_routes_for_a_host_the_older_is_accepted() -> None:
    world = World(gateway("gw", HTTP))
    world.routes(route("web", rule("web"), hosts=("a.example",)), route("other", rule("web"), hosts=("b.example",)))
    late = route("rpc", rule("web"), hosts=("a.example", "c.example"))
    late["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    world.routes(late, kind="GRPCRoute")
    assert world.of_route("web") == [FINE]
    assert world.of_route("rpc")[0]["Accepted"] == "(HostnameConflict)"


def test_listeners_say_what_is_wrong_with_them(tmp_path: Path) -> None:
    """GatewayInvalidTLSConfiguration, GatewayInvalidRouteKind, GatewaySecretMissingReferenceGrant,
    GatewayListenerUnsupportedProtocol, GatewayOverlappingTLSConfig.
    """
    crt, key = (base64.b64encode(text.encode()).decode() for text in certificate(tmp_path))
    good = {"data": {"tls.crt": crt, "tls.key": key}}

    def https(section: str, host: str, **reference: Any) -> Object:
        return listener(section, 443, "HTTPS", host, tls={"certificateRefs": [{"name": "good", **reference}]})

    kinds = {"kinds": [{"group": GROUP, "kind": "TLSRoute"}, {"group": GROUP, "kind": "HTTPRoute"}]}
    world = World(
        gateway(
            "gw",
            https("good", "a.example"),
            https("gone", "b.example", name="none"),
            https("bad", "c.example", name="bad"),
            https("kind", "d.example", group="x", kind="Y"),
            https("cross", "e.example", namespace="other"),
            https("wide", "*.f.example"),
            https("narrow", "x.f.example"),
            listener("kinds", 80, host="k.example", allowedRoutes=kinds),
            listener("udp", 53, "UDP"),
            listener("odd", 54, "example.com/mine"),
        ),
        secrets={
            ("default", "good"): good,
            ("other", "good"): good,
            ("default", "bad"): {"data": {"tls.crt": crt, "tls.key": "eA=="}},
        },
    )
    world.routes(route("r", rule("web")))
    refs = "ResolvedRefs InvalidCertificateRef"
    unsupported = ["Accepted UnsupportedProtocol", "Programmed Invalid"]
    assert world.of_listeners() == {
        "good": [],
        "gone": ["Programmed Invalid", refs],
        "bad": ["Programmed Invalid", refs],
        "kind": ["Programmed Invalid", refs],
        "cross": ["Programmed Invalid", "ResolvedRefs RefNotPermitted"],
        "wide": ["OverlappingTLSConfig OverlappingHostnames"],
        "narrow": ["OverlappingTLSConfig OverlappingHostnames"],
        "kinds": ["ResolvedRefs InvalidRouteKinds"],
        "udp": unsupported,
        "odd": unsupported,
    }
    listeners = {x.name: x for x in world.gateway().listeners}
    assert listeners["kinds"].kinds == ("HTTPRoute",) and listeners["udp"].kinds == ()
    # Attachment does not depend on whether the listener is served.
    assert {x.name: x.attached for x in world.gateway().listeners if x.attached != 1} == {"udp": 0, "odd": 0}


def test_listeners_that_want_the_same_conflict() -> None:
    """GatewayListenerProtocolAndRouteKindConflicts; among Gateways the older keeps its place."""
    passes = {"mode": "Passthrough"}
    world = World(
        gateway("gw", HTTP, listener("tls", 80, "TLS", tls=passes), listener("free", 81)),
        gateway("late", listener("a", 81), listener("b", 81, host="b.example")),
        gateway("far", listener("a", 81), addresses=[{"type": "IPAddress", "value": "10.0.0.9"}]),
    )
    both = ["Programmed Invalid", "Conflicted ProtocolConflict"]
    assert world.of_listeners() == {"http": both, "tls": both, "free": []}
    assert world.of_listeners("late") == {"a": ["Programmed Invalid", "Conflicted HostnameConflict"], "b": []}
    assert world.of_listeners("far") == {"a": []}
    world.routing.frontends["", 443] = Frontend("", 443, True)
    world.objects.gateways = listed([gateway("gw", listener("a", 443))])
    assert world.of_listeners() == {"a": both}


def test_addresses_and_ports_that_cannot_be_had_are_told() -> None:
    """GatewayStaticAddresses, GatewayOptionalAddressValue."""

    def usable(address: str, port: int) -> str:
        return {("10.0.0.9", 0): "not here", ("", 6443): "in use"}.get((address, port), "")

    world = World(
        gateway("gone", HTTP, addresses=[{"value": "10.0.0.9"}]),
        gateway("empty", HTTP, addresses=[{"type": "IPAddress"}]),
        gateway("name", HTTP, addresses=[{"type": "Hostname", "value": "x.y"}]),
        gateway("busy", listener("a", 6443), listener("b", 82)),
        usable=usable,
    )
    for name, reason in (("gone", "AddressNotUsable"), ("empty", "AddressNotAssigned")):
        assert world.gateway(name).unusable[2] == reason  # type: ignore[index]
    assert world.gateway("name").refused[2] == "UnsupportedAddress"  # type: ignore[index]
    assert world.of_listeners("busy") == {"a": ["Accepted PortUnavailable", "Programmed Invalid"], "b": []}


def test_classes_are_accepted_if_they_are_ours_and_say_whether_the_version_is() -> None:
    world = World()
    other = {"metadata": {"name": "other"}, "spec": {"controllerName": "example.com/x"}}
    odd = {"metadata": {"name": "odd"}, "spec": {**CLASS["spec"], "parametersRef": {"name": "x"}}}
    world.objects.classes = [CLASS, other, odd]

    def said() -> dict[str, list[tuple[bool, str]]]:
        return {item["metadata"]["name"]: [(c.true, c.reason) for c in found] for item, found in world.read().classes}

    fine = (True, "SupportedVersion")
    assert said() == {"peavine": [(True, "Accepted"), fine], "odd": [(False, "InvalidParameters"), fine]}
    for bundles in ({"v0.8.0"}, {""}, {"v9.0.0"}, {crds.bundle(), "v0.8.0"}):
        world.objects.bundles = frozenset(bundles)
        assert said()["peavine"][1] == (False, "UnsupportedVersion"), bundles
    world.objects.bundles = frozenset({"v1.2.1"})
    assert said()["peavine"][1] == fine


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("", "a.b", "a.b"), ("a.b", "", "a.b"), ("", "", ""), ("a.b", "a.b", "a.b"), ("a.b", "c.b", None),
        ("*.b", "a.b", "a.b"), ("a.b", "*.b", "a.b"), ("*.b", "x.a.b", "x.a.b"), ("*.b", "b", None),
        ("*.b", "*.a.b", "*.a.b"), ("*.a.b", "*.b", "*.a.b"), ("*.a", "*.b", None), ("*.b", "*.ab", None),
    ],
)  # fmt: skip
def test_hosts_of_listeners_and_routes_have_in_common_what_the_specification_says(
    one: str, other: str, shared: str | None
) -> None:
    assert hosts.intersection(one, other) == shared


def test_durations_are_those_of_the_gateway_api() -> None:
    assert [milliseconds(t) for t in ("0s", "500ms", "1m", "1h2m3s4ms")] == [0, 500, 60_000, 3_723_004]


def test_versions_compare_as_releases_do() -> None:
    order = ["", "v1.0.0-rc.1", "v1.0.0", "v1.2.0-rc.1", "v1.2.0-rc.2", "v1.2.0", "v1.10.0"]
    assert sorted(order, key=crds.version_of) == order


def test_statuses_keep_others_conditions_and_times_and_are_written_once() -> None:
    """GatewayPreserveForeignConditions, GatewayObservedGenerationBump, HTTPRouteObservedGenerationBump."""
    asyncio.run(_report())


async def _report() -> None:
    informers = Informers()
    again = asyncio.Event()
    statuses = StatusWriter(informers, again.set)  # type: ignore[arg-type]
    source = Gateways(informers, SETTINGS, ["10.0.0.1"], lambda: None, statuses)  # type: ignore[arg-type]
    async with scope() as tasks:
        tasks.start(statuses.run())
        await _statuses(informers, source, statuses)
        # Somebody else was first: it is tried again.
        statuses.put(Target(VERSION, "gatewayclasses", "", "peavine"), {"metadata": {"resourceVersion": "0"}})
        async with asyncio.timeout(30):
            await again.wait()


async def _statuses(informers: Informers, source: Gateways, statuses: StatusWriter) -> None:
    informers.put("gatewayclasses", CLASS)
    foreign = {"type": "example.com/Foreign", "status": "True", "reason": "X", "message": "", "lastTransitionTime": "t"}
    informers.put("gateways", {**gateway("gw", listener("http", 0)), "status": {"conditions": [foreign]}})
    theirs = {"parentRef": {"name": "x"}, "controllerName": "example.com/x", "conditions": [foreign]}
    informers.put("httproutes", {**route("r", rule("web")), "status": {"parents": [theirs]}})

    async def sync() -> list[str]:
        informers.patched.clear()
        routing = Routing()
        source.report(source.read(routing, {}, {}), routing)
        async with asyncio.timeout(30):
            await statuses.idle.wait()
        return [name for name, _ in informers.patched]

    def status(plural: str, name: str) -> Object:
        found = informers.by_plural[plural].get("default", name)
        assert found is not None
        return dict(found["status"])

    assert await sync() == ["peavine", "gw", "r"] and await sync() == []
    conditions = status("gateways", "gw")["conditions"]
    assert conditions[0] == foreign and [c["type"] for c in conditions] == [foreign["type"], "Accepted", "Programmed"]
    assert status("gateways", "gw")["listeners"][0]["attachedRoutes"] == 1
    parents = status("httproutes", "r")["parents"]
    assert parents[0] == theirs and parents[1]["controllerName"] == "peavine.dev/gateway" and len(parents) == 2
    before = {c["type"]: c["lastTransitionTime"] for c in conditions}
    obj = informers.by_plural["gateways"].get("default", "gw")
    assert obj is not None
    informers.put("gateways", {**obj, "status": {**obj["status"]}})
    assert await sync() == ["gw"]
    after = informers.by_plural["gateways"].get("default", "gw")
    assert after is not None
    assert all(c["observedGeneration"] == after["metadata"]["generation"] for c in after["status"]["conditions"][1:])
    assert {c["type"]: c["lastTransitionTime"] for c in after["status"]["conditions"]} == before
    # A route that names no Gateway of ours any more loses our entry, and only ours.
    informers.delete("gateways", "gw")
    assert await sync() == ["r"] and status("httproutes", "r")["parents"] == [theirs]
