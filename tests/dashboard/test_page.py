"""The page in a headless Chromium, against a cluster with controllers, a scheduler and simulated nodes."""

from __future__ import annotations

import asyncio

import pytest

from peavine.machinery.errors import ApiError
from tests.dashboard.metrics import use
from tests.dashboard.stage import ROWS, thing, workload

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

DIFF = "[...document.querySelectorAll('.diff .added')].map(e => e.textContent).join()"


def test_the_list_follows_the_cluster_and_an_edit_has_help_a_dry_run_and_a_diff(stage):
    async def story(stage):
        deployments = stage.cluster.client.resource("apps/v1", "deployments")
        await stage.create("deployments", workload("Deployment", "edited", "shop:1", replicas=2))
        page = await stage.log_in()
        await page.until("document.querySelector('.squares a.good[title=\"shop/edited: 2/2\"]')", 60)
        await stage.go("r/core/v1/pods?labels=app%3Dedited")
        await page.until(f"{ROWS}.length === 2")
        await deployments.patch("edited", {"spec": {"replicas": 3}}, "shop")
        await page.until(f"{ROWS}.length === 3")

        await stage.go("o/apps/v1/deployments/shop/edited?tab=yaml")
        await page.click("button", "Edit")
        text = await page.evaluate("document.querySelector('textarea').value")
        wrong = text.replace("image: shop:1", "imag: shop:2").replace("\n  replicas: 3", "\n  replicas: many")
        await page.fill("textarea", wrong.replace("      containers:", "      container:"))
        # Marked while one types, before the server is asked.
        await stage.see("Unknown field: container", ".wrong")
        await stage.see("Must be: integer", ".wrong")
        await stage.see("Missing field: containers", ".wrong")
        marks = await page.evaluate("[...document.querySelectorAll('mark')].map(e => e.textContent)")
        assert "container" in marks and "many" in marks

        await page.fill("textarea", text.replace("image: shop:1", "imag: shop:2"))
        await stage.see("Unknown field: imag", ".wrong")
        await page.click("button", "Check")
        await stage.see("unknown field", "p.problem")
        # What may stand at the cursor is offered; the keyboard alone puts it in.
        await page.evaluate("""(() => {
            const area = document.querySelector('textarea');
            area.focus();
            area.setSelectionRange(area.value.indexOf('imag:') + 4, area.value.indexOf('imag:') + 4);
            area.dispatchEvent(new Event('select', { bubbles: true }));
        })()""")
        await stage.see("imagePullPolicy", ".suggestions")
        await page.press(" ", 32, modifiers=2)
        await page.until("document.activeElement.closest('.suggestions')")
        await page.press("Enter", 13, text="\r")
        await page.until("document.querySelector('textarea').value.includes('image: shop:2')")
        await stage.see("Container image name", "#field-help")

        await page.click("button", "Check")
        await page.until("document.querySelector('.diff .added')")
        assert "image: shop:2" in await page.evaluate(DIFF)
        before = await stage.get("apps/v1", "deployments", "edited")
        assert before["spec"]["template"]["spec"]["containers"][0]["image"] == "shop:1"
        await page.click("button", "Save")
        await page.until("document.querySelector('.done')")
        after = await stage.get("apps/v1", "deployments", "edited")
        assert after["spec"]["template"]["spec"]["containers"][0]["image"] == "shop:2"
        assert page.requests and all(r.startswith((stage.address, "data:")) for r in page.requests)
        # The refused edit is all that a console may complain about.
        assert [p for p in page.problems if "400 (Bad Request)" not in p] == []

    stage.play(story)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_a_workload_is_restarted_and_rolled_back_to_what_the_diff_shows(stage, kind):
    plural, name = kind.lower() + "s", "back-" + kind.lower()
    spec = {} if kind == "DaemonSet" else {"replicas": 1}

    async def story(stage):
        resource = stage.cluster.client.resource("apps/v1", plural)
        obj = workload(kind, name, "back:1", **spec, **({"serviceName": name} if kind == "StatefulSet" else {}))
        await stage.create(plural, obj)
        page = await stage.log_in()
        await stage.go(f"o/apps/v1/{plural}/shop/{name}?tab=revisions")
        await stage.see("1 (current)")
        image = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "back:2"}]
        await resource.patch(name, image, "shop", type="json")
        await stage.see("2 (current)")
        await page.click("table button", "1")
        await page.until(f"{DIFF}.includes('image: back:1')")
        await page.click("button", "Roll back")
        await stage.see("3 (current)")
        template = (await resource.get(name, "shop"))["spec"]["template"]
        assert template["spec"]["containers"][0]["image"] == "back:1"

        await page.click(".actions button", "Restart")
        await stage.see("4 (current)")
        template = (await resource.get(name, "shop"))["spec"]["template"]
        assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]
        if kind != "DaemonSet":
            await page.click(".actions button", "Scale")
            await page.fill("dialog input", "0")
            await page.click("dialog button.primary", "Scale")
            await page.until("!document.querySelector('dialog')")
            assert (await resource.get(name, "shop"))["spec"]["replicas"] == 0
        await page.click(".actions button", "Delete")
        await page.click("dialog button.danger", "Delete")
        await stage.see("This object is gone")
        assert page.problems == []

    stage.play(story)


