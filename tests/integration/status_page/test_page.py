"""The status page as a browser shows it. Skipped where there is no Chromium."""

from __future__ import annotations

import pytest
from support.stage.browser import Tab, open_browser
from support.stage.page_stage import FACTS, STRANGE, Stage, on_stage

from dyncdc.telemetry.status import TableFacts

pytestmark = pytest.mark.e2e

DRAWN = "document.body && document.body.dataset.drawn === 'yes'"
TEXT = "document.body.innerText"

CONTRAST = """
(() => {
  const numbers = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
  const back = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = numbers(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] > 0.99) return found;
    }
    return [255, 255, 255];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !element.checkVisibility() || element.tagName === "NOSCRIPT") continue;
    const [a, b] = [light(numbers(getComputedStyle(element).color)), light(back(element))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), walk.currentNode.data]);
  }
  return [found.length, ...found.sort((x, y) => x[0] - y[0])[0]];
})()
"""
"""How many texts there are, and of that with the least contrast the ratio. Source: WCAG 2.2, contrast ratio."""


async def drawn(tab: Tab, stage: Stage, *, width: int = 1200, dark: bool = False) -> str:
    """Open the page and wait until it has drawn something; return all its text."""
    await tab.open(stage.url, width=width, dark=dark)
    await tab.until(DRAWN)
    return str(await tab.get(TEXT))


async def test_all_parts_are_drawn_and_follow_what_happens_without_a_reload() -> None:
    async with on_stage() as stage, open_browser() as tab:
        stage.live()
        text = await drawn(tab, stage)
        for words in ("healthy", "62 %", "48,211,007", "shardId-000000000005", "None open.", "shop-changes"):
            assert words in text, words
        assert await tab.get("document.querySelectorAll('.card svg path').length") == 3 * len(FACTS)
        stage.suffer()
        with stage.progress.task("insert:orders") as task:
            task.waiting_for("ClickHouse")
            stage.clock.now += 75
            await tab.until("document.getElementById('state').textContent === 'stuck'")
        text = await tab.get(TEXT)
        for words in ("insert:orders has not moved", "number_range", "the position has expired", "grant dynamodb:Scan"):
            assert words in text, words
        assert "connection refused" in text and "48,211,007" in text, "what was known stays while ClickHouse is down"
        assert tab.complaints == []


async def test_a_selection_is_left_alone_until_it_is_given_up() -> None:
    async with on_stage() as stage, open_browser() as tab:
        stage.live(1)
        await drawn(tab, stage)
        await tab.get("getSelection().selectAllChildren(document.querySelector('h3'))")
        asked = "performance.getEntriesByType('resource').length"
        before = await tab.get(asked)
        await tab.get("window.heldTitle = document.querySelector('h3'), 0")
        await tab.until(f"{asked} > {before} + 1")
        assert await tab.get("window.heldTitle.isConnected && getSelection().toString()") == FACTS[0].table
        await tab.get("getSelection().removeAllRanges()")
        await tab.until("!window.heldTitle.isConnected")


async def test_names_never_become_markup() -> None:
    async with on_stage(TableFacts(STRANGE, STRANGE, STRANGE, "none", STRANGE)) as stage, open_browser() as tab:
        stage.live(2)
        stage.suffer()
        stage.metrics.fetched(STRANGE, STRANGE, stage.clock.now, 1.0, 2.0)
        stage.overview.recent_errors.add({"event": STRANGE, "level": "error", "error": STRANGE, "hint": STRANGE})
        text = await drawn(tab, stage)
        assert text.count(STRANGE) >= 10
        assert await tab.get("document.querySelectorAll('main img, main script').length") == 0
        assert await tab.get("document.title") == "shop - dyncdc"
        assert tab.complaints == [], "nothing was even tried"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_it_is_readable_on_a_phone_and_has_enough_contrast(dark: bool) -> None:
    async with on_stage() as stage, open_browser() as tab:
        stage.live(3)
        stage.suffer()
        await drawn(tab, stage, width=390, dark=dark)
        assert await tab.get("document.documentElement.scrollWidth <= innerWidth")
        with stage.progress.task("insert:orders"):
            stage.clock.now += 75
            await tab.until("document.getElementById('state').textContent === 'stuck'")
            assert "fix ClickHouse" in await tab.get(TEXT)
            texts, least, where = await tab.get(CONTRAST)
        assert texts > 100
        assert least >= 4.5, where
        nameless = "[...document.querySelectorAll('section, svg, table, [role=progressbar]')].filter((e) => "
        nameless += "!e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby')).length"
        assert await tab.get(nameless) == 0


async def test_it_says_when_the_daemon_is_gone_and_since_when() -> None:
    async with open_browser() as tab:
        async with on_stage() as stage:
            stage.live(1)
            await drawn(tab, stage)
        await tab.until("!document.getElementById('offline').hidden")
        assert "The daemon does not answer" in await tab.get(TEXT)
        assert "What you see is as of" in await tab.get(TEXT)
