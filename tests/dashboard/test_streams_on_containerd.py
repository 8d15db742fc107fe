"""Logs and a shell in the page, of a container that really runs."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from pathlib import Path

import pytest

from peavine.client import ClientConfig, load_kubeconfig
from tests.dashboard.browser import PROGRAM, browser
from tests.dashboard.serving import serving

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed: the page is not tested in a browser"),
]
SCRIPT = "n=0; while true; do n=$((n+1)); echo line $n; busybox sleep 0.2; done"


@pytest.fixture(scope="module")
def node():
    from tests.kubelet.node import TestNode, usable

    why = usable()
    if why:
        pytest.skip(why)
    directory = Path(tempfile.mkdtemp(prefix="pvd-", dir="/tmp"))
    node = TestNode(directory, random.randrange(211, 240))
    try:
        node.start()
        node.create(node.pod("talker", {"command": ["busybox", "sh", "-c", SCRIPT]}))
        pods = node.client.resource("v1", "pods")
        node.until(
            lambda: node.run(pods.get("talker", "default")),
            lambda pod: pod.get("status", {}).get("phase") == "Running",
            "the pod runs",
        )
        yield node
    finally:
        node.stop()
        shutil.rmtree(directory, ignore_errors=True)


def test_logs_follow_and_a_shell_answers(node):
    async def story():
        given = load_kubeconfig(node.directory / "admin.kubeconfig")
        text = (node.directory / "admin.kubeconfig").read_text()
        async with serving(ClientConfig(given.server, given.ca)) as served, browser() as page:
            await page.open(served.base)
            await page.click("[role=tab]", "Kubeconfig")
            await page.fill("textarea", text)
            await page.click("button.primary")
            await page.until("document.querySelector('.overview')")
            await page.evaluate("location.hash = '#/o/core/v1/pods/default/talker'")

            await page.click("[role=tab]", "Logs")
            lines = "document.querySelector('.logs pre').textContent.split('\\n')"
            before = await page.until(f"{lines}[0] === 'line 1' && {lines}.length")
            await page.until(f"{lines}.length > {before} + 3")
            await page.fill(".logs input[type=search]", "line 1")
            await page.until(f"{lines}.every(l => l.includes('line 1'))")

            await page.click("[role=tab]", "Shell")
            await page.fill(".shell input", "busybox sh")
            await page.click("button", "Connect")
            await page.until("document.querySelector('[role=status]').textContent.includes('connected')")
            screen = "document.querySelector('.xterm-rows').textContent"
            await page.until(f"/[#$] *$/.test({screen}.trim())")
            for key in "echo $((6*7))-$(busybox stty size | busybox tr ' ' x)":
                await page.send("Input.insertText", text=key)
            await page.send("Input.dispatchKeyEvent", type="rawKeyDown", key="Enter", windowsVirtualKeyCode=13)
            await page.send("Input.dispatchKeyEvent", type="char", key="Enter", text="\r")
            await page.send("Input.dispatchKeyEvent", type="keyUp", key="Enter", windowsVirtualKeyCode=13)
            # The terminal's size came through as well: it is not the usual 24 rows.
            await page.until(f"/42-[1-9]\\d*x[1-9]\\d*/.test({screen})")
            assert page.problems == []

    asyncio.run(story())