def test_a_cron_job_is_suspended_resumed_and_triggered_and_its_job_suspended(stage):
    async def story(stage):
        page = await stage.log_in()
        await stage.go("o/batch/v1/cronjobs/shop/nightly")
        await page.click(".actions button", "Suspend")
        await page.click(".actions button", "Resume")
        await page.click(".actions button", "Trigger")
        await stage.see("Job/nightly-manual-")
        long = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
        await stage.create("jobs", thing("batch/v1", "Job", "held", spec={"suspend": True, "template": {"spec": long}}))
        await stage.go("o/batch/v1/jobs/shop/held")
        await page.click(".actions button", "Resume")
        await page.until("![...document.querySelectorAll('.actions button')].some(b => b.textContent === 'Resume')")
        assert (await stage.get("batch/v1", "jobs", "held"))["spec"]["suspend"] is False
        assert page.problems == []

    stage.play(story)


def test_a_drain_waits_for_a_disruption_budget_and_goes_on(stage):
    async def story(stage):
        client = stage.cluster.client
        await stage.create("deployments", workload("Deployment", "kept", replicas=1))
        selector = {"matchLabels": {"app": "kept"}}
        budget = thing("policy/v1", "PodDisruptionBudget", "kept", spec={"minAvailable": 1, "selector": selector})
        await stage.create("poddisruptionbudgets", budget)
        lone = {"containers": [{"name": "c", "image": "i"}]}
        page = await stage.log_in()
        await stage.go("r/core/v1/pods?labels=app%3Dkept")
        await page.until(f"{ROWS}.length === 1 && document.querySelector('.rows').innerText.includes('Running')", 60)
        [pod] = (await client.resource("v1", "pods").list("shop", label_selector="app=kept"))["items"]
        node = pod["spec"]["nodeName"]
        await stage.create("pods", thing("v1", "Pod", "lone", spec={**lone, "nodeName": node}))
        await stage.go(f"o/core/v1/nodes/-/{node}")
        await page.click(".actions button", "Cordon")
        await page.click(".actions button", "Uncordon")
        await page.click(".actions button", "Drain")
        await stage.see("shop/lone: stays, no controller would bring it back", "dialog")
        await stage.see("its DaemonSet would bring it back here", "dialog")
        await page.click("dialog input[type=checkbox]")
        await page.until("!document.querySelector('dialog .states').innerText.includes('lone')")
        await page.click("dialog button.danger", "Drain")
        await stage.see("Cannot evict pod as it would violate the pod's disruption budget", "dialog")
        await client.resource("policy/v1", "poddisruptionbudgets").delete("kept", "shop")
        await stage.see("Drained", "dialog")
        await page.click("dialog button", "Close")
        left = (await client.resource("v1", "pods").list("shop", field_selector=f"spec.nodeName={node}"))["items"]
        assert {"lone", pod["metadata"]["name"]}.isdisjoint(p["metadata"]["name"] for p in left)
        await page.click(".actions button", "Uncordon")
        await page.until("[...document.querySelectorAll('.actions button')].some(b => b.textContent === 'Cordon')")
        assert [p for p in page.problems if "429" not in p] == []

    stage.play(story)


