"""What holds for every view: languages, colours, phones, keyboards, screen readers, no internet, a restart."""

import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Response, Route, expect

from tests.acceptance.conftest import Served, Service, serving
from tests.acceptance.page.conftest import data_folder, points, scroll_to, settle, until_points, watched

WEB = Path(__file__).parents[3] / "service" / "web"
MOST_BYTES = 150_000
PHONE = {"viewport": {"width": 360, "height": 740}}


@pytest.fixture(scope="module")
def views(trained: Service, models: dict[str, str]) -> dict[str, str]:
    """Every view, with something to see in it."""
    asked = {"base": {"epochs": 1, "activation": "relu"}, "grid": {"depth": [1, 2]}, "seeds": 2, "name": "views"}
    sweep = trained.http.post("/sweeps", json=asked).raise_for_status().json()
    members = trained.http.get(sweep["links"]["experiments"]).json()["data"]
    for one in members:
        trained.succeeded(one["id"])
    ids = ",".join(models.values())
    return {
        "experiments": "#/experiments",
        "experiment": f"#/experiments/{models['able']}",
        "new experiment": "#/experiments/new",
        "comparison": f"#/compare?ids={ids}",
        "sweeps": "#/sweeps",
        "sweep": f"#/sweeps/{sweep['id']}",
        "new sweep": "#/sweeps/new",
        "draw": f"#/draw?model={ids}",
    }


LINES = "one => one.getBoundingClientRect().height / parseFloat(getComputedStyle(one).lineHeight)"


def unfold(page: Page) -> None:
    """Every figure drawn, and every detail open."""
    settle(page)
    page.evaluate("() => document.querySelectorAll('details').forEach((one) => (one.open = true))")


def test_no_view_scrolls_sideways_on_a_phone(browser: Browser, trained: Service, views: dict[str, str]) -> None:
    for locale in ("en-GB", "ja-JP"):
        with watched(browser, trained.url, locale=locale, **PHONE) as seen:
            for name, page in zip(views, seen.each(views.values()), strict=True):
                unfold(page)
                assert page.evaluate("document.documentElement.scrollWidth") <= 360, (name, locale)


def test_axe_finds_no_serious_fault_in_light_and_dark(
    browser: Browser, trained: Service, views: dict[str, str], axe: str
) -> None:
    with watched(browser, trained.url, color_scheme="light") as seen:
        for name, page in zip(views, seen.each(views.values()), strict=True):
            unfold(page)
            page.evaluate(axe)
            assert serious_faults(page) == [], name
            page.emulate_media(color_scheme="dark")
            settle(page)
            assert serious_faults(page) == [], (name, "dark")
            page.emulate_media(color_scheme="light")


def serious_faults(page: Page) -> list[tuple[str, list[str]]]:
    return [
        (one["id"], [node["html"][:200] for node in one["nodes"]])
        for one in page.evaluate("axe.run()")["violations"]
        if one["impact"] in {"serious", "critical"}
    ]


def test_everything_can_be_done_by_keyboard(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        tab_to(page, "New experiment")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="New experiment")).to_be_focused()
        tab_to(page, "", name="activation")
        page.keyboard.type("relu")
        tab_to(page, "", name="depth")
        page.keyboard.type("2")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="relu, depth 2")).to_be_focused()
        tab_to(page, "Cancel")
        page.keyboard.press("Enter")
        expect(page.locator("h1 + .badge")).to_have_text("cancelled")
        tab_to(page, "Delete")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Keep")).to_be_focused()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_text("Nothing has been trained yet.")).to_be_visible()


def tab_to(page: Page, text: str, name: str = "") -> None:
    """Press Tab until what has this text, or this name in a form, has the focus."""
    focus = "[document.activeElement.textContent, document.activeElement.getAttribute('name')]"
    for _ in range(60):
        page.keyboard.press("Tab")
        found, field = page.evaluate(focus)
        if (name and field == name) or (text and found == text):
            return
    pytest.fail(f"Tab never comes to {text or name}")


def test_the_reader_s_language_is_spoken_and_can_be_changed(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url, locale="ja-JP") as seen:
        page = seen.open()
        expect(page.get_by_role("heading", name="実験")).to_be_visible()
        assert page.evaluate("document.documentElement.lang") == "ja"
        page.get_by_role("button", name="English").click()
        expect(page.get_by_role("heading", name="Experiments")).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", name="Experiments")).to_be_visible()


