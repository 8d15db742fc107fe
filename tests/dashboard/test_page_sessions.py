"""Logging in, and what keeps a session safe, in a headless Chromium against a cluster."""

from __future__ import annotations

import asyncio

import pytest
import yaml

from peavine.client import load_kubeconfig
from tests.dashboard.stage import BUTTONS, ROWS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_a_wrong_token_is_refused_and_a_client_certificate_logs_in(stage):
    async def story(stage):
        page = await stage.open_login()
        await page.fill("input[name=token]", "wrong")
        await page.click("button.primary")
        await stage.see("does not accept", ".problem")
        admin = await asyncio.to_thread(load_kubeconfig, stage.cluster.kubeconfig)
        await page.click("[role=tab]", "Client certificate")
        await page.fill("textarea[name=certificate]", admin.certificate)
        await page.fill("textarea[name=key]", admin.certificate)
        await page.click("button.primary")
        await stage.see("do not fit", ".problem")
        await page.fill("textarea[name=key]", admin.key)
        await page.click("button.primary")
        await page.until("document.querySelector('.overview')")
        assert "kubernetes-admin" in await page.evaluate("document.querySelector('.user').textContent")

    stage.play(story)


def test_a_kubeconfig_file_is_uploaded_and_its_server_does_not_matter(stage, tmp_path):
    doc = yaml.safe_load(stage.cluster.kubeconfig.read_text())
    doc["clusters"][0]["cluster"]["server"] = "https://192.0.2.1:6443"
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(doc))

    async def story(stage):
        page = await stage.open_login()
        await page.click("[role=tab]", "Kubeconfig")
        await page.upload("input[type=file]", file)
        await page.until("document.querySelector('textarea[name=kubeconfig]').value.includes('192.0.2.1')")
        await page.click("button.primary")
        await page.until("document.querySelector('.overview')")
        await page.click("header button", "Log out")
        await page.until("document.querySelector('.login')")
        await page.open(stage.address + "/?again")
        await page.until("document.querySelector('.login')")

    stage.play(story)


def test_scripts_cannot_read_the_cookie_nor_change_anything_without_the_csrf_token(stage):
    async def story(stage):
        page = await stage.log_in()
        assert await page.evaluate("document.cookie") == ""
        [cookie] = (await page.send("Network.getCookies", urls=[stage.address + "/api"]))["cookies"]
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
        made = """fetch('/api/k8s/api/v1/namespaces/shop/configmaps', {method: 'POST', headers: {'content-type':
            'application/json', HEADER}, body: JSON.stringify({metadata: {name: 'forged'}})}).then(a => a.status)"""
        assert await page.evaluate(made.replace("HEADER", "")) == 403
        assert await page.evaluate(made.replace("HEADER", "'x-peavine-csrf': 'guessed'")) == 403
        names = [m["metadata"]["name"] for m in (await stage.cluster.get("/api/v1/configmaps"))["items"]]
        assert "forged" not in names

    stage.play(story)


def test_the_content_security_policy_lets_no_foreign_script_run_and_nothing_be_sent_away(stage):
    async def story(stage):
        page = await stage.log_in()
        blocked = """new Promise(resolve => {
            addEventListener('securitypolicyviolation', e => resolve(e.effectiveDirective), {once: true});
            %s
        })"""
        inline = (
            "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);"
        )
        assert await page.evaluate(blocked % inline) == "script-src-elem"
        assert await page.evaluate("window.ran === undefined")
        assert await page.evaluate(blocked % "fetch('https://192.0.2.1/').catch(() => 0)") == "connect-src"
        picture = "const i = new Image(); i.src = 'https://192.0.2.1/x.png';"
        assert await page.evaluate(blocked % picture) == "img-src"
        form = (
            "const f = document.createElement('form'); f.action = '/api/logout'; document.body.append(f); f.submit();"
        )
        assert await page.evaluate(blocked % form) == "form-action"

    stage.play(story)


def test_a_read_only_dashboard_draws_no_button_that_changes_anything(stage):
    async def story(stage):
        page = await stage.log_in(address=stage.read_only_address)
        await stage.see("Read-only", "header")
        await stage.go("o/apps/v1/deployments/shop/web")
        await stage.see("Owner tree")
        assert await page.evaluate(BUTTONS) == []
        await page.click("[role=tab]", "YAML")
        await page.until("document.querySelector('.editor')")
        assert await page.evaluate(BUTTONS) == ["YAML", "JSON"]
        await stage.go("r/core/v1/pods?ns=shop")
        await page.until(f"{ROWS}.some(n => n.startsWith('web-'))")
        await page.click(".rows a", "web-")
        await stage.see("Restarts and probes")
        tabs = "[...document.querySelectorAll('main [role=tab]')].map(b => b.textContent).join()"
        await page.until(f"{tabs} === 'Summary,YAML,Logs'")
        # And a script that asks all the same is refused.
        status = """fetch('/api/session').then(a => a.json()).then(told => fetch(
            '/api/k8s/api/v1/namespaces/shop/pods', {method: 'DELETE', headers: {'x-peavine-csrf': told.csrf}}))
            .then(a => a.status)"""
        assert await page.evaluate(status) == 403

    stage.play(story)


def test_who_may_only_view_sees_no_button_that_fails(stage):
    """Every button in sight is pressed, on every kind of page; not one request is refused."""
    places = [
        "overview",
        "topology?ns=shop",
        "topology?ns=shop&view=policies",
        "architecture",
        "o/apps/v1/deployments/shop/web",
        "o/apps/v1/statefulsets/shop/db",
        "o/core/v1/services/shop/front",
        "o/batch/v1/cronjobs/shop/nightly",
    ]
    buttons = "[...document.querySelectorAll('main button:not(:disabled)')]"

    async def story(stage):
        page = await stage.log_in("viewer-token")
        pods = (await stage.cluster.get("/api/v1/namespaces/shop/pods"))["items"]
        web = next(p["metadata"]["name"] for p in pods if p["metadata"]["name"].startswith("web-"))
        for place in [*places, f"o/core/v1/pods/shop/{web}"]:
            await stage.go(place)
            await page.until("document.querySelector('main h1')")
            tabs = await page.evaluate("document.querySelectorAll('main [role=tab]').length")
            if place.startswith("o/"):
                await page.until("document.querySelector('main dl')")
                assert await page.evaluate(BUTTONS) == []
                tabs = await page.until("document.querySelectorAll('main [role=tab]').length")
            pressed = set()
            for _ in range(12 + tabs):
                fresh = await page.evaluate(f"{buttons}.map(b => b.textContent)")
                left = [words for words in fresh if words not in pressed]
                if not left:
                    break
                pressed.add(left[0])
                await page.evaluate(f"{buttons}.find(b => b.textContent === {left[0]!r})?.click()")
                await page.until("document.querySelector('main').innerText.length > 0")
            assert not pressed & {"Edit", "Delete", "Scale", "Restart", "Roll back", "Suspend", "Trigger", "Drain"}
        # The simulated kubelet has no logs of a container that writes none; that is no refusal.
        assert page.refused == []
        await stage.go("r/core/v1/secrets")
        await stage.see("cannot list resource", ".problem")

    stage.play(story)
