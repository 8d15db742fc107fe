"""HTTP extenders, over real HTTP."""

import asyncio
import base64
import contextlib
import datetime
import ipaddress
import ssl

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from peavine.base.lifetimes import scope
from peavine.scheduler.config import API_VERSION, parse
from peavine.scheduler.scheduler import Scheduler
from tests.scheduler.fake_api import FakeApi
from tests.scheduler.objects import node, pod
from tests.scheduler.test_scheduler import _condition


@contextlib.asynccontextmanager
async def scheduling(api, answers, tls=None, **extender):
    """A scheduler with one extender, whose `answers` are functions of the request by verb."""
    asked = []

    async def serve(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(x.split(":")[1]) for x in head.split("\r\n") if x.lower().startswith("content-length"))
        verb = head.split()[1].rpartition("/")[2]
        request = orjson.loads(await reader.readexactly(length))
        asked.append((verb, request))
        answer = orjson.dumps(answers[verb](request))
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/extend"
    doc = {"apiVersion": API_VERSION, "kind": "KubeSchedulerConfiguration", "podInitialBackoffSeconds": 0.01}
    configuration = parse({**doc, "extenders": [{"urlPrefix": url, **extender}]})
    async with scope() as tasks:
        scheduler = Scheduler(api, configuration)
        tasks.start(scheduler.run())
        yield asked
    for extender in scheduler.extenders:
        extender.close()
    server.close()


def _api(*names):
    api = FakeApi()
    for name in names:
        api.put("nodes", node(name))
    return api


def test_an_extender_filters_rates_and_says_why():
    def keep(request):
        names = [n["metadata"]["name"] for n in request["Nodes"]["items"]]
        if request["Pod"]["metadata"]["name"] == "hated":
            return {"NodeNames": [], "FailedNodes": dict.fromkeys(names, "extender said no")}
        return {"NodeNames": [name for name in names if name != "a"], "FailedNodes": {"a": "extender said no"}}

    def rate(request):
        return [{"Host": "b", "Score": 1}, {"Host": "c", "Score": 10}]

    async def main():
        api = _api("a", "b", "c")
        verbs = {"filterVerb": "filter", "prioritizeVerb": "prioritize", "weight": 10}
        async with scheduling(api, {"filter": keep, "prioritize": rate}, **verbs) as asked:
            api.put("pods", pod("p", cpu="100m"))
            await api.until(lambda: api.bound() == {"p": "c"})
            assert [verb for verb, _ in asked] == ["filter", "prioritize"]
            api.put("pods", pod("hated", cpu="100m"))
            await api.until(lambda: _condition(api, "hated"))
            assert _condition(api, "hated")["message"].startswith("0/3 nodes are available: 3 extender said no. ")

    asyncio.run(main())


def test_an_extender_binds_the_pods_that_ask_for_its_resource():
    async def main():
        api = _api("a")
        api.put("nodes", node("g", example_com__gpu="4"))

        def bind(request):
            asyncio.get_running_loop().call_soon(
                lambda: api.put("pods", pod(request["PodName"], on=request["Node"], meta={"uid": request["PodUID"]}))
            )
            return {}

        managed = [{"name": "example-com/gpu"}]
        async with scheduling(api, {"bind": bind}, bindVerb="bind", managedResources=managed) as asked:
            plain, special = pod("plain"), pod("special")
            special["spec"]["containers"][0]["resources"]["requests"]["example-com/gpu"] = "1"
            api.put("pods", plain)
            api.put("pods", special)
            await api.until(lambda: len(api.bound()) == 2)
            assert [request["PodName"] for _, request in asked] == ["special"]
            assert ("binding", "pods", "special") not in api.calls

    asyncio.run(main())


