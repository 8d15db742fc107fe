"""Logs of pods in a headless Chromium. What the simulated containers write is scripted, time stamps included."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.dashboard.browser import Page
from tests.dashboard.stage import thing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SHOWN = "document.querySelector('.logs pre').textContent.trim().split('\\n').join('|')"
SCRIPT = "simulated.peavine.io/"


def written(*lines: str) -> str:
    """A log; each line begins with the second of one minute at which it was written."""
    return "\n".join(f"2026-01-02T03:04:{line[:2]}.000000000Z{line[2:]}" for line in lines)


def talker(name: str, *, inits: tuple[str, ...] = (), **logs: str) -> dict:
    """A pod whose containers write these logs."""
    pod = thing("v1", "Pod", name)
    pod["metadata"]["annotations"] = {f"{container}.{SCRIPT}logs": log for container, log in logs.items()}
    containers = [{"name": container, "image": "i"} for container in logs]
    pod["spec"] = {
        "initContainers": [c for c in containers if c["name"] in inits],
        "containers": [c for c in containers if c["name"] not in inits],
    }
    return pod


async def open_logs(stage, name: str, once: str = "Ready\tTrue") -> None:
    """The tab with a pod's logs, once its page shows these words: by default that all its containers run."""
    await stage.go(f"o/core/v1/pods/shop/{name}")
    await stage.page.until(f"document.querySelector('h1').textContent === '{name}'")
    await stage.see(once)
    await stage.page.click("[role=tab]", "Logs")


async def download(page: Page, folder: Path) -> tuple[str, str]:
    """Name and content of what the button gives."""
    await page.click(".logs button", "Download")
    async with asyncio.timeout(60):
        name = await page.saved.get()
    return name, (folder / name).read_text()


def test_logs_of_all_containers_are_prefixed_coloured_and_in_order_of_time(stage):
    async def story(stage):
        page = await stage.log_in()
        await stage.create("pods", talker("pair", one=written("01 a", "04 d"), two=written("02 b", "03 c")))
        # More containers than the page keeps streams for: it asks them in turns.
        logs = {"setup": written("01 s"), "x": written("02 x", "06 late"), "y": written("04 y"), "z": written("03 z")}
        await stage.create("pods", talker("many", inits=("setup",), **logs))
        await open_logs(stage, "pair")
        await page.until(f"{SHOWN} === 'a|d'")
        await page.fill(".logs select", "*", "change")
        await page.until(f"{SHOWN} === '[one] a|[two] b|[two] c|[one] d'")
        tones = "[...document.querySelectorAll('.logs b')].map(b => b.className).join()"
        assert await page.evaluate(tones) == "tone-0,tone-1,tone-1,tone-0"
        await page.click(".logs label", "Timestamps")
        await page.until(f"{SHOWN}.startsWith('[one] 2026-01-02T03:04:01.000000000Z a|')")

        await open_logs(stage, "many")
        await page.fill(".logs select", "*", "change")
        await page.until(f"{SHOWN} === '[setup] s|[x] x|[z] z|[y] y|[x] late'")
        await page.fill(".logs input[type=search]", "late")
        await page.until(f"{SHOWN} === '[x] late'")
        assert page.problems == []

    stage.play(story)


def test_the_log_of_the_previous_container_is_shown_and_downloaded_and_who_has_none_is_named(stage, tmp_path):
    pod = talker("again", one=written("01 first life"), two=written("02 two"))
    # Only the life that begins after the change below is ever ready.
    first = {f"one.{SCRIPT}run-for": "0.1", f"one.{SCRIPT}exit-code": "1", f"one.{SCRIPT}ready-after": "never"}
    pod["metadata"]["annotations"] |= first
    pod["spec"]["containers"][0]["readinessProbe"] = {"exec": {"command": ["true"]}, "periodSeconds": 1}

    async def story(stage):
        page = await stage.log_in()
        await stage.create("pods", pod)
        # Its state changes too quickly to be seen; that it began again stays.
        await stage.go("o/core/v1/pods/shop/again")
        await page.until(r"/one · [1-9]\d* restarts/.test(document.querySelector('.timeline').innerText)", 60)
        await open_logs(stage, "again", once="")
        await page.until(f"{SHOWN} === 'first life'")
        second = dict.fromkeys(first) | {f"one.{SCRIPT}logs": written("03 second life")}
        pods = stage.cluster.client.resource("v1", "pods")
        await pods.patch("again", {"metadata": {"annotations": second}}, "shop")
        await stage.go("r/core/v1/pods?q=again")
        await stage.see("2/2", ".rows")
        await open_logs(stage, "again")
        await page.until(f"{SHOWN} === 'second life'")
        await page.click(".logs label", "Previous")
        await page.until(f"{SHOWN} === 'first life'")

        none = "two: previous terminated container"
        await page.fill(".logs select", "*", "change")
        await stage.see(none, ".problem")
        await page.until(f"{SHOWN} === '[one] first life'")
        await page.save_into(tmp_path)
        assert await download(page, tmp_path) == ("again-all.log", "[one] first life\n")
        await page.click(".logs label", "Previous")
        await page.until(f"{SHOWN} === '[two] two|[one] second life'")
        await page.until("!document.querySelector('.problem')")
        assert [p for p in page.problems if "400 (Bad Request)" not in p] == []

    stage.play(story)


def test_logs_are_downloaded_whole_of_one_container_or_of_all(stage, tmp_path):
    # More than the page shows.
    long = [f"{number // 100:02} line {number}" for number in range(5990)]

    async def story(stage):
        page = await stage.log_in()
        await stage.create("pods", talker("saved", long=written(*long), short=written("00 begin", "59 end")))
        await page.save_into(tmp_path)
        await open_logs(stage, "saved")
        await page.until(f"{SHOWN}.endsWith('line 5989')")
        name, text = await download(page, tmp_path)
        assert name == "saved-long.log" and text.splitlines() == [line[3:] for line in long]
        await page.fill(".logs select", "*", "change")
        await page.click(".logs label", "Timestamps")
        await page.until(f"{SHOWN}.endsWith('Z end')")
        name, text = await download(page, tmp_path)
        lines = text.splitlines()
        assert name == "saved-all.log" and len(lines) == 5992
        assert lines[0] == "[long] 2026-01-02T03:04:00.000000000Z line 0"
        assert lines[100] == "[short] 2026-01-02T03:04:00.000000000Z begin"
        assert lines[-1] == "[short] 2026-01-02T03:04:59.000000000Z end"
        assert page.problems == []

    stage.play(story)
