"""How the page looks where it is looked at in another way: in narrow and low windows, in few colours, on paper."""

from typing import Any

import pytest
from playwright.sync_api import Browser, FloatRect, Locator, Route, expect

from tests.acceptance.conftest import Served, Service
from tests.acceptance.page.conftest import Watched, draw_seven, settle, watched

PHONE = {"width": 360, "height": 740}


def box(one: Locator) -> FloatRect:
    found = one.bounding_box()
    assert found is not None
    return found


def below(upper: Locator, lower: Locator) -> float:
    """How far one stands below the other."""
    first = box(upper)
    return box(lower)["y"] - first["y"] - first["height"]


def style(one: Locator, name: str, pseudo: str | None = None) -> str:
    found: str = one.evaluate(
        "(one, [name, pseudo]) => getComputedStyle(one, pseudo).getPropertyValue(name)", [name, pseudo]
    )
    return found


@pytest.fixture
def sweep(idle: Served) -> str:
    asked = {"base": {"activation": "relu"}, "grid": {"depth": [1, 2]}, "seeds": 2, "name": "looked at"}
    created: dict[str, Any] = idle.http.post("/sweeps", json=asked).raise_for_status().json()
    return f"#/sweeps/{created['id']}"


def test_nothing_sticks_to_what_it_stands_under(browser: Browser, idle: Served, sweep: str) -> None:
    created = idle.create(activation="relu", depth=1)
    with watched(browser, idle.url) as seen:
        page = seen.open("#/sweeps/new")
        assert below(page.locator("h1"), page.locator("h1 + p")) > 4
        page = seen.open(sweep)
        expect(page.locator("section tbody tr").first).to_be_visible()
        assert below(page.locator("section div.scroll").first, page.locator("section details > summary")) > 8
        page = seen.open(f"#/experiments/{created['id']}")
        assert below(page.get_by_role("button", name="Metrics (CSV)"), page.get_by_text("From a terminal")) > 8


def failed(route: Route) -> None:
    answer = route.fetch().json()
    for one in answer["data"]:
        one["status"], one["error"] = "failed", {"code": "diverged", "message": "the loss is no number " * 8}
    route.fulfill(json=answer)


LINES = """(one) => {
  const range = document.createRange();
  range.selectNodeContents(one);
  return range.getClientRects().length;
}"""


def test_when_an_experiment_was_created_stands_in_one_line(browser: Browser, idle: Served) -> None:
    idle.create(activation="relu", depth=1, name="an experiment with a name that is not short " * 4)
    with watched(browser, idle.url, locale="ja-JP", viewport={"width": 1280, "height": 800}) as seen:
        seen.page.route("**/experiments?*", failed)
        page = seen.open()
        expect(page.locator("tbody .badge")).to_have_class("badge failed")
        assert page.locator("td.faint").evaluate(LINES) == 1


def test_the_whole_name_of_a_key_is_read(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url, viewport=PHONE) as seen:
        page = seen.open()
        who = page.locator("#who")
        who.evaluate("(who) => (who.textContent = 'a key for the nightly sweeps of the ' + 'W'.repeat(64))")
        assert who.evaluate("(who) => who.scrollWidth <= who.clientWidth && who.scrollHeight <= who.clientHeight")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize(("locale", "width"), [("en-GB", 360), ("ja-JP", 360), ("en-GB", 640), ("en-GB", 240)])
def test_an_experiment_is_cancelled_and_deleted_in_a_narrow_window(
    browser: Browser, idle: Served, locale: str, width: int
) -> None:
    for name in ("upper", "lower"):
        idle.create(activation="relu", depth=1, name=name, tags=["some", "tags"])
    with watched(browser, idle.url, locale=locale, viewport={"width": width, "height": 740}) as seen:
        page = seen.open()
        rows = page.locator("tbody tr")
        expect(rows).to_have_count(2)
        for row in rows.all():
            expect(row.get_by_role("cell")).to_have_count(5)
            acts = row.locator(".acts button").first
            assert below(row.locator("th > *").last, acts) >= 0
            assert box(acts)["y"] + box(acts)["height"] <= box(row)["y"] + box(row)["height"]
            expect(row.locator("td.faint")).to_be_visible()
        rows.first.locator(".acts button").click()
        expect(rows.first.locator(".badge")).to_have_class("badge cancelled")
        expect(rows.first.locator(".acts button")).to_have_count(2)
        rows.first.locator(".acts .danger").click()
        page.locator("dialog .danger").click()
        expect(rows).to_have_count(1)
        assert width < 300 or page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("viewport", [{"width": 320, "height": 256}, {"width": 1000, "height": 600}])