def test_the_topology_lights_the_way_from_an_ingress_to_the_nodes_and_a_packets_way_is_drawn(stage):
    async def story(stage):
        page = await stage.log_in()
        await stage.go("o/apps/v1/deployments/shop/web")
        await stage.see("2 / 2")
        await stage.go("topology?ns=shop")
        await page.click(".knot button", "door")
        # Ingress to Service, Service to Deployment, two Pods, each on a node.
        await page.until("document.querySelectorAll('path.lit').length === 6", 60)
        await stage.go("o/core/v1/services/shop/front")
        await page.click("[role=tab]", "A packet's way")
        await page.until("document.querySelectorAll('.column:nth-of-type(3) .knot .good').length === 2", 60)
        address = (await stage.get("v1", "services", "front"))["spec"]["clusterIP"]
        await page.click(".knot button", address)
        await page.until("document.querySelectorAll('path.lit').length >= 6")
        await stage.see("front.shop.svc")
        await stage.see(":8080")
        assert page.problems == []

    stage.play(story)


def test_network_policies_show_who_may_talk_to_whom(stage):
    first, last = (f"[...document.querySelectorAll('.column:{at}-of-type .knot')]" for at in ("first", "last"))

    async def story(stage):
        page = await stage.log_in()
        await stage.go("topology?ns=shop&view=policies")
        await page.click(".column:nth-of-type(2) .knot button", "db")
        # Only the API's pods, on one port; db itself may talk to all others.
        await page.until(f"{first}.length === 1 && {first}[0].innerText.startsWith('api\\n5432/TCP')", 60)
        await page.until(f"{last}.some(e => e.innerText.startsWith('0.0.0.0/0'))")
        await page.click(".column:nth-of-type(2) .knot button", "web")
        await page.until(f"{first}.some(e => e.innerText.startsWith('0.0.0.0/0'))")
        assert not await page.evaluate(f"{last}.some(e => e.innerText.startsWith('db'))")
        assert page.problems == []

    stage.play(story)


def test_graphs_have_lines_and_the_restarts_and_failed_probes_of_a_pod_are_on_a_time_line(stage):
    async def story(stage):
        page = await stage.log_in()
        await page.until("document.querySelectorAll('.plot canvas').length >= 2")
        await stage.see("0.75", ".legend")
        pods = stage.cluster.client.resource("v1", "pods")
        await stage.go("r/core/v1/pods?labels=app%3Dapi")
        await page.until(f"{ROWS}.length === 1 && document.querySelector('.rows').innerText.includes('Running')", 60)
        [pod] = (await pods.list("shop", label_selector="app=api"))["items"]
        meta = pod["metadata"]
        await use(stage.cluster.client, "pods", meta["name"], "shop", cpu="30m", memory="20Mi")
        about = {"kind": "Pod", "namespace": "shop", "name": meta["name"], "uid": meta["uid"]}
        event = thing("v1", "Event", "unhealthy", involvedObject={**about, "fieldPath": "spec.containers{api}"})
        time = meta["creationTimestamp"]
        told = {"reason": "Unhealthy", "message": "Readiness probe failed: 503", "type": "Warning", "count": 3}
        await stage.create("events", {**event, **told, "firstTimestamp": time, "lastTimestamp": time})
        status = pod["status"]
        ended = {"exitCode": 137, "reason": "OOMKilled", "startedAt": time, "finishedAt": time}
        for container in status["containerStatuses"]:
            if container["name"] == "api":
                container.update(restartCount=1, lastState={"terminated": ended})
        await pods.patch(meta["name"], {"status": status}, "shop", subresource="status")
        await stage.go(f"o/core/v1/pods/shop/{meta['name']}")
        await page.until("document.querySelectorAll('.plot canvas').length === 2")
        await stage.see("30m", ".legend")
        await page.until("document.querySelector('.timeline .mark.bad title').textContent.includes('Unhealthy ×3')")
        await stage.see("api · 1 restarts", ".timeline")
        await page.click("summary", "The same in words")
        await stage.see("OOMKilled, exit code 137")
        assert page.problems == []

    stage.play(story)


def test_the_architecture_shows_health_without_leases_request_rates_and_three_networks(stage):
    async def story(stage):
        page = await stage.log_in()
        await stage.go("architecture")
        await stage.see("192.168.0.0/16", ".networks")
        await stage.see("172.7.", ".networks")
        healthy = "[...document.querySelectorAll('.box.is-good h2')].map(e => e.innerText).join()"
        names = ["Store", "API server", "Controller manager", "Scheduler", "node-0", "node-1"]
        for name in names:
            await page.until(f"{healthy}.includes('{name}')", 60)
        await stage.see("reads/s", ".rates")
        await page.click("header button", "中文")
        await page.until("document.querySelector('h1').textContent === '架构'")
        assert page.problems == []

    stage.play(story)


