"""HTTP extenders, over real HTTP."""

import asyncio
import contextlib

import orjson

from peavine.base.lifetimes import scope
from peavine.scheduler.config import API_VERSION, parse
from peavine.scheduler.scheduler import Scheduler
from tests.scheduler.fake_api import FakeApi
from tests.scheduler.objects import node, pod
from tests.scheduler.test_scheduler import _condition


@contextlib.asynccontextmanager
async def scheduling(api, answers, **extender):
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

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
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