def test_what_has_the_focus_is_not_under_the_picked_ones(browser: Browser, idle: Served, viewport: Any) -> None:
    for number in range(12):
        idle.create(activation="relu", depth=1, name=f"number {number}")
    with watched(browser, idle.url, viewport=viewport) as seen:
        page = seen.open()
        expect(page.locator("tbody tr")).to_have_count(12)
        page.locator("tbody input").first.check()
        expect(page.locator(".picks")).to_be_visible()
        for _ in range(30):
            page.keyboard.press("Tab")
            assert page.evaluate(UNCOVERED), page.evaluate("document.activeElement.outerHTML")


UNCOVERED = """() => {
  const one = document.activeElement;
  const bar = document.querySelector('.picks');
  const { top, bottom } = one.getBoundingClientRect();
  return bar.contains(one) || bottom <= bar.getBoundingClientRect().top || top >= bar.getBoundingClientRect().bottom;
}"""


def test_few_colours_show_all_there_is(seen: Watched, models: dict[str, str]) -> None:
    seen.page.emulate_media(forced_colors="active")
    page = seen.open(f"#/draw?model={models['able']}")
    draw_seven(page)
    best = page.locator(".best .fill")
    expect(best).to_be_visible()
    assert style(best, "background-color") != style(page.locator(".best .track"), "background-color")
    assert style(page.locator(".track").first, "border-top-width") == "1px"
    current, other = page.locator("nav a[aria-current]"), page.locator("nav a:not([aria-current])").first
    assert style(current, "border-color") != style(other, "border-color")
    assert "underline" in style(current, "text-decoration")
    page = seen.open(f"#/experiments/{models['able']}")
    bar = page.locator(".progress progress")
    assert style(bar, "border-top-width") == "1px"
    dot = style(page.locator("h1 + .badge"), "background-color", "::before")
    assert dot != style(page.locator("h1 + .badge"), "background-color")
    current.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert style(current, "outline-style") == "solid"


OVERLAPPING = """() => {
  const all = [...document.querySelectorAll('.view > *:not(.figures), .figures > *')];
  const parts = all.filter((one) => one.offsetHeight);
  const bottom = (one) => one.getBoundingClientRect().bottom;
  const ends = (one) => Math.max(bottom(one), ...[...one.querySelectorAll('svg')].map(bottom));
  return parts.slice(1)
    .filter((one, at) => ends(parts[at]) > one.getBoundingClientRect().top + 1)
    .map((one) => one.className);
}"""
"""Parts of a view over which another one lies: also what stands out of it."""


def test_on_paper_stands_what_is_to_be_read(browser: Browser, trained: Service, models: dict[str, str]) -> None:
    with watched(browser, trained.url, color_scheme="dark", viewport={"width": 1280, "height": 900}) as seen:
        page = seen.open(f"#/experiments/{models['able']}")
        page.get_by_role("button", name="Light colours").click()
        page.get_by_role("button", name="Dark colours").click()
        expect(page.locator(".figure")).to_have_count(4)
        settle(page)
        page.emulate_media(media="print")
        for hidden in ("nav", ".tools", "footer", ".view button", ".view .button"):
            for one in page.locator(hidden).all():
                expect(one).to_be_hidden()
        assert style(page.locator("html"), "background-color") == "rgb(255, 255, 255)"
        words = page.locator(".drawn").locator(".xtick text, .y2tick text, .x2title, .ytitle, .annotation-text")
        fills = words.evaluate_all("all => all.map((one) => getComputedStyle(one).fill)")
        assert set(fills) == {style(page.locator("h1"), "color")}
        assert page.evaluate(OVERLAPPING) == []
        assert page.pdf().startswith(b"%PDF")

        page.emulate_media(media="screen")
        page = seen.open("#/experiments")
        expect(page.locator("tbody tr").first).to_be_visible()
        page.emulate_media(media="print")
        for hidden in (".filters", ".view .button", ".acts button", "tbody input"):
            expect(page.locator(hidden).first).to_be_hidden()
        expect(page.get_by_role("columnheader", name="Test accuracy")).to_be_visible()