def test_that_the_service_is_away_is_said_in_the_language_that_is_chosen(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open("#/sweeps")
        page.route(f"{idle.url}/**", lambda route: route.abort("connectionrefused"))
        expect(page.locator("#away")).to_contain_text("The service does not answer.")
        page.get_by_role("button", name="日本語").click()
        expect(page.locator("#away")).to_contain_text("サービス")
        page.unroute_all()
        expect(page.locator("#away")).to_be_empty()
        seen.forgive("net::ERR_")


def test_both_languages_have_all_words(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open()
        words = {
            name: page.evaluate(f"import('/assets/web/i18n/{name}.js').then((one) => one.default)")
            for name in ("en", "ja")
        }
    fields = idle.http.get("/openapi.json").json()["components"]["schemas"]["Spec"]["properties"]
    hints = {f"hint.{name}" for name in [*fields, "seeds"]}  # in English they are the API's own
    assert set(words["ja"]) - hints == set(words["en"])
    assert hints <= set(words["ja"])
    assert {f"field.{name}" for name in fields} <= set(words["en"])
    for name in words["en"]:
        english, japanese = (set(re.findall(r"{(\w+)}", str(words[one][name]))) for one in ("en", "ja"))
        assert english == japanese, name
    code = "".join(path.read_text() for path in [*WEB.glob("*.js"), *WEB.glob("views/*.js"), WEB / "index.html"])
    unused = [name for name in words["en"] if "." not in name and f'"{name}"' not in code]
    assert unused == []


def test_colours_follow_the_system_and_a_switch(browser: Browser, idle: Served) -> None:
    colour = "() => getComputedStyle(document.documentElement).backgroundColor"
    with watched(browser, idle.url, color_scheme="dark") as seen:
        page = seen.open()
        dark = page.evaluate(colour)
        page.get_by_role("button", name="Light colours").click()
        light = page.evaluate(colour)
        page.reload()
        expect(page.get_by_role("button", name="Dark colours")).to_be_visible()
        assert page.evaluate(colour) == light != dark


def test_the_first_view_is_light_and_plotly_comes_with_the_first_figure(
    browser: Browser, trained: Service, models: dict[str, str]
) -> None:
    with watched(browser, trained.url) as seen:
        answers: list[Response] = []
        seen.page.on("response", lambda answer: answers.append(answer))
        page = seen.open()
        expect(page.locator("tbody tr").first).to_be_visible()
        assets = [one for one in answers if one.url == f"{seen.url}/" or "/assets/web/" in one.url]
        assert len(assets) > 5
        assert sum(len(one.body()) for one in assets) < MOST_BYTES
        assert not any("plotly" in url for url in seen.asked)
        page.get_by_role("link", name="able").click()
        until_points(page, 1)
        assert sum("plotly.min.js" in url for url in seen.asked) == 1


def test_every_view_works_without_the_internet(browser: Browser, trained: Service, views: dict[str, str]) -> None:
    with watched(browser, trained.url) as seen:
        # Whatever is not of this origin would fail, as it does without a network; `watched` tells of the attempt.
        seen.page.context.route(lambda url: not url.startswith(trained.url), lambda route: route.abort())
        for page in seen.each(views.values()):
            unfold(page)


def test_without_plotly_the_page_says_how_to_get_it_and_works(
    browser: Browser, trained: Service, models: dict[str, str]
) -> None:
    with watched(browser, trained.url) as seen:
        missing = {"type": "urn:epochd:problem:not-installed", "status": 501, "detail": "no Plotly"}
        seen.page.context.route("**/plotly.min.js", lambda route: route.fulfill(status=501, json=missing))
        page = seen.open(f"#/experiments/{models['able']}")
        expect(page.get_by_text("pip install 'epochd[page]'").first).to_be_visible()
        page.get_by_text("Every epoch in numbers").click()
        expect(page.get_by_role("region", name="Every epoch in numbers").locator("tbody tr")).to_have_count(2)
        seen.forgive("501")


@contextlib.contextmanager
def free_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    yield port


def test_a_view_that_is_opened_while_the_service_is_away_comes_when_it_is_back(
    browser: Browser, tmp_path: Path
) -> None:
    with free_port() as port, contextlib.ExitStack() as services:
        first = services.enter_context(serving(tmp_path, "--no-worker", "--port", str(port)))
        with watched(browser, first.url) as seen:
            page = seen.open()
            first.stop()
            page.get_by_role("link", name="Sweeps", exact=True).click()
            expect(page.locator("#away")).to_contain_text("The service does not answer.")
            expect(page.get_by_text("That did not work")).to_have_count(0)
            services.enter_context(serving(tmp_path, "--no-worker", "--port", str(port)))
            expect(page.locator("#away")).to_be_empty()
            expect(page.get_by_role("heading", name="Sweeps")).to_be_visible()
            expect(page.get_by_text("No sweeps yet.")).to_be_visible()
            page.go_back()
            expect(page.get_by_role("heading", name="Experiments")).to_be_visible()
            seen.forgive("Failed to load resource: net::ERR_")


NAMES = {
    "markup": '<img src=x onerror=alert(1)> & <b>"q"</b>',
    "long": "W" * 120,
    "emoji": "\N{DUCK}\N{FIRE} ok",
    "right to left": "\u05e9\u05dc\u05d5\u05dd \u202eolleh",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_an_odd_name_is_only_text_and_breaks_no_view(browser: Browser, idle: Served, name: str) -> None:
    created = idle.create(activation="relu", depth=1, name=name, tags=[name[:60]])
    idle.http.post(created["links"]["cancel"]).raise_for_status()
    with watched(browser, idle.url, **PHONE) as seen:
        for view in ("#/experiments", f"#/experiments/{created['id']}", f"#/compare?ids={created['id']}"):
            page = seen.open(view)
            expect(page.get_by_text(name, exact=True).first).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, view
        page = seen.open(f"#/experiments/{created['id']}")
        page.locator("button.danger").click()
        expect(page.get_by_role("dialog")).to_contain_text(name)
        if "\u202e" in name:  # what it turns round ends with it
            expect(page.get_by_role("dialog")).to_contain_text(f"Delete \u2068{name}\u2069, with")


def test_what_another_window_deletes_is_said_in_this_one(browser: Browser, idle: Served) -> None:
    created = idle.create(activation="relu", depth=1, name="shared")
    idle.http.post(created["links"]["cancel"]).raise_for_status()
    with watched(browser, idle.url) as one, watched(browser, idle.url) as other:
        page, table = one.open(f"#/experiments/{created['id']}"), other.open()
        expect(table.get_by_role("link", name="shared")).to_be_visible()
        page.get_by_role("button", name="Delete: shared").click()
        page.get_by_role("button", name="Delete", exact=True).click()
        expect(table.get_by_text("Nothing has been trained yet.")).to_be_visible()
        page.go_back()
        expect(page.get_by_role("alert")).to_contain_text("there is no experiment")
        one.forgive("404")


def test_no_window_is_too_small_or_too_large(browser: Browser, idle: Served) -> None:
    asked = {"base": {"activation": "gelu"}, "grid": {"depth": [1, 2]}, "seeds": 250, "name": "queue"}
    sweep = idle.http.post("/sweeps", json=asked).raise_for_status().json()
    views = ("#/experiments", f"#/sweeps/{sweep['id']}", "#/sweeps", "#/experiments/new", "#/sweeps/new")
    for locale in ("en-GB", "ja-JP"):
        with watched(browser, idle.url, locale=locale) as seen:
            for view, page in zip(views, seen.each(views), strict=True):
                for width in (240, 390, 2560):
                    page.set_viewport_size({"width": width, "height": 700})
                    if view == "#/experiments":
                        expect(page.locator("tbody tr").first).to_be_visible()
                        assert page.locator("thead").evaluate(LINES) < 5  # no heading stands upright
                    assert page.evaluate("document.documentElement.scrollWidth") <= width, (view, locale)


def test_the_page_outlives_a_restart_in_the_middle_of_training(
    browser: Browser, tmp_path: Path, mnist_dir: Path
) -> None:
    folder = data_folder(tmp_path, mnist_dir)
    with free_port() as port, contextlib.ExitStack() as services:
        address = ("--port", str(port))
        first = services.enter_context(serving(folder, *address, EPOCHD_CHECKPOINT_SECONDS="0"))
        created = first.create(activation="relu", depth=1, epochs=1000, name="survivor")
        with watched(browser, first.url) as seen, watched(browser, first.url) as table:
            page = seen.open(f"#/experiments/{created['id']}")
            table.open()
            until_points(page, 2)
            page.evaluate("globalThis.notReloaded = true")
            first.stop()
            for one in (seen, table):
                expect(one.page.locator("#away")).to_contain_text("The service does not answer.")
            before = points(page)
            second = services.enter_context(serving(folder, *address))
            for one in (seen, table):
                expect(one.page.locator("#away")).to_be_empty()
            until_points(page, before + 2)
            expect(table.page.locator("tbody .badge")).to_have_text("running")
            assert page.evaluate("globalThis.notReloaded")
            second.http.post(created["links"]["cancel"]).raise_for_status()
            expect(page.locator("h1 + .badge")).to_have_text("cancelled")
            expect(table.page.locator("tbody .badge")).to_have_text("cancelled")
            for one in (seen, table):
                one.forgive("Failed to load resource: net::ERR_")


@pytest.mark.parametrize("address", ["#main", "#/", "#experiments"])
def test_an_address_without_a_view_opens_the_first_one(browser: Browser, idle: Served, address: str) -> None:
    with watched(browser, idle.url) as seen:
        expect(seen.open(address).get_by_role("heading", name="Experiments")).to_be_visible()


def test_a_browser_that_remembers_nothing_shows_the_page(browser: Browser, idle: Served) -> None:
    refuse = "Object.defineProperty(globalThis, 'localStorage', {get() { throw new DOMException('denied') }})"
    with watched(browser, idle.url) as seen:
        seen.page.add_init_script(refuse)
        page = seen.open()
        page.get_by_role("button", name="Dark colours").click()
        expect(page.get_by_role("button", name="Light colours")).to_be_visible()
        page.get_by_role("button", name="\u65e5\u672c\u8a9e").click()
        expect(page.get_by_role("heading", name="\u5b9f\u9a13")).to_be_visible()


def test_whoever_comes_back_finds_the_table_as_it_was_left(browser: Browser, idle: Served) -> None:
    idle.http.post("/sweeps", json={"base": {"activation": "relu", "depth": 1}, "seeds": 70}).raise_for_status()
    with watched(browser, idle.url) as seen:
        page = seen.open()
        rows = page.locator("tbody tr")
        scroll_to(page, 70)
        rows.nth(1).get_by_role("checkbox").check()
        rows.nth(65).get_by_role("checkbox").check()
        rows.nth(60).get_by_role("link").click()
        expect(page.locator("h1 + .badge")).to_be_visible()
        assert page.evaluate("scrollY") == 0
        page.go_back()
        expect(rows).to_have_count(70)
        expect(page.get_by_text("2 picked")).to_be_visible()
        expect(rows.nth(60)).to_be_in_viewport()
        page.get_by_label("Activation").select_option("gelu")
        expect(rows).to_have_count(0)
        page.go_back()
        expect(page.get_by_label("Activation")).to_have_value("")
        expect(rows.first).to_be_visible()


def test_a_view_that_is_slow_takes_no_title_from_the_next(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        held: list[Route] = []
        seen.page.route("**/openapi.json", lambda route: held.append(route))
        page = seen.page
        page.goto(f"{idle.url}/")
        expect(page.get_by_role("main").get_by_text("Loading")).to_be_visible()
        page.get_by_role("link", name="Sweeps", exact=True).click()
        expect(page).to_have_title("Sweeps \u00b7 epochd")
        with page.expect_response("**/openapi.json"):
            for route in held:
                route.continue_()
        expect(page.get_by_text("No sweeps yet.")).to_be_visible()
        expect(page).to_have_title("Sweeps \u00b7 epochd")


def test_a_name_that_nobody_sees_is_no_name(browser: Browser, idle: Served) -> None:
    idle.create(activation="relu", depth=1, name="\u200b \u202e")
    with watched(browser, idle.url) as seen:
        expect(seen.open().get_by_role("link", name="relu, depth 1")).to_be_visible()
