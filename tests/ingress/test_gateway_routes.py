"""HTTPRoutes through a real HAProxy; the scenarios are those of the Gateway API's conformance tests."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from peavine.ingress import haproxy
from tests.ingress.cluster import Cluster, cluster, free_port
from tests.ingress.gateways import CLASS, backend, gateway, grant, header, listener, path, route, rule

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(haproxy.program() is None, reason="haproxy is not installed"),
]


def with_gateway(test: Callable[[Cluster, int], Awaitable[None]]) -> Callable[[Path], None]:
    """A Gateway `gw` with one HTTP listener for all hosts, at the given port."""

    @functools.wraps(test)
    def run(tmp_path: Path) -> None:
        async def main() -> None:
            async with cluster(tmp_path, gateway_api=True) as c:
                port = free_port()
                c.informers.put("gatewayclasses", CLASS)
                c.informers.put("gateways", gateway("gw", listener("http", port)))
                await test(c, port)

        asyncio.run(main())

    del run.__wrapped__  # type: ignore[attr-defined]
    return run


def put(c: Cluster, *routes: Any, kind: str = "httproutes") -> None:
    for obj in routes:
        c.informers.put(kind, obj)


async def services(c: Cluster, *names: str) -> None:
    for name in names:
        await c.service(name, name)


@with_gateway
async def test_matching_of_paths_headers_parameters_and_methods_with_its_precedence(c: Cluster, port: int) -> None:
    await services(c, "v1", "v2", "v3", "v4")
    put(
        c,
        # HTTPRouteMatching, HTTPRouteExactPathMatching
        route("matching", rule("v1", matches=[path("/"), {"headers": [header("version", "one")]}]),
              rule("v2", matches=[path("/v2"), {"headers": [header("Version", "two")]}]),
              rule("v3", matches=[path("/one", "Exact")]), hosts=("match.example",)),
        # HTTPRoutePathMatchOrder
        route("order", rule("v3", matches=[path("/match")]), rule("v2", matches=[path("/match/prefix")]),
              rule("v1", matches=[path("/match/prefix/one")]), rule("v4", matches=[path("/match", "Exact")]),
              hosts=("order.example",)),
        # HTTPRouteQueryParamMatching, HTTPRouteMethodMatching, HTTPRouteHeaderMatching
        route("more", rule("v1", matches=[{"queryParams": [header("animal", "whale")]}]),
              rule("v2", matches=[{"queryParams": [header("animal", "dolphin"), header("color", "blue")]}]),
              rule("v3", matches=[{"method": "POST"}, path("/p", method="PUT")]),
              rule("v4", matches=[path("/p", headers=[header("color", "r.*", "RegularExpression")]),
                                  path("/rx/[0-9]+", "RegularExpression")]), hosts=("more.example",)),
    )  # fmt: skip
    await c.settled()

    async def who(host: str, where: str, **more: str) -> str:
        return await c.who(host, where, port=port, **more)

    for where, more, wanted in (
        ("/", {}, "v1"), ("/example", {}, "v1"), ("/v2", {}, "v2"), ("/v2/", {}, "v2"), ("/v2/x", {}, "v2"),
        ("/v2example", {}, "v1"), ("/foo/v2", {}, "v1"), ("/one", {}, "v3"), ("/one/", {}, "v1"),
        ("/", {"Version": "two"}, "v2"), ("/", {"version": "one"}, "v1"), ("/", {"version": "twothree"}, "v1"),
        # A longer path wins over a header.
        ("/v2/", {"Version": "one"}, "v2"),
    ):  # fmt: skip
        assert await who("match.example", where, **more) == wanted, (where, more)
    for where, wanted in (
        ("/match", "v4"), ("/match/", "v3"), ("/match/prefix", "v2"), ("/match/prefix/x", "v2"),
        ("/match/prefix/one/any", "v1"), ("/match/prefixes", "v3"), ("/no", "404"),
    ):  # fmt: skip
        assert await who("order.example", where) == wanted, where
    for where, more, wanted in (
        ("/?animal=whale", {}, "v1"), ("/?animal=wha%6ce", {}, "v1"), ("/?animal=dolphin&color=blue", {}, "v2"),
        ("/?animal=dolphin", {}, "404"), ("/", {}, "404"), ("/", {"method": "POST"}, "v3"),
        ("/p", {"method": "PUT"}, "v3"), ("/x", {"method": "PUT"}, "404"), ("/p", {"color": "red"}, "v4"),
        ("/p", {"color": "tired"}, "404"), ("/rx/12", {}, "v4"), ("/rx/1a", {}, "404"),
        # Method before headers before parameters.
        ("/p?animal=whale", {"method": "PUT", "color": "red"}, "v3"), ("/?animal=whale", {"method": "POST"}, "v3"),
    ):  # fmt: skip
        assert await who("more.example", where, **more) == wanted, (where, more)
    assert await who("MATCH.example:8080", "/v2") == "v2"
    assert await who("other.example", "/") == "404"


@with_gateway
async def test_weights_invalid_backends_and_several_routes_for_a_host(c: Cluster, port: int) -> None:
    await services(c, "v1", "v2", "v3")
    await c.service("far", "far", namespace="web")
    put(
        c,
        # HTTPRouteWeight, HTTPRouteAllBackendsWeightZero
        route("weights", rule(backend("v1", weight=70), backend("v2", weight=30), backend("v3", weight=0)),
              hosts=("weight.example",)),
        route("zero", rule(backend("v1", weight=0)), hosts=("zero.example",)),
        # HTTPRouteInvalidNonExistentBackendRef, HTTPRoutePartiallyInvalidViaInvalidReferenceGrant,
        # HTTPRouteInvalidBackendRefUnknownKind
        route("gone", rule("nothing"), hosts=("gone.example",)),
        route("kind", rule(backend("v1", kind="Bucket", group="x.example")), hosts=("kind.example",)),
        route("half", rule(backend("v1"), backend("nothing")), hosts=("half.example",)),
        route("cross", rule(backend("far", namespace="web")), rule("v1", matches=[path("/v1")]),
              hosts=("cross.example",)),
        # HTTPRouteMatchingAcrossRoutes
        route("one", rule("v1", matches=[path("/"), {"headers": [header("version", "one")]}]),
              hosts=("example.com", "example.net")),
        route("two", rule("v2", matches=[path("/v2"), {"headers": [header("version", "two")]}]),
              hosts=("example.com",)),
        # The older of two alike.
        route("late", rule("v3", matches=[path("/v2")]), hosts=("example.com",)),
    )  # fmt: skip
    await c.settled()

    async def who(host: str, where: str = "/", **more: str) -> str:
        return await c.who(host, where, port=port, **more)

    counts = Counter([await who("weight.example") for _ in range(200)])
    assert set(counts) == {"v1", "v2"} and counts["v1"] > 100 and counts["v2"] > 20
    assert set(Counter([await who("half.example") for _ in range(60)])) == {"v1", "500"}
    for host in ("zero.example", "gone.example", "kind.example", "cross.example"):
        assert await who(host) == "500", host
    assert await who("cross.example", "/v1") == "v1"
    assert await who("example.com") == "v1" and await who("example.net", "/v2") == "v1"
    assert await who("example.com", "/v2/x") == "v2" and await who("example.com", version="two") == "v2"
    # HTTPRouteReferenceGrant: with a grant it works, without it no more.
    c.informers.put("referencegrants", grant("HTTPRoute", "default", "web", "Service"))
    await c.settled()
    assert await who("cross.example") == "far"
    c.informers.delete("referencegrants", "httproute-default-service", "web")
    await c.settled()
    assert await who("cross.example") == "500"


@with_gateway
async def test_headers_redirects_and_rewrites(c: Cluster, port: int) -> None:
    def modifier(name: str, **what: Any) -> Any:
        return {"type": name, name[:1].lower() + name[1:]: what}

    def redirect(**what: Any) -> Any:
        return modifier("RequestRedirect", **what)

    def rewrite(**what: Any) -> Any:
        return {"type": "URLRewrite", "urlRewrite": what}

    def prefix(value: str) -> Any:
        return {"type": "ReplacePrefixMatch", "replacePrefixMatch": value}

    full = {"type": "ReplaceFullPath", "replaceFullPath": "/full/50%"}
    await services(c, "v1", "v2")
    change = {
        "set": [{"name": "X-Set", "value": "it's 100%"}],
        "add": [{"name": "X-Add", "value": "b"}],
        "remove": ["X-Remove"],
    }
    own = modifier("RequestHeaderModifier", set=[{"name": "X-Backend", "value": "v2"}])
    put(
        c,
        route("headers", rule("v1", matches=[path("/request")], filters=[modifier("RequestHeaderModifier", **change)]),
              rule("v1", matches=[path("/response")], filters=[modifier("ResponseHeaderModifier", **change)]),
              rule(backend("v2", filters=[own]), matches=[path("/backend")]), hosts=("headers.example",)),
        route("redirects",
              rule(matches=[path("/host")], filters=[redirect(hostname="example.org")]),
              rule(matches=[path("/status")], filters=[redirect(hostname="example.org", statusCode=301)]),
              rule(matches=[path("/scheme")], filters=[redirect(scheme="https", statusCode=307)]),
              rule(matches=[path("/port")], filters=[redirect(hostname="example.org", port=8083)]),
              rule(matches=[path("/both")], filters=[redirect(scheme="https", hostname="example.org", port=8443)]),
              rule(matches=[path("/known")], filters=[redirect(scheme="https", hostname="example.org", port=443)]),
              rule(matches=[path("/prefix")], filters=[redirect(hostname="example.org", path=prefix("/new"))]),
              rule(matches=[path("/full")], filters=[redirect(hostname="example.org", path=full)]),
              hosts=("redirect.example",)),
        route("rewrites", rule("v1", matches=[path("/one")], filters=[rewrite(hostname="one.example.org")]),
              rule("v1", matches=[path("/foo")], filters=[rewrite(path=prefix("/xyz"))]),
              rule("v1", matches=[path("/slash")], filters=[rewrite(path=prefix("/xyz/"))]),
              rule("v1", matches=[path("/strip")], filters=[rewrite(path=prefix("/"))]),
              rule("v1", matches=[path("/full")], filters=[rewrite(path=full, hostname="full.example")]),
              hosts=("rewrite.example",)),
    )  # fmt: skip
    await c.settled()

    async def get(host: str, where: str, **more: Any) -> tuple[int, dict[str, str], str]:
        return await c.get(host, where, port=port, **more)

    # HTTPRouteRequestHeaderModifier, HTTPRouteResponseHeaderModifier, HTTPRouteBackendRequestHeaderModifier
    code, _, _ = await get("headers.example", "/request", X_Set="a", X_Add="a", X_Remove="a")
    head = c.backends["v1"].head.lower()
    assert code == 200 and "\r\nx-set: it's 100%\r\n" in head and "x-remove" not in head
    assert "\r\nx-add: a\r\n" in head and "\r\nx-add: b\r\n" in head
    _, headers, _ = await get("headers.example", "/response")
    assert headers["x-set"] == "it's 100%" and headers["x-add"] == "b"
    await get("headers.example", "/backend")
    assert "\r\nx-backend: v2\r\n" in c.backends["v2"].head.lower()
    # HTTPRouteRedirectHostAndStatus, -Scheme, -Port, -PortAndScheme, -Path, HTTPRoute307Redirect...
    for where, wanted in (
        ("/host?a=b", (302, f"http://example.org:{port}/host?a=b")),
        ("/status", (301, f"http://example.org:{port}/status")),
        ("/scheme", (307, "https://redirect.example/scheme")),
        ("/port", (302, "http://example.org:8083/port")),
        ("/both", (302, "https://example.org:8443/both")),
        ("/known", (302, "https://example.org/known")),
        ("/prefix/x?q", (302, f"http://example.org:{port}/new/x?q")),
        ("/full/x", (302, f"http://example.org:{port}/full/50%")),
    ):
        code, headers, _ = await get("redirect.example", where)
        assert (code, headers["location"]) == wanted, where
    # HTTPRouteRewriteHost, HTTPRouteRewritePath
    await get("rewrite.example", "/one/two")
    assert "\r\nhost: one.example.org\r\n" in c.backends["v1"].head.lower()
    for where, wanted in (
        ("/foo/bar", "/xyz/bar"), ("/foo", "/xyz"), ("/foo/", "/xyz/"), ("/slash/x", "/xyz/x"), ("/strip/x", "/x"),
        ("/strip", "/"), ("/full/x?q=1", "/full/50%?q=1"),
    ):  # fmt: skip
        assert (await get("rewrite.example", where))[2].split()[1] == wanted, where
    assert "\r\nhost: full.example\r\n" in c.backends["v1"].head.lower()


@with_gateway
async def test_cors_timeouts_and_retries(c: Cluster, port: int) -> None:
    def cors(**what: Any) -> Any:
        return [{"type": "CORS", "cors": what}]

    await services(c, "v1", "slow")
    c.backends["slow"].delay = 30.0
    origins = ["https://www.foo.com", "https://*.bar.com"]
    some = cors(allowOrigins=origins, allowMethods=["GET", "PUT"], allowHeaders=["x-one", "x-two"], maxAge=60,
                exposeHeaders=["x-shown"], allowCredentials=True)  # fmt: skip
    put(
        c,
        route("cors", rule("v1", matches=[path("/some")], filters=some),
              rule("v1", matches=[path("/any")], filters=cors(allowOrigins=["*"], allowMethods=["*"])),
              hosts=("cors.example",)),
        route("timeouts", rule("slow", matches=[path("/request")], timeouts={"request": "300ms"}),
              rule("slow", matches=[path("/backend")], timeouts={"request": "1m", "backendRequest": "300ms"}),
              rule("v1", matches=[path("/never")], timeouts={"request": "0s"}),
              rule("v1", matches=[path("/again")], retry={"codes": [500, 503], "attempts": 2}),
              hosts=("time.example",)),
    )  # fmt: skip
    await c.settled()

    async def ask(where: str, origin: str, method: str = "OPTIONS") -> tuple[int, dict[str, str]]:
        more = {"Access_Control_Request_Method": "PUT"} if method == "OPTIONS" else {}
        code, headers, _ = await c.get("cors.example", where, port=port, method=method, Origin=origin, **more)
        return code, {k.removeprefix("access-control-"): v for k, v in headers.items() if k.startswith("access")}

    for origin in ("https://www.foo.com", "https://a.b.bar.com"):
        shared = {"allow-origin": origin, "allow-credentials": "true"}
        lists = {"allow-methods": "GET, PUT", "allow-headers": "x-one, x-two", "max-age": "60"}
        assert await ask("/some", origin) == (204, {**shared, **lists})
        assert await ask("/some", origin, "GET") == (200, {**shared, "expose-headers": "x-shown"})
    for origin in ("https://foo.com", "http://a.bar.com", "https://bar.com"):
        assert await ask("/some", origin) == (204, {}) and await ask("/some", origin, "GET") == (200, {})
    any_ = {"allow-origin": "https://x.y", "allow-methods": "*", "max-age": "5"}
    assert await ask("/any", "https://x.y") == (204, any_)
    # HTTPRouteTimeoutRequest, HTTPRouteTimeoutBackendRequest
    for where, wanted in (("/request", "504"), ("/backend", "504"), ("/never", "v1"), ("/again", "v1")):
        assert await c.who("time.example", where, port=port) == wanted, where


@with_gateway
async def test_requests_are_mirrored_in_whole_or_in_part(c: Cluster, port: int) -> None:
    """HTTPRouteRequestMirror, HTTPRouteRequestMultipleMirrors, HTTPRouteRequestPercentageMirror."""

    def mirrors(*names: str, **share: Any) -> Any:
        return [{"type": "RequestMirror", "requestMirror": {"backendRef": backend(name), **share}} for name in names]

    await services(c, "v1", "v2", "v3")
    await c.service("half", "h1", "h2")
    put(
        c,
        route("mirror", rule("v1", matches=[path("/all")], filters=mirrors("v2", "v3")),
              rule("v1", matches=[path("/none")], filters=mirrors("v2", percent=0)),
              rule("v1", matches=[path("/half")], filters=mirrors("half", fraction={"numerator": 1, "denominator": 2})),
              rule("v1", matches=[path("/gone")], filters=mirrors("nothing")), hosts=("mirror.example",)),
    )  # fmt: skip
    await c.settled()

    async def reached(name: str, count: int = 1) -> None:
        async with asyncio.timeout(30):
            while c.backends[name].requests < count:
                await asyncio.sleep(0.02)

    code, _, body = await c.get("mirror.example", "/all?q=1", port=port, method="POST", body=b"hello", X_A="b")
    assert (code, body.split()[0]) == (200, "v1")
    for name in ("v2", "v3"):
        await reached(name)
        head = c.backends[name].head
        assert head.startswith("POST /all?q=1 HTTP/1.1") and "x-a: b\r\n" in head.lower()
        assert "host: mirror.example\r\n" in head.lower()
    for where in ("/none", "/gone"):
        assert await c.who("mirror.example", where, port=port) == "v1"
    for _ in range(60):
        assert await c.who("mirror.example", "/half", port=port) == "v1"
    # One of the two endpoints gets each of them.
    await reached("h1")
    await reached("h2")
    assert c.backends["h1"].requests + c.backends["h2"].requests < 60 and c.backends["v2"].requests == 1


@with_gateway
async def test_listeners_are_isolated_by_hostname(c: Cluster, port: int) -> None:
    """GatewayHTTPListenerIsolation, HTTPRouteListenerHostnameMatching, HTTPRouteHostnameIntersection,
    HTTPRouteListenerPortMatching.
    """
    await services(c, "any", "example", "foo", "abc", "v1", "v2")
    other = free_port()
    c.informers.put(
        "gateways",
        gateway("gw", listener("empty", port), listener("wild", port, host="*.example.com"),
                listener("foo", port, host="*.foo.example.com"), listener("abc", port, host="abc.foo.example.com"),
                listener("silent", port, host="silent.example.com"), listener("http2", other)),
    )  # fmt: skip
    for name, section in (("any", "empty"), ("example", "wild"), ("foo", "foo"), ("abc", "abc")):
        put(
            c, route(name, rule(name, matches=[path(f"/{section}")]), parents=({"name": "gw", "sectionName": section},))
        )
    put(
        c,
        route("v1", rule("v1", matches=[path("/v1")]), hosts=("very.specific.com", "*.wildcard.io", "x.example.com"),
              parents=({"name": "gw", "sectionName": "empty"},)),
        route("v2", rule("v2"), parents=({"name": "gw", "port": other},)),
    )  # fmt: skip
    await c.settled()

    async def who(host: str, where: str, at: int = port) -> str:
        return await c.who(host, where, port=at)

    mine = {"bar.com": "empty", "bar.example.com": "wild", "bar.foo.example.com": "foo", "abc.foo.example.com": "abc"}
    names = {"empty": "any", "wild": "example", "foo": "foo", "abc": "abc"}
    for host, section in mine.items():
        for asked, name in names.items():
            assert await who(host, f"/{asked}") == (name if asked == section else "404"), (host, asked)
    assert await who("silent.example.com", "/wild") == "404"
    assert await who("very.specific.com", "/v1") == "v1" and await who("a.b.wildcard.io", "/v1") == "v1"
    assert await who("wildcard.io", "/v1") == "404" and await who("non.specific.com", "/v1") == "404"
    # The host belongs to another listener.
    assert await who("x.example.com", "/v1") == "404"
    assert await who("any.host", "/x", other) == "v2" and await who("any.host", "/x") == "404"


@with_gateway
async def test_gateways_share_ports_with_ingresses_or_have_addresses_of_their_own(c: Cluster, port: int) -> None:
    await services(c, "ingress", "one", "two")
    c.ingress("web", ("x.example", "/", "Prefix", "ingress"))
    c.informers.put("gateways", gateway("gw", listener("http", c.http)))
    own = {"addresses": [{"type": "IPAddress", "value": "127.0.0.7"}]}
    c.informers.put("gateways", gateway("own", listener("http", port), **own))
    put(
        c,
        route("one", rule("one"), hosts=("x.example", "y.example")),
        route("two", rule("two"), parents=("own",)),
    )
    await c.settled()
    # What an Ingress has it keeps.
    assert await c.who("x.example") == "ingress" and await c.who("y.example") == "one"
    assert await c.who("y.example", port=port, address="127.0.0.7") == "two"
    with pytest.raises(OSError):
        await c.who("y.example", port=port)
    status = c.informers.by_plural["gateways"].get("default", "own")["status"]  # type: ignore[index]
    assert status["addresses"] == [{"type": "IPAddress", "value": "127.0.0.7"}]
    status = c.informers.by_plural["gateways"].get("default", "gw")["status"]  # type: ignore[index]
    assert status["addresses"] == [{"type": "IPAddress", "value": "10.4.7.11"}]


@with_gateway
async def test_endpoints_of_routes_change_without_a_reload_and_bad_rules_hurt_nobody(c: Cluster, port: int) -> None:
    await services(c, "v1")
    put(
        c,
        route("good", rule("v1"), hosts=("good.example",)),
        # The first is no expression for anybody, the second only HAProxy refuses.
        route("bad", rule("v1", matches=[path("/(", "RegularExpression")]), rule("v1", matches=[path("/ok")]),
              rule("v1", matches=[path("/[[:x:]]", "RegularExpression")]), hosts=("bad.example",)),
        route("lines", rule("v1", filters=[{"type": "RequestHeaderModifier", "requestHeaderModifier": {
              "set": [{"name": "x", "value": "a\n    acl x always_true"}]}}]), hosts=("lines.example",)),
    )  # fmt: skip
    await c.settled()
    assert await c.who("good.example", port=port) == "v1"
    assert await c.who("lines.example", port=port) == "404" and await c.who("bad.example", "/ok", port=port) == "v1"
    reloads = c.controller.counts.reloads
    await c.endpoints("v1", "w1", "w2")
    await c.settled()
    assert {await c.who("good.example", port=port) for _ in range(6)} == {"w1", "w2"}
    assert c.controller.counts.reloads == reloads