def test_an_extender_that_fails_holds_its_pods_up_unless_it_may_be_ignored():
    async def main():
        for ignorable in (False, True):
            api = _api("a")
            answers = {"filter": lambda request: {"Error": "out of order"}}
            async with scheduling(api, answers, filterVerb="filter", ignorable=ignorable):
                api.put("pods", pod("p"))
                if ignorable:
                    await api.until(api.bound)
                    continue
                await api.until(lambda api=api: _condition(api, "p"))
                assert _condition(api, "p")["reason"] == "SchedulerError"
                assert _condition(api, "p")["message"] == "out of order"
                answers["filter"] = lambda request: {"NodeNames": ["a"]}
                await api.until(api.bound)

    asyncio.run(main())


def test_an_extender_has_its_say_about_which_pods_go():
    async def main():
        def spare_a(request):
            victims = request["NodeNameToVictims"]
            assert {node: [p["metadata"]["name"] for p in v["Pods"]] for node, v in victims.items()} == {
                "a": ["low-a"],
                "b": ["low-b"],
            }
            return {"nodeNameToMetaVictims": {"b": {"pods": [{"uid": "uid-low-b"}], "numPDBViolations": 0}}}

        api = FakeApi()
        for name in ("a", "b"):
            api.put("nodes", node(name, cpu="1"))
            api.put("pods", pod(f"low-{name}", cpu="800m", on=name))
        async with scheduling(api, {"preempt": spare_a}, preemptVerb="preempt") as asked:
            api.put("pods", pod("high", cpu="800m", priority=10))
            await api.until(lambda: api.bound().get("high") == "b")
            assert [verb for verb, _ in asked] == ["preempt"]
            assert api.bound() == {"low-a": "a", "high": "b"}

    asyncio.run(main())


def test_an_extender_that_knows_the_nodes_is_told_names_only_and_may_keep_all_victims():
    async def main():
        def spare_all(request):
            assert request["NodeNameToMetaVictims"] == {"a": {"Pods": [{"UID": "uid-low"}], "NumPDBViolations": 0}}
            return {"NodeNameToMetaVictims": {}}

        def keep(request):
            assert request["Nodes"] is None
            return {"NodeNames": request["NodeNames"]}

        api = FakeApi()
        api.put("nodes", node("a", cpu="1"))
        api.put("pods", pod("low", cpu="800m", on="a"))
        verbs = {"preemptVerb": "preempt", "filterVerb": "filter", "nodeCacheCapable": True}
        async with scheduling(api, {"preempt": spare_all, "filter": keep}, **verbs):
            api.put("pods", pod("high", cpu="800m", priority=10))
            await api.until(lambda: _condition(api, "high"))
            assert (
                api.bound() == {"low": "a"} and "nominatedNodeName" not in api.get("pods", "high", "default")["status"]
            )

    asyncio.run(main())


def _certificate(path):
    """A self-signed certificate of 127.0.0.1 and its key, in one file."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "extender")])
    day = datetime.timedelta(days=1)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
    made = made.add_extension(address, critical=False).sign(key, hashes.SHA256())
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(made.public_bytes(Encoding.PEM) + secret)
    return made.public_bytes(Encoding.PEM)


def test_an_extender_is_spoken_to_over_tls_and_must_be_who_it_says(tmp_path):
    certificate = _certificate(tmp_path / "pair.pem")
    (tmp_path / "ca.pem").write_bytes(certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "pair.pem")

    async def main(**tls):
        api = _api("a")
        answers = {"filter": lambda request: {"NodeNames": ["a"]}}
        async with scheduling(api, answers, context, filterVerb="filter", enableHTTPS=True, tlsConfig=tls):
            api.put("pods", pod("p"))
            await api.until(lambda: api.bound() or _condition(api, "p"))
            return bool(api.bound())

    assert asyncio.run(main(caFile=str(tmp_path / "ca.pem")))
    assert asyncio.run(main(caData=base64.b64encode(certificate).decode()))
    assert asyncio.run(main(insecure=True))
    assert not asyncio.run(main())
