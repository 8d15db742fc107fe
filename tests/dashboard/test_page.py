"""The page in a headless Chromium, against a cluster with controllers, a scheduler and simulated nodes."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from peavine.client import ClientConfig, load_kubeconfig
from peavine.testing import AsyncCluster
from tests.dashboard.browser import PROGRAM, browser
from tests.dashboard.serving import serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed: the page is not tested in a browser"),
]

ROWS = "[...document.querySelectorAll('.rows tbody a')].map(a => a.textContent)"
BUTTONS = "[...document.querySelectorAll('main .actions button')].map(b => b.textContent)"
TOKENS = 'admin-token,admin,u1,"system:masters"\nviewer-token,viewer,u2,"dev"\n'


def deployment(image: str) -> dict:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    }


@contextlib.asynccontextmanager
async def a_page(directory):
    """A cluster with one Deployment, a dashboard, and a browser that has opened it."""
    tokens = directory / "tokens.csv"
    tokens.write_text(TOKENS)
    async with AsyncCluster(nodes=1, token_auth_file=str(tokens)) as cluster:
        given = load_kubeconfig(cluster.kubeconfig)
        await cluster.create_namespace("shop")
        await cluster.client.resource("apps/v1", "deployments").create(deployment("web:1"))
        async with serving(ClientConfig(given.server, given.ca)) as served, browser() as page:
            await page.open(served.base)
            yield cluster, page, served.base


async def log_in(page, token):
    await page.fill("input[name=token]", token)
    await page.click("button.primary")
    await page.until("document.querySelector('.overview')")


def go(page, place):
    return page.evaluate(f"location.hash = '#/{place}'")


@pytest.mark.timeout(180)
def test_an_administrator_watches_edits_rolls_back_scales_and_deletes(tmp_path):
    async def story():
        async with a_page(tmp_path) as (cluster, page, base):
            deployments = cluster.client.resource("apps/v1", "deployments")
            await page.fill("input[name=token]", "wrong")
            await page.click("button.primary")
            await page.until("document.querySelector('.problem').textContent.includes('does not accept')")
            await page.evaluate("document.querySelector('.problem').remove()")
            page.problems.clear()
            await log_in(page, "admin-token")
            await page.until("document.querySelector('.squares a.good[title=\"shop/web: 2/2\"]')")

            # The list follows the cluster without being asked again.
            await go(page, "r/core/v1/pods")
            await page.until(f"{ROWS}.length === 2")
            await deployments.patch("web", {"spec": {"replicas": 3}}, "shop")
            await page.until(f"{ROWS}.length === 3")
            await page.click(".rows a")
            await page.until("document.querySelector('dl').textContent.includes('ReplicaSet/web-')")
            await page.until("document.querySelector('main').innerText.includes('PodReadyToStartContainers')")

            # Edit: the server says what would change, and only then it is saved.
            await go(page, "r/apps/v1/deployments")
            await page.click(".rows a", "web")
            await page.click("[role=tab]", "YAML")
            await page.click("button", "Edit")
            text = await page.evaluate("document.querySelector('textarea').value")
            await page.fill("textarea", text.replace("image: web:1", "imag: web:2"))
            await page.click("button", "Check")
            await page.until("document.querySelector('.problem').textContent.includes('unknown field')")
            await page.fill("textarea", text.replace("image: web:1", "image: web:2"))
            await page.click("button", "Check")
            await page.until("document.querySelector('.diff .added').textContent")
            added = await page.evaluate("[...document.querySelectorAll('.diff .added')].map(e => e.textContent).join()")
            assert "image: web:2" in added
            assert (await deployments.get("web", "shop"))["spec"]["template"]["spec"]["containers"][0][
                "image"
            ] == "web:1"
            await page.click("button", "Save")
            await page.until("document.querySelector('.done')")

            await page.click("[role=tab]", "Revisions")
            await page.until("document.querySelector('main').innerText.includes('2 (current)')")
            await page.click("table button", "1")
            await page.until("document.querySelector('.diff .added').textContent.includes('image: web:1')")
            await page.click("button", "Roll back")
            await page.until("document.querySelector('main').innerText.includes('3 (current)')")
            back = await deployments.get("web", "shop")
            assert back["spec"]["template"]["spec"]["containers"][0]["image"] == "web:1"

            await page.click(".actions button", "Scale")
            await page.fill("dialog input", "1")
            await page.click("dialog button.primary", "Scale")
            await page.until("!document.querySelector('dialog')")
            assert (await deployments.get("web", "shop"))["spec"]["replicas"] == 1
            await page.click(".actions button", "Delete")
            await page.click("dialog button.danger", "Delete")
            await page.until("document.querySelector('main').innerText.includes('This object is gone')")

            await go(page, "architecture")
            await page.until("document.querySelector('.networks').innerText.includes('192.168.0.0/16')")
            await page.click("header button", "中文")
            await page.until("document.querySelector('h1').textContent === '架构'")
            assert page.requests and all(r.startswith((base, "data:")) for r in page.requests)
            # The refused edit is all that a console may complain about.
            assert [p for p in page.problems if "400 (Bad Request)" not in p] == []

    asyncio.run(story())


@pytest.mark.timeout(180)
def test_who_may_only_view_sees_no_button_that_would_fail(tmp_path):
    async def story():
        async with a_page(tmp_path) as (cluster, page, _):
            await cluster.client.resource("rbac.authorization.k8s.io/v1", "clusterrolebindings").create(
                {
                    "apiVersion": "rbac.authorization.k8s.io/v1",
                    "kind": "ClusterRoleBinding",
                    "metadata": {"name": "viewers"},
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
                    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "viewer"}],
                }
            )
            await log_in(page, "viewer-token")
            await go(page, "r/apps/v1/deployments")
            await page.click(".rows a", "web")
            await page.click("[role=tab]", "Revisions")
            await page.until("document.querySelector('main').innerText.includes('1 (current)')")
            assert await page.evaluate(BUTTONS) == []
            await page.click("[role=tab]", "YAML")
            assert await page.evaluate(BUTTONS) == ["YAML", "JSON"]
            await go(page, "r/core/v1/pods")
            await page.click(".rows a", "web")
            await page.click("[role=tab]", "Logs")
            await page.until("document.querySelector('.logs')")
            tabs = await page.evaluate("[...document.querySelectorAll('main [role=tab]')].map(b => b.textContent)")
            assert tabs == ["Summary", "YAML", "Logs"]
            await go(page, "r/core/v1/secrets")
            await page.until("document.querySelector('.problem').textContent.includes('cannot list resource')")

    asyncio.run(story())


@pytest.mark.timeout(180)
def test_the_graph_shows_the_way_from_an_ingress_to_the_node_which_is_then_drained(tmp_path):
    async def story():
        async with a_page(tmp_path) as (cluster, page, _):
            meta = {"name": "front", "namespace": "shop"}
            spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
            await cluster.client.resource("v1", "services").create(
                {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}
            )
            backend = {"service": {"name": "front", "port": {"number": 80}}}
            await cluster.client.resource("networking.k8s.io/v1", "ingresses").create(
                {
                    "apiVersion": "networking.k8s.io/v1",
                    "kind": "Ingress",
                    "metadata": {**meta, "name": "door"},
                    "spec": {"defaultBackend": backend},
                }
            )
            pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
            await cluster.client.resource("batch/v1", "cronjobs").create(
                {
                    "apiVersion": "batch/v1",
                    "kind": "CronJob",
                    "metadata": {**meta, "name": "one"},
                    "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": pod}}}},
                }
            )
            await log_in(page, "admin-token")
            await go(page, "r/batch/v1/cronjobs")
            await page.click(".rows a", "one")
            await page.click(".actions button", "Suspend")
            await page.click(".actions button", "Resume")
            await page.click(".actions button", "Trigger")
            await go(page, "r/batch/v1/jobs")
            await page.until(f"{ROWS}[0].startsWith('one-manual-')")

            await page.evaluate("localStorage.setItem('namespace', 'shop')")
            await go(page, "r/apps/v1/deployments")
            await page.until("document.querySelector('.rows').innerText.includes('2/2')")
            await go(page, "topology?ns=shop")
            await page.click(".knot button", "door")
            # Ingress to Service, Service to Deployment, two Pods, two ways to the one node.
            await page.until("document.querySelectorAll('path.lit').length === 6")
            await page.evaluate("document.querySelector('.column:last-child .knot a').click()")
            await page.click(".actions button", "Drain")
            await page.click("dialog button.danger", "Drain")
            await page.until("!document.querySelector('dialog')")
            await page.click(".actions button", "Uncordon")
            await page.until("[...document.querySelectorAll('.actions button')].some(b => b.textContent === 'Cordon')")
            assert page.problems == []

    asyncio.run(story())


@pytest.mark.timeout(180)
def test_five_thousand_rows_are_found_scrolled_and_sorted_while_few_exist(tmp_path):
    async def story():
        async with a_page(tmp_path) as (cluster, page, _):
            maps = cluster.client.resource("v1", "configmaps")
            gate = asyncio.Semaphore(20)

            async def create(number):
                async with gate:
                    meta = {"name": f"m-{number:04}", "namespace": "shop"}
                    await maps.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})

            await asyncio.gather(*(create(number) for number in range(5000)))
            await log_in(page, "admin-token")
            await go(page, "r/core/v1/configmaps?ns=shop")
            await page.until("/^500/.test(document.querySelector('.count').textContent)")
            assert await page.evaluate("document.querySelectorAll('.rows tr').length") < 100
            await page.evaluate("document.querySelector('.rows').scrollTop = 1e9")
            await page.until(f"{ROWS}.includes('m-4999')")
            # Fewer rows than were scrolled past: they are in sight all the same.
            await page.fill("input[placeholder^=Search]", "m-123")
            await page.until(f"{ROWS}.join() === [...Array(10).keys()].map(n => 'm-123' + n).join()")
            await page.click(".rows th button", "Name")
            await page.click(".rows th button", "Name")
            await page.until(f"{ROWS}[0] === 'm-1239'")

    asyncio.run(story())
