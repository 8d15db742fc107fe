"""Priority and fairness: who is served, who waits, who is sent away."""

import asyncio
from collections import Counter

import pytest

from peavine.apiserver.authentication import User
from peavine.apiserver.bootstrap import flowcontrol
from peavine.apiserver.fairness import MaxInFlight, PriorityAndFairness
from peavine.apiserver.fairness.queues import Level, Rejected, deal
from peavine.machinery.errors import ApiError
from tests.apiserver.security.fakes import Objects, request

AUTHENTICATED = "system:authenticated"


@pytest.fixture
def objects():
    found = Objects()
    for obj in flowcontrol.priority_levels():
        found.put(flowcontrol.GROUP, "prioritylevelconfigurations", obj)
    for obj in flowcontrol.flow_schemas():
        found.put(flowcontrol.GROUP, "flowschemas", obj)
    return found


def classified(fairness, user, **kwargs):
    async def ask():
        async with fairness.admit(request(**kwargs), user) as admitted:
            return admitted.schema, admitted.level

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("name", "groups", "path", "method", "expected"),
    [
        ("kubernetes-admin", ("system:masters",), "/api/v1/pods", "GET", ("exempt", "exempt")),
        ("system:anonymous", ("system:unauthenticated",), "/healthz", "GET", ("probes", "exempt")),
        ("system:kube-scheduler", (), "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x", "PUT",
         ("system-leader-election", "leader-election")),
        ("system:kube-scheduler", (), "/api/v1/pods", "GET", ("kube-scheduler", "workload-high")),
        ("system:node:one", ("system:nodes",), "/api/v1/nodes/one/status", "PATCH", ("system-node-high", "node-high")),
        ("system:node:one", ("system:nodes",), "/api/v1/pods", "GET", ("system-nodes", "system")),
        ("system:serviceaccount:kube-system:x", ("system:serviceaccounts",), "/api/v1/pods", "GET",
         ("kube-system-service-accounts", "workload-high")),
        ("system:serviceaccount:team:x", ("system:serviceaccounts",), "/api/v1/pods", "GET",
         ("service-accounts", "workload-low")),
        ("jane", (), "/api/v1/pods", "GET", ("global-default", "global-default")),
    ],
)  # fmt: skip
def test_requests_are_classified_as_upstream_does(objects, name, groups, path, method, expected):
    user = User(name, groups=(*groups, AUTHENTICATED))
    assert classified(PriorityAndFairness(objects), user, path=path, method=method) == expected


def test_seats_follow_the_shares(objects):
    fairness = PriorityAndFairness(objects, seats=245)
    classified(fairness, User("x", groups=(AUTHENTICATED,)))
    assert {name: level.nominal for name, level in fairness.levels.items()} == {
        "exempt": 0, "system": 30, "node-high": 40, "leader-election": 10, "workload-high": 40, "workload-low": 100,
        "global-default": 20, "catch-all": 5,
    }  # fmt: skip


def test_who_finds_neither_seat_nor_queue_is_asked_to_come_again(objects):
    fairness = PriorityAndFairness(Objects(), seats=20)

    async def ask():
        async with fairness.admit(request(), User("a")):
            with pytest.raises(ApiError) as caught:
                async with fairness.admit(request(), User("a")):
                    pass
            return caught.value

    error = asyncio.run(ask())
    assert error.code == 429 and error.headers == {"Retry-After": "1"}


def level(nominal=1, queues=8, hand=2, length=3):
    return Level("l", nominal, queues=queues, hand_size=hand, queue_length_max=length)


def test_waiters_get_seats_as_they_come_free_and_queues_have_an_end():
    async def play():
        one = level(length=2, queues=1, hand=1)
        seat = await one.enter("f", lambda: 1, lambda: 0.0, 5)
        waiting = [asyncio.ensure_future(one.enter("f", lambda: 1, lambda: 0.0, 5)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Rejected, match="queue-full"):
            await one.enter("f", lambda: 1, lambda: 0.0, 5)
        one.leave(seat, lambda: 1, lambda: 0.0)
        first = await waiting[0]
        assert not waiting[1].done() and one.executing == 1
        one.leave(first, lambda: 1, lambda: 0.0)
        one.leave(await waiting[1], lambda: 1, lambda: 0.0)
        assert (one.executing, one.waiting) == (0, 0)

    asyncio.run(play())


def test_who_gives_up_leaves_no_trace():
    async def play():
        one = level()
        seat = await one.enter("f", lambda: 1, lambda: 0.0, 5)
        with pytest.raises(Rejected, match="time-out"):
            await one.enter("f", lambda: 1, lambda: 0.0, 0.01)
        gone = asyncio.ensure_future(one.enter("f", lambda: 1, lambda: 0.0, 5))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        one.leave(seat, lambda: 1, lambda: 0.0)
        assert (one.executing, one.waiting) == (0, 0)

    asyncio.run(play())


def test_a_loud_flow_does_not_starve_a_quiet_one():
    async def play():
        one = level(nominal=2, queues=64, hand=6, length=200)
        served: Counter = Counter()
        order = []

        async def request_of(flow):
            seat = await one.enter(flow, lambda: 2, lambda: 0.0, 30)
            served[flow] += 1
            order.append(flow)
            await asyncio.sleep(0)
            one.leave(seat, lambda: 2, lambda: 60.0)

        loud = [asyncio.ensure_future(request_of("loud")) for _ in range(300)]
        await asyncio.sleep(0)
        quiet = [asyncio.ensure_future(request_of("quiet")) for _ in range(5)]
        await asyncio.gather(*loud, *quiet)
        return order

    order = asyncio.run(play())
    assert max(i for i, flow in enumerate(order) if flow == "quiet") < 120


def test_hands_are_stable_distinct_and_spread():
    assert deal("a", 64, 6) == deal("a", 64, 6) != deal("b", 64, 6)
    assert len(set(deal("a", 64, 6))) == 6
    used = Counter(card for n in range(200) for card in deal(str(n), 64, 6))
    assert len(used) == 64


def test_flow_schemas_say_whether_their_level_exists(objects):
    fairness = PriorityAndFairness(objects, objects)
    objects.remove(flowcontrol.GROUP, "prioritylevelconfigurations", None, "workload-low")
    asyncio.run(fairness.update_statuses())
    conditions = {
        obj["metadata"]["name"]: obj["status"]["conditions"][0]["status"]
        for obj in objects.list(flowcontrol.GROUP, "flowschemas")
    }
    assert conditions.pop("service-accounts") == "True" and set(conditions.values()) == {"False"}


def test_the_plain_limit_holds_reads_and_writes_apart():
    async def play():
        limit = MaxInFlight(1, 1)
        async with limit.admit(request(), User("a")):
            with pytest.raises(ApiError):
                async with limit.admit(request(), User("a")):
                    pass
            async with limit.admit(request(method="POST"), User("a")):
                pass

    asyncio.run(play())
