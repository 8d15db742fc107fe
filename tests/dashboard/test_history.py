"""What the dashboard remembers of metrics, for whom, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from peavine.base.clock import SimulatedClock
from peavine.client import ClientConfig, load_kubeconfig
from peavine.dashboard.history import INTERVAL_SECONDS, POINTS_MAX, SPAN_SECONDS, History
from peavine.testing import AsyncCluster
from tests.dashboard.metrics import serve_metrics, use
from tests.dashboard.serving import serving

TOKENS = 'admin-token,admin,u1,"system:masters"\nalice-token,alice,u2,"dev"\n'


def test_a_series_is_bounded_and_forgotten_once_nothing_comes_any_more():
    async def story():
        clock = SimulatedClock()
        history = History(clock)
        for _ in range(POINTS_MAX + 20):
            history.add("nodes", [("a", 0.5, 100.0)])
            history.add("nodes", [("a", 9.0, 9.0)])  # too soon after the last
            await clock.advance(INTERVAL_SECONDS)
        told = history.told("nodes", ["a", "unknown"])
        assert list(told) == ["a"]
        assert told["a"]["cpu"] == [0.5] * POINTS_MAX
        assert told["a"]["time"][-1] - told["a"]["time"][0] == (POINTS_MAX - 1) * INTERVAL_SECONDS
        await clock.advance(SPAN_SECONDS)
        history.forget_old()
        assert history.told("nodes", ["a"]) == {}

    asyncio.run(story())


def test_it_is_told_only_to_who_may_list_the_same_metrics(tmp_path):
    async def story():
        tokens = tmp_path / "tokens.csv"
        tokens.write_text(TOKENS)
        async with AsyncCluster(controllers=False, scheduler=False, nodes=0, token_auth_file=str(tokens)) as cluster:
            given = load_kubeconfig(cluster.kubeconfig)
            await serve_metrics(cluster.client)
            await use(cluster.client, "nodes", "n1", cpu="250m", memory="64Mi")
            await use(cluster.client, "pods", "web", "default", cpu="1m", memory="1Mi")
            await use(cluster.client, "pods", "busy", "default", cpu="2", memory="2Mi")
            async with serving(ClientConfig(given.server, given.ca)) as browser:
                await browser.log_in(token="admin-token")
                told = await browser.get("/api/history/nodes")
                assert told["series"]["n1"]["cpu"] == [0.25]
                assert told["series"]["n1"]["memory"] == [64 * 2**20]
                told = await browser.get("/api/history/pods?top=1")
                assert list(told["series"]) == ["default/busy"]
                told = await browser.get("/api/history/namespaces/default/pods?name=default/web")
                assert list(told["series"]) == ["default/web"]
                assert await browser.status("GET", "/api/history/secrets") == 404
                assert await browser.status("GET", "/api/history/namespaces/default/pods?top=x") == 404
                await browser.log_in(token="alice-token")
                assert await browser.status("GET", "/api/history/nodes") == 403

    asyncio.run(story())


@pytest.mark.parametrize("text", ["abc", "", "1x"])
def test_a_figure_that_is_no_quantity_is_left_out(text):
    from peavine.dashboard.history import _sample

    assert _sample({"metadata": {"name": "n"}, "usage": {"cpu": text, "memory": "1"}}) is None