def test_custom_resources_defined_while_the_page_is_open_are_listed_with_their_columns_and_edited(stage):
    group = "kitchen.example.com"
    text, number = {"type": "string"}, {"type": "integer", "description": "How many to pour."}
    properties = {"spec": {"type": "object", "properties": {"sort": text, "cups": number}}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
        "additionalPrinterColumns": [{"name": "Cups", "type": "integer", "jsonPath": ".spec.cups"}],
    }

    async def define(stage, kind):
        """Returns the resource, once it is served."""
        names = {"plural": f"{kind.lower()}s", "singular": kind.lower(), "kind": kind}
        spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
        definition = thing("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"{names['plural']}.{group}", "")
        await stage.create("customresourcedefinitions", {**definition, "spec": spec})
        resource = stage.cluster.client.resource(f"{group}/v1", names["plural"])
        async with asyncio.timeout(60):
            while True:
                try:
                    await resource.list("shop")
                    return resource
                except ApiError as error:
                    assert error.code == 404
                await asyncio.sleep(0.02)

    async def story(stage):
        page = await stage.log_in()
        teas = await define(stage, "Tea")
        await teas.create(thing(f"{group}/v1", "Tea", "morning", spec={"sort": "green", "cups": 2}))
        await stage.go(f"r/{group}/v1/teas?ns=shop")
        await page.until(f"{ROWS}.join() === 'morning'")
        await page.until("[...document.querySelectorAll('.rows th')].some(e => e.innerText.includes('Cups'))")
        await teas.create(thing(f"{group}/v1", "Tea", "evening", spec={"sort": "white", "cups": 7}))
        await page.until(f"{ROWS}.join() === 'evening,morning'")
        await stage.see("7", ".rows tbody")
        # The menu learns of new kinds when their part of it is opened.
        await define(stage, "Cake")
        await page.click("nav summary", "Custom and other")
        await page.until("[...document.querySelectorAll('nav a')].some(a => a.textContent === 'Cake')")

        await page.click(".rows a", "morning")
        await page.until("document.querySelector('h1').textContent === 'morning' && document.querySelector('main dl')")
        await page.click("[role=tab]", "YAML")
        await page.click("button", "Edit")
        before = await page.evaluate("document.querySelector('textarea').value")
        await page.fill("textarea", before.replace("cups: 2", "cups: many"))
        await stage.see("Must be: integer", ".wrong")
        await page.fill("textarea", before.replace("cups: 2", "cups: 3"))
        await page.click("button", "Check")
        await page.until(f"{DIFF}.includes('cups: 3')")
        await page.click("button", "Save")
        await page.until("document.querySelector('.done')")
        assert (await teas.get("morning", "shop"))["spec"] == {"sort": "green", "cups": 3}
        assert page.problems == []

    stage.play(story)


def test_five_thousand_pods_are_listed_found_scrolled_and_sorted_while_few_rows_exist(stage, capsys):
    async def story(stage):
        await stage.crowd(5000)
        page = await stage.log_in()
        began = await page.evaluate("location.hash = '#/r/core/v1/pods?ns=crowd', performance.now()")
        await page.until("/^5000/.test(document.querySelector('.count').textContent)", 60)
        drawn = await page.evaluate("performance.now()") - began
        assert await page.evaluate("document.querySelectorAll('.rows tr').length") < 100
        frames = await page.evaluate("""new Promise(resolve => {
            const box = document.querySelector('.rows');
            const start = performance.now();
            let count = 0;
            const step = () => {
                box.scrollTop += 200;
                count += 1;
                const passed = performance.now() - start;
                passed < 1000 ? requestAnimationFrame(step) : resolve(1000 * count / passed);
            };
            requestAnimationFrame(step);
        })""")
        with capsys.disabled():
            print(f"\n5,000 pods: {drawn / 1000:.2f} s to the drawn list, {frames:.0f} frames/s while scrolling")
        await page.evaluate("document.querySelector('.rows').scrollTop = 1e9")
        await page.until(f"{ROWS}.includes('p-4999')")
        # Fewer rows than were scrolled past: they are in sight all the same.
        await page.fill("input[placeholder^=Search]", "p-123")
        await page.until(f"{ROWS}.join() === [...Array(10).keys()].map(n => 'p-123' + n).join()")
        await page.click(".rows th button", "Name")
        await page.click(".rows th button", "Name")
        await page.until(f"{ROWS}[0] === 'p-1239'")

    stage.play(story)
