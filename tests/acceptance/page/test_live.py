"""What changes while it is looked at: the page goes on, and takes nothing away from whoever reads or presses."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.acceptance.conftest import Served, Service, serving
from tests.acceptance.page.conftest import Watched, draw_seven, scroll_to, settle, watched

BANNERED = (
    "addEventListener('DOMContentLoaded', () => new MutationObserver(() => (globalThis.bannered = true))"
    ".observe(document.querySelector('#away') ?? document, {childList: true}))"
)
"""Remembers that the page said once that the service is away."""


def told_to_wait(page: Page, address: str, times: int = 2) -> None:
    """From here on the service says so often that it was asked too much."""
    left = [times]

    def answer(route: Route) -> None:
        left[0] -= 1
        if left[0] < 0:
            route.continue_()
        else:
            problem = {"detail": "too many requests", "status": 429}
            route.fulfill(status=429, headers={"Retry-After": "1"}, json=problem)

    page.route(address, answer)


@pytest.mark.parametrize("list_", ["experiments", "sweeps"])
def test_a_list_that_was_told_to_wait_goes_on_afterwards(browser: Browser, idle: Served, list_: str) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open(f"#/{list_}")
        told_to_wait(page, f"**/{list_}?*")
        with page.expect_response(lambda answer: answer.status == 429):
            pass
        spec = {"base": {"activation": "relu", "depth": 1}, "seeds": 1, "name": "newcomer"}
        idle.http.post("/sweeps", json=spec).raise_for_status()
        expect(page.get_by_role("link", name="newcomer" if list_ == "sweeps" else "relu, depth 1")).to_be_visible()
        seen.forgive("429")


def test_a_filter_that_is_refused_is_told_beside_its_field_and_the_next_one_is_followed(
    browser: Browser, idle: Served
) -> None:
    idle.create(activation="relu", depth=1, name="first")
    with watched(browser, idle.url) as seen:
        page = seen.open()
        depth = page.get_by_label("Depth")
        depth.fill("99")
        depth.press("Enter")
        expect(page.locator("label", has=depth)).to_contain_text("less than or equal to 64")
        expect(page.get_by_role("table")).to_have_count(0)
        expect(page.get_by_text("1 experiment", exact=True)).to_have_count(0)
        depth.fill("1")
        depth.press("Enter")
        expect(page.get_by_role("link", name="first")).to_be_visible()
        expect(page.get_by_text("less than or equal to 64")).to_have_count(0)
        idle.create(activation="relu", depth=1, name="newcomer")
        expect(page.get_by_role("link", name="newcomer")).to_be_visible()
        seen.forgive("422")


def test_a_filter_that_is_no_number_is_told_and_changes_nothing(browser: Browser, idle: Served) -> None:
    idle.create(activation="relu", depth=1, name="first")
    with watched(browser, idle.url) as seen:
        page = seen.open()
        page.get_by_label("Depth").press_sequentially("1-1")
        page.get_by_label("Depth").press("Enter")
        expect(page.get_by_text("This is no number.")).to_be_visible()
        expect(page.get_by_role("link", name="first")).to_be_visible()
        page.get_by_label("Depth").fill("")
        page.get_by_label("Depth").press("Enter")
        expect(page.get_by_text("This is no number.")).to_have_count(0)


def test_a_row_of_a_long_table_that_another_window_deletes_goes_and_the_table_goes_on(
    browser: Browser, idle: Served
) -> None:
    asked = {"base": {"activation": "relu", "depth": 1}, "seeds": 210}
    idle.http.post("/sweeps", json=asked).raise_for_status()
    with watched(browser, idle.url) as seen:
        page = seen.open()
        rows = page.locator("tbody tr")
        scroll_to(page, 210)
        last = rows.last.locator("th a").get_attribute("href")
        assert last is not None
        address = last.removeprefix("#")
        held: list[Route] = []
        page.route(f"**{address}", lambda route: held.append(route))
        with page.expect_request(lambda one: one.url.endswith(address)):
            pass
        idle.http.post(f"{address}/cancel").raise_for_status()
        idle.http.delete(address).raise_for_status()
        page.unroute(f"**{address}")
        for route in held:
            route.continue_()
        expect(page.locator(f"tbody a[href='{last}']")).to_have_count(0)
        idle.create(activation="gelu", depth=5, name="newcomer")
        expect(rows.first).to_contain_text("newcomer")
        seen.forgive("404")


def test_without_a_stream_of_its_own_a_view_is_told_now_and_then(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path, "--no-worker", EPOCHD_MAX_STREAMS_PER_CALLER="1") as service:
        created = service.create(activation="relu", depth=1, name="waits")
        with (
            service.http.stream("GET", created["links"]["events"]),
            watched(browser, service.url) as seen,
        ):
            page = seen.page
            page.add_init_script(BANNERED)
            with page.expect_response(lambda answer: answer.url.endswith("/events") and answer.status == 429):
                seen.open(f"#/experiments/{created['id']}")
            service.http.post(created["links"]["cancel"]).raise_for_status()
            expect(page.locator("h1 + .badge")).to_have_text("cancelled")
            assert not page.evaluate("globalThis.bannered")
            seen.forgive("429")


def test_a_question_goes_with_the_view_that_asked_it(browser: Browser, idle: Served) -> None:
    created = idle.create(activation="relu", depth=1, name="kept")
    idle.http.post(created["links"]["cancel"]).raise_for_status()
    with watched(browser, idle.url) as seen:
        page = seen.open("#/sweeps")
        page.get_by_role("link", name="Experiments", exact=True).click()
        page.get_by_role("button", name="Delete: kept").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        page.go_back()
        expect(page.get_by_role("heading", name="Sweeps")).to_be_visible()
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert idle.get(created["id"])["status"] == "cancelled"


def test_a_deletion_without_an_answer_is_told_as_not_done(browser: Browser, idle: Served) -> None:
    created = idle.create(activation="relu", depth=1, name="kept")
    idle.http.post(created["links"]["cancel"]).raise_for_status()
    with watched(browser, idle.url) as seen:
        page = seen.open()
        page.route(f"**{created['links']['self']}", lambda route: route.abort())
        page.get_by_role("button", name="Delete: kept").click()
        page.get_by_role("button", name="Delete", exact=True).click()
        expect(page.get_by_text("No answer came, so this may not be done.")).to_be_visible()
        seen.forgive("net::ERR_FAILED")


def test_a_button_under_the_finger_is_not_replaced(browser: Browser, idle: Served) -> None:
    for name in ("one", "two"):
        idle.create(activation="relu", depth=1, name=name)
    with watched(browser, idle.url) as seen:
        page = seen.open()
        for name in ("one", "two"):
            page.get_by_role("checkbox", name=f"Pick {name}").check()
        page.get_by_role("link", name="Compare curves").focus()
        page.get_by_role("button", name="Clear").hover()
        page.mouse.down()
        refreshed(page)
        page.mouse.up()
        expect(page.get_by_role("region", name="Picked experiments")).to_be_hidden()
        expect(page.get_by_role("heading", name="Experiments")).to_be_focused()


def refreshed(page: Page) -> None:
    """The table has been asked for twice: what the first answer changed is shown."""
    for _ in range(2):
        with page.expect_response(lambda answer: "/experiments?" in answer.url):
            pass


def test_after_a_deletion_the_next_row_has_the_focus(browser: Browser, idle: Served) -> None:
    for name in ("below", "above"):
        created = idle.create(activation="relu", depth=1, name=name)
        idle.http.post(created["links"]["cancel"]).raise_for_status()
    with watched(browser, idle.url) as seen:
        page = seen.open()
        page.get_by_role("button", name="Delete: above").click()
        page.get_by_role("button", name="Delete", exact=True).click()
        expect(page.get_by_role("link", name="below")).to_be_focused()
        page.get_by_role("button", name="Delete: below").click()
        page.get_by_role("button", name="Delete", exact=True).click()
        expect(page.get_by_role("heading", name="Experiments")).to_be_focused()


def test_a_table_that_grows_keeps_its_place_and_the_focus(browser: Browser, trained: Service) -> None:
    created = trained.create(activation="selu", depth=1, epochs=1000, name="grows on")
    try:
        with watched(browser, trained.url, viewport={"width": 240, "height": 740}) as seen:
            page = seen.open(f"#/experiments/{created['id']}")
            page.get_by_text("Every epoch in numbers").click()
            numbers = page.get_by_role("region", name="Every epoch in numbers")
            expect(numbers.locator("tbody tr").first).to_be_visible()
            numbers.focus()
            assert numbers.evaluate("(one) => ((one.scrollLeft = 100), one.scrollLeft)") == 100
            grown(page, numbers)
            expect(numbers).to_be_focused()
            assert numbers.evaluate("(one) => one.scrollLeft") == 100
    finally:
        trained.http.post(created["links"]["cancel"]).raise_for_status()
        trained.until(created["id"], lambda body: body["finished_at"] is not None)
        trained.http.delete(created["links"]["self"]).raise_for_status()


def grown(page: Page, table: Locator) -> None:
    count = table.locator("tbody tr").count()
    page.wait_for_function("(count) => document.querySelectorAll('.scroll tbody tr').length > count", arg=count)


def test_what_another_window_deleted_cannot_be_repeated_here(browser: Browser, idle: Served) -> None:
    created = idle.create(activation="relu", depth=1, name="shared")
    idle.http.post(created["links"]["cancel"]).raise_for_status()
    with watched(browser, idle.url) as seen:
        page = seen.open(f"#/experiments/{created['id']}")
        expect(page.get_by_role("button", name="Repeat: shared")).to_be_visible()
        idle.http.delete(created["links"]["self"]).raise_for_status()
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # as whoever comes back to this window
        expect(page.get_by_text("shared is deleted.")).to_be_visible()
        expect(page.get_by_role("button", name="Repeat: shared")).to_have_count(0)
        seen.forgive("404")


def test_a_gradient_that_vanishes_is_still_a_number(seen: Watched, trained: Service) -> None:
    created = trained.create(activation="sigmoid", depth=12, epochs=1, name="vanishes")
    trained.succeeded(created["id"])
    page = seen.open(f"#/experiments/{created['id']}")
    page.get_by_text("Every epoch in numbers").click()
    ratio = trained.metrics(created["id"])["epochs"][0]["gradient_ratio"]
    assert 0 < ratio < 0.001
    shown = page.get_by_role("region", name="Every epoch in numbers").locator("tbody td").nth(5)
    assert float(shown.text_content() or "") == pytest.approx(ratio, rel=0.01)
    trained.http.delete(created["links"]["self"]).raise_for_status()


HELD = """(act) => {
  const { signal } = new AbortController();
  const held = new Set();
  signal.addEventListener = (type, listener) => held.add(listener);
  signal.removeEventListener = (type, listener) => held.delete(listener);
  return act(signal).then(() => held.size);
}"""


def test_a_view_that_asks_again_and_again_holds_nothing_of_what_is_over(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open()
        polled = """async (signal) => {
          const { poll } = await import("/assets/web/live.js");
          let left = 3;
          await poll(async () => (left-- ? 0 : null), signal);
        }"""
        assert page.evaluate(f"({HELD})({polled})") == 0
        asked = """async (signal) => {
          const { confirmed } = await import("/assets/web/dom.js");
          const answer = confirmed("Really?", "Yes", "No", signal);
          document.querySelector("dialog button").click();
          await answer;
        }"""
        assert page.evaluate(f"({HELD})({asked})") == 0


@pytest.mark.parametrize("view", ["experiments", "sweeps"])
def test_what_was_created_just_now_is_an_hour_old_an_hour_later(browser: Browser, idle: Served, view: str) -> None:
    asked = {"base": {"activation": "relu", "depth": 1}, "seeds": 1}
    sweep = idle.http.post("/sweeps", json=asked).raise_for_status().json()
    (member,) = idle.http.get(sweep["links"]["experiments"]).json()["data"]
    with watched(browser, idle.url) as seen:
        seen.page.clock.install()
        page = seen.open(f"#/{view}/{(member if view == 'experiments' else sweep)['id']}")
        expect(page.locator("time")).to_contain_text(re.compile("sec|now"))
        page.clock.fast_forward("01:00:00")
        expect(page.locator("time")).to_have_text(re.compile(r"^1 hr\.? ago$"))


def refused(page: Page, address: str, kind: str, detail: str) -> None:
    """From here on the service says that it cannot give this now, and why."""
    problem = {"type": f"urn:epochd:problem:{kind}", "status": 503, "detail": detail}
    answer = {"status": 503, "content_type": "application/problem+json", "body": json.dumps(problem)}
    page.route(address, lambda route: route.fulfill(**answer))


def test_a_model_that_cannot_be_read_is_no_service_that_is_away(seen: Watched, models: dict[str, str]) -> None:
    seen.page.add_init_script(BANNERED)
    page = seen.open(f"#/draw?model={models['able']}")
    refused(page, "**/predict?*", "blob-corrupt", "the model's file is gone or damaged: retrain it")
    draw_seven(page)
    expect(page.get_by_role("alert").first).to_have_text("the model's file is gone or damaged: retrain it")
    assert not page.evaluate("globalThis.bannered")
    seen.forgive("503")


def test_a_figure_that_cannot_be_had_says_why_and_is_asked_for_once(seen: Watched, models: dict[str, str]) -> None:
    seen.page.add_init_script(BANNERED)
    refused(seen.page, "**/figures/gallery", "dataset-unavailable", "the dataset mnist could not be had")
    page = seen.open(f"#/experiments/{models['able']}")
    expect(page.get_by_role("alert")).to_have_text("the dataset mnist could not be had")
    assert not page.evaluate("globalThis.bannered")
    assert sum(url.endswith("/figures/gallery") for url in seen.asked) == 1
    seen.forgive("503")


def test_what_a_full_disk_refuses_is_told_with_its_reason(browser: Browser, idle: Served) -> None:
    created = idle.create(activation="relu", depth=1, name="kept")
    with watched(browser, idle.url) as seen:
        seen.page.add_init_script(BANNERED)
        page = seen.open()
        full = "the database cannot be used now: its disk is full"
        refused(page, f"**{created['links']['cancel']}", "unavailable", full)
        page.get_by_role("button", name="Cancel: kept").click()
        expect(page.get_by_role("alert")).to_have_text(full)
        page.get_by_role("link", name="New experiment").click()
        page.get_by_label("Activation").select_option("relu")
        page.get_by_label("Depth").fill("2")
        refused(page, f"{idle.url}/experiments", "unavailable", full)
        page.get_by_role("button", name="Train").click()
        expect(page.get_by_role("alert")).to_have_text(full)
        assert not page.evaluate("globalThis.bannered")
        seen.forgive("503")


@pytest.mark.parametrize("kind", ["unavailable", "schema-out-of-date", None])
def test_a_service_without_its_database_is_away_and_so_is_one_that_a_proxy_cannot_reach(
    browser: Browser, idle: Served, kind: str | None
) -> None:
    idle.create(activation="relu", depth=1, name="first")
    with watched(browser, idle.url) as seen:
        page = seen.open("#/sweeps")
        for address in ("**/experiments?*", "**/health/ready"):
            if kind:
                refused(page, address, kind, "the database cannot be used now: it cannot be reached")
            else:
                page.route(address, lambda route: route.fulfill(status=502, body="Bad Gateway"))
        page.get_by_role("link", name="Experiments", exact=True).click()
        expect(page.locator("#away")).to_contain_text("The service does not answer.")
        page.unroute_all()
        expect(page.get_by_role("link", name="first")).to_be_visible()
        expect(page.locator("#away")).to_be_empty()
        seen.forgive("503" if kind else "502")


@pytest.fixture(scope="module")
def finished(trained: Service, models: dict[str, str]) -> dict[str, str]:
    """Views with figures, which change no more."""
    asked = {"base": {"epochs": 1, "activation": "relu"}, "grid": {"depth": [1, 2]}, "seeds": 1}
    sweep = trained.http.post("/sweeps", json=asked).raise_for_status().json()
    for one in trained.http.get(sweep["links"]["experiments"]).json()["data"]:
        trained.succeeded(one["id"])
    able = models["able"]
    return {
        "sweep": f"#/sweeps/{sweep['id']}",
        "experiment": f"#/experiments/{able}",
        "comparison": f"#/compare?ids={able}",
    }


@pytest.mark.parametrize(
    ("view", "lost"), [("sweep", "figures/*"), ("sweep", "plotly.min.js"), ("comparison", "plotly.min.js")]
)
def test_a_figure_that_was_lost_comes_when_the_service_is_back(
    seen: Watched, finished: dict[str, str], view: str, lost: str
) -> None:
    page = seen.page
    for address in (f"**/{lost}", "**/health/ready"):
        page.route(address, lambda route: route.abort())
    seen.open(finished[view])
    expect(page.locator("#away")).to_contain_text("The service does not answer.")
    page.unroute_all()
    expect(page.locator("#away")).to_be_empty()
    settle(page)
    expect(page.locator(".figure [role=alert]")).to_have_count(0)
    seen.forgive("net::ERR_")


def test_each_figure_is_asked_for_once_more_when_the_service_is_back(seen: Watched, finished: dict[str, str]) -> None:
    page = seen.page
    for address in ("**/figures/gallery", "**/health/ready"):
        page.route(address, lambda route: route.abort())
    seen.open(finished["experiment"])
    expect(page.locator("#away")).to_contain_text("The service does not answer.")
    page.unroute_all()
    settle(page)
    expect(page.locator("#away")).to_be_empty()
    assert sum(url.endswith("/figures/gallery") for url in seen.asked) == 2
    assert sum(url.endswith("/figures/confusion-matrix") for url in seen.asked) == 1
    seen.forgive("net::ERR_")
