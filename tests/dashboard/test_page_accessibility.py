"""WCAG 2.2 AA by axe-core, the keyboard alone, a phone's width, and Chinese: on every kind of page, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

AXE = Path(__file__).parents[2] / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
TAGS = '["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]'
# [place, what is there once it is drawn]
PLACES = [
    ("overview", ".plot canvas"),
    ("r/apps/v1/deployments?ns=shop", ".rows tbody a"),
    ("topology?ns=shop", ".knot"),
    ("topology?ns=shop&view=policies", ".knot"),
    ("architecture", ".rates ul"),
    ("o/apps/v1/deployments/shop/web", ".tree"),
    ("o/apps/v1/deployments/shop/web?tab=revisions", "main table td"),
    ("o/core/v1/services/shop/front?tab=way", ".knot"),
    ("o/core/v1/nodes/-/node-0", "main table"),
]
WIDE = "document.documentElement.scrollWidth > innerWidth || document.querySelector('main').scrollWidth > innerWidth"


async def violations(page):
    told = await page.evaluate(
        f"""axe.run(document, {{runOnly: {TAGS}}}).then(r => r.violations.flatMap(v => v.nodes.map(n =>
        v.id + ': ' + n.target.join(' ') + ' ' + (n.any[0]?.message || '').slice(0, 160))))"""
    )
    return told


async def shown(stage, place, sign):
    await stage.go(place)
    await stage.page.until(f"document.querySelector({sign!r})", 60)


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: `npm ci` in frontend/ does")
def test_no_page_violates_wcag_aa_in_light_or_dark(stage):
    async def story(stage):
        found = []

        async def look(what):
            for scheme in ("light", "dark"):
                await page.prefer(scheme)
                found.extend(f"{what}, {scheme}: {one}" for one in await violations(page))

        page = await stage.open_login()
        await page.evaluate(AXE.read_text() + "; 1")
        await look("login")
        page = await stage.log_in()
        await page.evaluate(AXE.read_text() + "; 1")
        for place, sign in PLACES:
            await shown(stage, place, sign)
            await look(place)
        await shown(stage, "o/apps/v1/deployments/shop/web?tab=yaml", ".editor")
        await page.click("button", "Edit")
        await page.fill("textarea", "apiVersion: apps/v1\nkind: Deployment\nspek:\n  \n")
        await page.until("document.querySelector('.wrong')")
        await look("editor")
        await page.click(".actions button", "Scale")
        await look("dialog")
        await page.prefer("light")
        assert found == [], "\n".join(found)

    stage.play(story)


def test_the_keyboard_alone_logs_in_finds_an_object_and_opens_its_tabs(stage):
    async def story(stage):
        page = await stage.open_login()
        await page.evaluate("document.querySelector('input[name=token]').focus()")
        await page.type("admin-token")
        await page.press("Enter", 13, text="\r")
        await page.until("document.querySelector('.overview')")
        # The first stop leads past the menu.
        await page.evaluate("document.activeElement.blur()")
        await page.press("Tab", 9)
        await page.until("document.activeElement.classList.contains('skip')")
        await page.press("Enter", 13, text="\r")
        await page.until("document.activeElement.id === 'main'")

        await shown(stage, "r/apps/v1/deployments?ns=shop", ".rows tbody a")
        await page.press("/", 191, text="/")
        await page.until("document.activeElement.type === 'search'")
        await page.type("web 2/2")
        await page.until("document.querySelectorAll('.rows tbody a').length === 1")
        for _ in range(12):
            await page.press("Tab", 9)
            if await page.evaluate("document.activeElement.textContent === 'web'"):
                break
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", "the focus cannot be seen"
        await page.press("Enter", 13, text="\r")
        await page.until("document.querySelector('main dl')")
        await page.evaluate("document.querySelector('[role=tab][aria-selected=true]').focus()")
        await page.press("ArrowRight", 39)
        await page.until("document.activeElement.textContent === 'YAML' && document.querySelector('.editor')")
        # A dialog takes the focus and gives it back.
        await page.evaluate("[...document.querySelectorAll('button')].find(b => b.textContent === 'Scale').focus()")
        await page.press("Enter", 13, text="\r")
        await page.until("document.activeElement.closest('dialog')")
        await page.press("Escape", 27)
        await page.until("!document.querySelector('dialog') && document.activeElement.textContent === 'Scale'")

    stage.play(story)


def test_a_phones_width_needs_no_sideways_scrolling_of_the_page(stage):
    async def story(stage):
        page = await stage.log_in()
        await page.size(390, 844)
        try:
            for place, sign in PLACES:
                await shown(stage, place, sign)
                assert not await page.evaluate(WIDE), place
            await page.click(".menu-button")
            await page.until("document.querySelector('nav').classList.contains('open')")
            await page.click("nav a", "Overview")
            await page.until("!document.querySelector('nav').classList.contains('open')")
        finally:
            await page.size(1280)

    stage.play(story)


def test_in_chinese_nothing_of_the_pages_own_words_is_left_in_english(stage):
    async def story(stage):
        page = await stage.log_in(language="zh")
        elements = "main :is(h1, h2, th, dt, [role=tab], .actions button)"
        headings = f"[...document.querySelectorAll('{elements}')]"
        # Names of kinds and objects are everyone's; these pages have no others in these elements.
        own = {
            "YAML",
            "JSON",
            "web",
            "front",
            "node-0",
            "node-1",
            "DNS",
            "Ingress",
            "Pod",
            "NetworkPolicy",
            "Deployment",
        }
        for place, sign in PLACES:
            if place.startswith("r/"):
                continue
            await shown(stage, place, sign)
            words = await page.evaluate(f"{headings}.map(e => e.innerText.trim())")
            assert [w for w in words if w.isascii() and w and w not in own and w != "CPU"] == [], place

    stage.play(story)
