"""Priority and fairness: who is served, who waits, who is sent away."""

import asyncio
import itertools
from collections import Counter

import pytest

from peavine.apiserver.authentication import User
from peavine.apiserver.bootstrap import flowcontrol
from peavine.apiserver.fairness import MaxInFlight, PriorityAndFairness
from peavine.apiserver.fairness.borrowing import Claim, deal_seats
from peavine.apiserver.fairness.queues import Level, Rejected, deal
from peavine.apiserver.fairness.work import Estimator, Width
from peavine.base.clock import SimulatedClock
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


def level(nominal=1, queues=8, hand=2, length=3, **more):
    return Level("l", nominal, queues=queues, hand_size=hand, queue_length_max=length, **more)


def test_waiters_get_seats_as_they_come_free_and_queues_have_an_end():
    async def play():
        one = level(length=2, queues=1, hand=1)
        seat = await one.enter("f", 5)
        waiting = [asyncio.ensure_future(one.enter("f", 5)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Rejected, match="queue-full"):
            await one.enter("f", 5)
        one.leave(seat)
        first = await waiting[0]
        assert not waiting[1].done() and one.executing == 1
        one.leave(first)
        one.leave(await waiting[1])
        assert (one.executing, one.waiting) == (0, 0)

    asyncio.run(play())


def test_who_gives_up_leaves_no_trace():
    async def play():
        one = level()
        seat = await one.enter("f", 5)
        with pytest.raises(Rejected, match="time-out"):
            await one.enter("f", 0.01)
        gone = asyncio.ensure_future(one.enter("f", 5))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        one.leave(seat)
        assert (one.executing, one.waiting) == (0, 0)

    asyncio.run(play())


def test_a_loud_flow_does_not_starve_a_quiet_one():
    async def play():
        one = level(nominal=2, queues=64, hand=6, length=200, now=itertools.count(step=60).__next__)
        served: Counter = Counter()
        order = []

        async def request_of(flow):
            seat = await one.enter(flow, 30)
            served[flow] += 1
            order.append(flow)
            await asyncio.sleep(0)
            one.leave(seat)

        loud = [asyncio.ensure_future(request_of("loud")) for _ in range(300)]
        await asyncio.sleep(0)
        quiet = [asyncio.ensure_future(request_of("quiet")) for _ in range(5)]
        await asyncio.gather(*loud, *quiet)
        return order

    order = asyncio.run(play())
    assert max(i for i, flow in enumerate(order) if flow == "quiet") < 120


class Stock:
    """Two thousand pods of a thousand bytes, ten config maps, and as many watchers as said."""

    def __init__(self, watching=0):
        self.watching = watching

    def size(self, group, resource, namespace):
        return {"pods": (2000, 2_000_000), "configmaps": (10, 10_000)}.get(resource, (0, 0))

    def watchers(self, group, resource, namespace):
        return self.watching


PODS = "/api/v1/pods"


@pytest.mark.parametrize(
    ("path", "query", "seats"),
    [
        (PODS, "", 10),  # two megabytes, of which one is held at once
        (PODS, "limit=500", 5),
        (PODS, "limit=1", 1),
        (PODS, "fieldSelector=metadata.name%3Dx", 1),
        (PODS, "watch=1", 1),
        (PODS, "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", 10),
        ("/api/v1/configmaps", "", 1),
        ("/apis/example.com/v1/strangers", "", 1),
        ("/api/v1/namespaces/a/pods/x", "", 1),
        ("/healthz", "", 1),
    ],
)
def test_a_list_is_as_wide_as_what_it_reads(path, query, seats):
    assert Estimator(Stock()).width(request(path, query=query), 1000) == Width(seats)


def test_no_request_is_wider_than_its_share_of_the_level():
    assert Estimator(Stock()).width(request(PODS), 40) == Width(6)
    assert Estimator(Stock()).width(request(PODS), 1) == Width(1)


def test_a_write_takes_seats_afterwards_for_those_who_hear_of_it():
    def width(watching, path="/api/v1/namespaces/a/pods"):
        return Estimator(Stock(watching)).width(request(path, method="POST"), 1000)

    assert width(9) == Width()
    assert width(41) == Width(1, 5, 0.005)
    assert width(1000) == Width(1, 10, 0.05)  # as much work, by fewer seats for longer
    assert width(41, "/api/v1/namespaces/a/serviceaccounts/b/token") == Width()


def test_a_wide_request_waits_for_all_its_seats_and_nobody_overtakes_it():
    async def play():
        one = level(nominal=4, queues=1, hand=1)
        narrow = [await one.enter("f", 5) for _ in range(2)]
        wide = asyncio.ensure_future(one.enter("f", 5, Width(3)))
        await asyncio.sleep(0)
        late = asyncio.ensure_future(one.enter("f", 5))
        await asyncio.sleep(0)
        assert not wide.done() and not late.done() and one.taken == 2
        one.leave(narrow.pop())
        seat = await wide
        assert one.taken == 4 and not late.done()
        one.leave(seat)
        await late
        assert one.taken == 2

    asyncio.run(play())


def test_a_request_wider_than_its_level_is_served_alone():
    async def play():
        one = level(nominal=2, queues=1, hand=1)
        wide = await one.enter("f", 5, Width(9))
        other = asyncio.ensure_future(one.enter("f", 5))
        await asyncio.sleep(0)
        assert not other.done()
        one.leave(wide)
        await other

    asyncio.run(play())


def test_the_seats_of_a_writes_events_are_held_after_it():
    async def play():
        one = level(nominal=4, queues=1, hand=1)
        one.leave(await one.enter("f", 5, Width(1, 3, 0.001)))
        assert (one.executing, one.taken) == (0, 3)
        wide = await one.enter("f", 5, Width(4))  # waits until they are given back
        assert one.taken == 4
        one.leave(wide)

    asyncio.run(play())


def test_seats_are_dealt_by_demand_within_what_each_must_keep_and_may_have():
    assert deal_seats(100, [Claim(10, 100, 20), Claim(10, 100, 60)]) == [25, 75]
    assert deal_seats(100, [Claim(10, 100, 0), Claim(10, 100, 60)]) == [10, 90]
    assert deal_seats(100, [Claim(10, 30, 50), Claim(10, 100, 50)]) == [30, 70]
    assert deal_seats(10, [Claim(10, 30, 50), Claim(10, 100, 50)]) == [10, 10]
    assert deal_seats(100, [Claim(0, 20, 1), Claim(0, 20, 1)]) == [20, 20]
    assert deal_seats(5, []) == []


def test_a_busy_level_borrows_what_idle_ones_lend_and_gives_it_back(objects):
    """Every ten seconds, by the demand of the ten seconds before."""

    async def play():
        clock = SimulatedClock()
        fairness = PriorityAndFairness(objects, seats=245, clock=clock)
        user = User("system:serviceaccount:team:x", groups=("system:serviceaccounts", AUTHENTICATED))
        async with fairness.admit(request(), user):
            pass
        busy = fairness.levels["workload-low"]
        running = [await busy.enter("f", 5) for _ in range(busy.nominal)]
        waiting = [asyncio.ensure_future(busy.enter(str(n), 5)) for n in range(60)]
        await asyncio.sleep(0)
        assert busy.seats == 100 and busy.waiting == 60
        await clock.advance(10)
        fairness.borrow()
        await asyncio.sleep(0)
        assert busy.seats == 150 and sum(level.seats for level in fairness.levels.values()) <= 246
        # What the others must keep: nominal less the part that they lend.
        assert fairness.levels["node-high"].seats >= 30 and fairness.levels["leader-election"].seats == 10
        assert busy.waiting == 10
        for seat in running:
            busy.leave(seat)
        for seat in await asyncio.gather(*waiting):
            busy.leave(seat)
        assert busy.taken == 0
        for _ in range(500):
            await clock.advance(10)
            fairness.borrow()
        assert busy.seats < 120

    asyncio.run(play())


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
