"""The page's forms: made from the API's description, counted and checked by the API."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.acceptance.conftest import Served, serving
from tests.acceptance.page.conftest import watched
from tests.acceptance.page.test_access import Guarded, refused, sign_in


def typed(page: Page, field: str, text: str) -> None:
    """Type over what stands in a field, key by key."""
    page.locator(field).focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.press("Delete")
    page.locator(field).press_sequentially(text)


def wide(text: str) -> str:
    """As Japanese keyboards write it."""
    return "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in text).replace(
        " ", "\N{IDEOGRAPHIC SPACE}"
    )


def another_language(page: Page, heading: str) -> None:
    page.locator("#language").click()
    expect(page.get_by_role("heading", name=heading)).to_be_visible()


def test_the_form_has_the_fields_bounds_and_choices_of_the_api(browser: Browser, idle: Served) -> None:
    spec = idle.http.get("/openapi.json").json()["components"]["schemas"]["Spec"]
    with watched(browser, idle.url) as seen:
        page = seen.open("#/experiments/new")
        page.get_by_text("More settings").click()
        for name, schema in spec["properties"].items():
            control = page.locator(f"[name={name}]")
            expect(control).to_be_visible()
            if "enum" in schema:
                choices = control.locator("option").evaluate_all("all => all.map((one) => one.value).filter(Boolean)")
                assert choices == schema["enum"]
            if "maximum" in schema:
                most = "1e9" if schema["maximum"] == 1e9 else str(int(schema["maximum"]))
                expect(page.locator(f"#f-{name}-hint .range")).to_have_text(re.compile(rf"\b{most}$"))
            if "default" in schema and schema["default"] != []:
                expect(control).to_have_value(str(schema["default"]))
            assert (control.get_attribute("required") is not None) == (name in spec["required"])


def test_what_is_wrong_stands_beside_its_field(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open("#/experiments/new")
        page.get_by_role("button", name="Train").click()
        activation = page.get_by_label("Activation")
        expect(activation).to_have_attribute("aria-invalid", "true")
        expect(activation).to_be_focused()
        activation.select_option("relu")
        depth = page.get_by_label("Depth")
        depth.fill("65")
        expect(page.locator("#f-depth-fault")).to_contain_text("64")
        assert "f-depth-fault" in (depth.get_attribute("aria-describedby") or "").split()
        depth.fill("64")
        expect(page.locator("#f-depth-fault")).to_be_empty()
        page.get_by_label("Units").fill("1024")
        expect(page.locator("#f-units-fault")).to_contain_text("parameters")
        assert idle.http.get("/experiments").json()["data"] == []
        seen.forgive("422")


def test_a_network_is_counted_before_it_is_queued(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open("#/experiments/new")
        page.get_by_label("Activation").select_option("relu")
        page.get_by_label("Depth").fill("1")
        expect(page.get_by_text("with 12,730 parameters")).to_be_visible()
        page.get_by_label("Units").fill("32")
        expect(page.get_by_text("with 25,450 parameters")).to_be_visible()
        page.get_by_text("More settings").click()
        page.get_by_label("Tags").fill('one, two words、"x, ""y""",')
        page.get_by_role("button", name="Train").click()
        expect(page.get_by_role("heading", name="relu, depth 1")).to_be_visible()
        (queued,) = idle.http.get("/experiments").json()["data"]
        assert (queued["spec"]["units"], queued["spec"]["tags"]) == (
            32,
            ["one", "two words", 'x, "y"'],
        )


HARD_TAGS = ["a", "x,y", wide("1,2"), "一、二", '"q"', 'say "so"', '5" disk, "old"', " spaced ", "b"]


def test_an_experiment_is_changed_and_trained_anew(browser: Browser, idle: Served) -> None:
    first = idle.create(activation="gelu", depth=4, units=20, learning_rate=0.01, tags=HARD_TAGS, name="it's")
    with watched(browser, idle.url) as seen:
        page = seen.open(f"#/experiments/{first['id']}")
        page.get_by_role("link", name="Change and train").click()
        page.get_by_label("Depth").fill("5")
        page.get_by_role("button", name="Train").click()
        expect(page.get_by_role("heading", name="it's")).to_be_visible()
        changed = idle.get(page.url.rsplit("/", 1)[1])
        assert changed["spec"] == first["spec"] | {"depth": 5}


def test_a_sweep_is_counted_by_a_dry_run_and_queued(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open("#/sweeps/new")
        expect(
            page.get_by_text("30 experiments: 6 networks \N{MULTIPLICATION SIGN} 5 seeds, the largest with 13,274")
        ).to_be_visible()
        page.get_by_label("tanh", exact=True).check()
        page.locator("#f-grid-depth").fill("1..4")
        page.locator("#f-seeds").fill("2")
        expect(page.get_by_text("24 experiments: 12 networks \N{MULTIPLICATION SIGN} 2 seeds")).to_be_visible()
        page.get_by_label("Vary something else").select_option("learning_rate")
        page.get_by_role("button", name="Add", exact=True).click()
        page.locator("#f-grid-learning_rate").fill("0.0001..0.1 x 4 log")
        expect(page.get_by_text("96 experiments: 48 networks \N{MULTIPLICATION SIGN} 2 seeds")).to_be_visible()
        page.get_by_text("What all share").click()
        page.locator("#f-base-epochs").fill("3")
        assert idle.http.get("/sweeps").json()["data"] == []
        page.get_by_role("button", name="Queue the sweep").click()
        expect(page.get_by_text("0 of 96 done")).to_be_visible()
        (sweep,) = idle.http.get("/sweeps").json()["data"]
        assert sweep["spec"]["base"] == {"epochs": 3}
        assert sweep["spec"]["grid"]["activation"] == ["relu", "sigmoid", "tanh"]
        assert sweep["spec"]["grid"]["learning_rate"] == {"start": 0.0001, "stop": 0.1, "count": 4, "scale": "log"}


def test_what_is_wrong_with_a_sweep_stands_beside_its_field(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open("#/sweeps/new")
        page.locator("#f-grid-depth").fill("1, 1")
        expect(page.locator("#f-grid-depth-fault")).to_have_text("stands there twice: 1")
        for wrong in ("1, two", "1, 0x10", "1, 2³"):
            page.locator("#f-grid-depth").fill("1")
            expect(page.locator("#f-grid-depth-fault")).to_be_empty()
            page.locator("#f-grid-depth").fill(wrong)
            expect(page.locator("#f-grid-depth-fault")).to_contain_text("integer")
        page.get_by_role("button", name="Do not vary: Depth").click()
        expect(page.locator("#f-base-depth-fault")).to_contain_text("field required")
        page.get_by_text("What all share").click()
        page.locator("#f-base-depth").fill("2")
        expect(page.get_by_text("10 experiments")).to_be_visible()
        seen.forgive("422")


@pytest.mark.parametrize("noun", ["experiments", "sweeps"])
def test_a_lost_answer_and_a_double_click_make_nothing_twice(browser: Browser, idle: Served, noun: str) -> None:
    keys: list[str] = []

    def lose_the_first(route: Route) -> None:
        if route.request.method != "POST":
            route.fallback()
            return
        keys.append(route.request.headers["idempotency-key"])
        answer = route.fetch()
        if len(keys) == 1:
            route.abort("connectionreset")
        else:
            route.fulfill(response=answer)

    with watched(browser, idle.url) as seen:
        page = seen.open(f"#/{noun}/new")
        page.route(f"{idle.url}/{noun}", lose_the_first)
        if noun == "experiments":
            page.get_by_label("Activation").select_option("relu")
            page.get_by_label("Depth").fill("2")
        send = page.locator("form .primary")
        send.dblclick()
        expect(page.get_by_role("alert")).to_contain_text("nothing is made twice")
        with page.expect_response("**/sweeps?dry_run=true"):  # the form is checked when the service answers again
            expect(page.locator("#away")).to_be_empty()
        expect(page.get_by_role("alert")).to_contain_text("nothing is made twice")
        send.dblclick()
        expect(page.locator("h1 + .badge")).to_be_visible()
        (made,) = idle.http.get(f"/{noun}").json()["data"]
        assert page.url.endswith(f"#/{noun}/{made['id']}")
        assert len(keys) >= 2
        assert len(set(keys)) == 1

        seen.open(f"#/{noun}/new")
        if noun == "experiments":
            page.get_by_label("Activation").select_option("relu")
            page.get_by_label("Depth").fill("2")
        page.locator("form .primary").click()
        expect(page.locator("h1 + .badge")).to_be_visible()
        assert len(idle.http.get(f"/{noun}").json()["data"]) == 2  # another form is another wish
        assert len(set(keys)) == 2
        seen.forgive("net::ERR_")


def test_a_changed_form_is_another_request(browser: Browser, idle: Served) -> None:
    keys: list[str] = []

    def lose(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        route.abort("connectionreset")

    with watched(browser, idle.url) as seen:
        page = seen.open("#/experiments/new")
        page.route(f"{idle.url}/experiments", lose)
        page.get_by_label("Activation").select_option("relu")
        for count, depth in enumerate(("1", "2", "1"), 1):
            page.get_by_label("Depth").fill(depth)
            with page.expect_request(f"{idle.url}/experiments"):
                page.get_by_role("button", name="Train").click()
            expect(page.get_by_role("alert")).to_be_visible()
            assert len(keys) == count
        assert keys[0] == keys[2] != keys[1]
        seen.forgive("net::ERR_")


def test_what_is_no_number_is_told_and_neither_checked_nor_sent(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open("#/experiments/new")
        page.get_by_label("Activation").select_option("relu")
        page.get_by_label("Depth").fill("2")
        for wrong in ("5-0", "0x10", "1e999", "2³"):
            typed(page, "#f-epochs", "10")
            expect(page.get_by_text("1 experiment with")).to_be_visible()
            typed(page, "#f-epochs", "")
            asked = len(seen.asked)
            typed(page, "#f-epochs", wrong)
            expect(page.locator("#f-epochs-fault")).to_have_text("This is no number.")
            expect(page.locator(".plan")).to_be_empty()
            page.get_by_role("button", name="Train").click()
            expect(page.locator("#f-epochs")).to_be_focused()
            assert not any(url.endswith("/experiments") for url in seen.asked[asked:])
        page.locator("#f-epochs").fill(wide("12"))
        page.locator("#f-learning_rate").fill(wide("1.5e-3"))
        page.get_by_text("More settings").click()
        page.locator("#f-priority").fill("\N{MINUS SIGN}7")
        expect(page.get_by_text("1 experiment with")).to_be_visible()
        page.get_by_role("button", name="Train").click()
        expect(page.get_by_role("heading", name="relu, depth 2")).to_be_visible()
        (queued,) = idle.http.get("/experiments").json()["data"]
        assert queued["spec"] | {"epochs": 12, "learning_rate": 0.0015, "priority": -7} == queued["spec"]


def test_whole_numbers_are_counted_by_arrow_keys(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open("#/experiments/new")
        depth = page.get_by_role("spinbutton", name="Depth")
        depth.focus()
        for key, value in (("ArrowUp", "1"), ("ArrowUp", "2"), ("ArrowDown", "1"), ("ArrowDown", "1")):
            page.keyboard.press(key)
            expect(depth).to_have_value(value)
        page.get_by_label("Activation").select_option("relu")
        expect(page.get_by_text("with 12,730 parameters")).to_be_visible()


def test_a_plan_and_faults_go_with_what_they_were_of(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open("#/experiments/new")
        depth, plan = page.get_by_label("Depth"), page.locator(".plan")
        page.get_by_label("Activation").select_option("relu")
        depth.fill("2")
        expect(plan).to_contain_text("13,002")
        depth.fill("")
        expect(plan).to_have_text("Choose an activation and a depth.")
        depth.fill("99")
        expect(page.locator("#f-depth-fault")).to_contain_text("64")
        expect(plan).to_be_empty()
        depth.fill("")
        expect(page.locator("#f-depth-fault")).to_be_empty()
        expect(plan).to_have_text("Choose an activation and a depth.")
        seen.forgive("422")


def test_what_was_typed_is_kept_until_it_is_sent(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open("#/experiments/new")
        page.get_by_label("Activation").select_option("relu")
        page.get_by_label("Depth").fill("2")
        page.get_by_label("Name").fill("kept")
        typed(page, "#f-epochs", "5-0")
        another_language(page, "新しい実験")
        expect(page.locator("#f-activation")).to_have_value("relu")
        expect(page.locator("#f-depth")).to_have_value("2")
        expect(page.locator("#f-name")).to_have_value("kept")
        expect(page.locator("#f-epochs")).to_have_value("5-0")
        expect(page.locator("#f-epochs-fault")).to_have_text("数値として読み取れません。")
        another_language(page, "New experiment")
        page.get_by_role("link", name="Sweeps", exact=True).click()
        expect(page.get_by_role("heading", name="Sweeps")).to_be_visible()
        page.go_back()
        expect(page.locator("#f-name")).to_have_value("kept")
        page.locator("#f-epochs").fill("3")
        page.get_by_role("button", name="Train").click()
        expect(page.get_by_role("heading", name="kept", exact=True)).to_be_visible()
        page.go_back()
        expect(page.get_by_role("heading", name="New experiment")).to_be_visible()
        expect(page.locator("#f-name")).to_have_value("")
        expect(page.locator("#f-epochs")).to_have_value("10")


def test_values_in_the_address_go_before_what_was_typed(browser: Browser, idle: Served) -> None:
    first = idle.create(activation="gelu", depth=4, name="first")
    with watched(browser, idle.url) as seen:
        page = seen.open("#/experiments/new")
        page.get_by_label("Depth").fill("9")
        for _ in range(2):
            page.evaluate("(id) => (location.hash = `#/experiments/${id}`)", first["id"])
            page.get_by_role("link", name="Change and train").click()
            expect(page.locator("#f-depth")).to_have_value("4")
            page.locator("#f-depth").fill("5")
            another_language(page, "新しい実験")
            expect(page.locator("#f-depth")).to_have_value("5")
            another_language(page, "New experiment")
        page.evaluate("() => (location.hash = '#/experiments/new')")
        expect(page.locator("#f-depth")).to_have_value("9")


def test_a_sweep_is_kept_as_it_was_typed_also_while_the_service_is_away(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open("#/sweeps/new")
        page.get_by_label("tanh", exact=True).check()
        page.get_by_label("relu", exact=True).uncheck()
        page.get_by_role("button", name="Do not vary: Depth").click()
        page.get_by_label("Vary something else").select_option("units")
        page.get_by_role("button", name="Add", exact=True).click()
        page.locator("#f-grid-units").fill("8, 16")
        page.get_by_text("What all share").click()
        page.locator("#f-base-depth").fill("3")
        page.locator("#f-name").fill("kept")
        plan = page.locator(".plan")
        expect(plan).to_contain_text("20 experiments")
        page.route(f"{idle.url}/**", lambda route: route.abort("connectionrefused"))
        page.locator("#f-seeds").fill("4")
        expect(page.locator("#away")).to_contain_text("does not answer")
        another_language(page, "新しいスイープ")
        page.unroute_all()
        expect(page.locator("#away")).to_be_empty()
        another_language(page, "New sweep")
        expect(plan).to_contain_text("16 experiments: 4 networks")
        assert page.locator(".ticks input:checked").evaluate_all("all => all.map((one) => one.value)") == [
            "sigmoid",
            "tanh",
        ]
        expect(page.locator("#f-grid-units")).to_have_value("8, 16")
        expect(page.locator("#f-grid-depth")).to_have_count(0)
        expect(page.locator("#f-base-depth")).to_have_value("3")
        expect(page.locator("#f-name")).to_have_value("kept")
        seen.forgive("net::ERR_")
        seen.forgive("422")


def test_a_lost_answer_makes_nothing_twice_in_another_language_either(browser: Browser, idle: Served) -> None:
    def lose(route: Route) -> None:
        route.fetch()
        route.abort("connectionreset")

    with watched(browser, idle.url) as seen:
        page = seen.open("#/experiments/new")
        page.route(f"{idle.url}/experiments", lose, times=1)
        page.get_by_label("Activation").select_option("relu")
        page.get_by_label("Depth").fill("2")
        page.get_by_role("button", name="Train").click()
        expect(page.get_by_role("alert")).to_contain_text("nothing is made twice")
        another_language(page, "新しい実験")
        expect(page.locator("#away")).to_be_empty()
        page.get_by_role("button", name="学習を始める").click()
        expect(page.locator("h1 + .badge")).to_be_visible()
        assert len(idle.http.get("/experiments").json()["data"]) == 1
        seen.forgive("net::ERR_")


CHECKED_UNTIL_REFUSED = """() => {
  if (document.querySelector('#key')) return true;
  document.querySelector('form')?.dispatchEvent(new Event('input'));
  return false;
}"""


def test_a_half_filled_form_outlives_a_key_but_not_who_signs_out(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path, "--no-worker") as service:
        guarded = Guarded(service, tmp_path)
        with guarded.http, watched(browser, guarded.url) as seen:
            while guarded.http.get("/session").json()["name"] != "keeper":
                pass
            page = seen.open("#/experiments/new")
            sign_in(page, guarded.key("goes", "write"))
            page.get_by_label("Name").fill("half")
            page.get_by_label("Depth").fill("3")
            guarded.keys("revoke", "goes")
            page.get_by_label("Activation").select_option("relu")
            page.wait_for_function(CHECKED_UNTIL_REFUSED, polling=300)
            sign_in(page, guarded.key("comes", "write"))
            expect(page.get_by_label("Name")).to_have_value("half")
            expect(page.get_by_label("Depth")).to_have_value("3")
            expect(page.get_by_label("Activation")).to_have_value("relu")
            page.get_by_role("button", name="Sign out").click()
            sign_in(page, guarded.key("is another", "write"))
            expect(page.get_by_label("Name")).to_have_value("")
            refused(seen)


def test_fields_to_vary_are_looked_through_by_keyboard(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open("#/sweeps/new")
        pick = page.get_by_label("Vary something else")
        pick.focus()
        for _ in range(3):
            page.keyboard.press("ArrowDown")
        expect(pick).to_be_focused()
        expect(pick).to_have_value("optimizer")
        expect(page.locator("#f-grid-optimizer")).to_have_count(0)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#f-grid-optimizer input").first).to_be_focused()
        page.get_by_role("button", name="Do not vary: Depth").press("Enter")
        expect(page.get_by_role("button", name="Do not vary: Optimizer")).to_be_focused()
        page.keyboard.press("Enter")
        expect(pick).to_be_focused()
        seen.forgive("422")


def test_one_of_a_thing_is_said_as_one(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open("#/sweeps/new")
        page.get_by_label("sigmoid", exact=True).uncheck()
        page.locator("#f-grid-depth").fill("1")
        page.locator("#f-seeds").fill("1")
        page.get_by_text("What all share").click()
        page.locator("#f-base-units").fill("1")
        expect(page.locator(".plan")).to_contain_text(
            "1 experiment: 1 network \N{MULTIPLICATION SIGN} 1 seed, with 805 parameters."
        )
        page.get_by_role("button", name="Queue the sweep").click()
        page.get_by_role("link", name="Its experiments").click()
        expect(page.locator("tbody tr")).to_contain_text("1 unit \N{MIDDLE DOT}")


def test_seeds_are_not_asked_for_where_the_seed_varies(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open("#/sweeps/new")
        page.get_by_label("Vary something else").select_option("seed")
        page.get_by_role("button", name="Add", exact=True).click()
        page.locator("#f-grid-seed").fill("7, 8")
        expect(page.get_by_text("12 experiments: 6 networks \N{MULTIPLICATION SIGN} 2 seeds")).to_be_visible()
        expect(page.locator("#f-seeds")).to_be_hidden()
        expect(page.get_by_text("these values are the seeds")).to_be_visible()
        page.get_by_role("button", name="Do not vary: Seed").click()
        expect(page.locator("#f-seeds")).to_have_value("5")
        expect(page.get_by_text("these values are the seeds")).to_be_hidden()
        expect(page.get_by_text("6 networks \N{MULTIPLICATION SIGN} 5 seeds")).to_be_visible()
        seen.forgive("422")


def test_lists_are_read_as_a_japanese_keyboard_writes_them(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url, locale="ja-JP") as seen:
        page = seen.open("#/sweeps/new")
        depth, plan = page.locator("#f-grid-depth"), page.locator(".plan")
        for text, arms in ((wide("1,2") + "、3", 6), (wide("1..4"), 8), ("1…5", 10), (wide("10 ,2"), 4)):
            depth.fill(text)
            expect(plan).to_contain_text(f"{arms}種類のネットワーク")
        page.get_by_label("ほかの項目も変化させる").select_option("learning_rate")
        page.get_by_role("button", name="追加").click()
        page.locator("#f-grid-learning_rate").fill(wide("0.0001..0.1 x 4 log"))
        expect(plan).to_contain_text("16種類のネットワーク")
        seen.forgive("422")


@pytest.mark.parametrize(
    ("locale", "priority", "rate"),
    [
        ("en-GB", "\N{MINUS SIGN}1000 to 1000", "more than 0, at most 1e9"),
        ("ja-JP", "\N{MINUS SIGN}1000〜1000", "0より大きく1e9以下"),
    ],
)
def test_hints_are_words_and_show_both_bounds(
    browser: Browser, idle: Served, locale: str, priority: str, rate: str
) -> None:
    with watched(browser, idle.url, locale=locale) as seen:
        page = seen.open("#/experiments/new")
        page.locator("summary").click()
        assert "`" not in page.locator("form").inner_text()
        expect(page.locator("#f-priority-hint .range")).to_have_text(priority)
        expect(page.locator("#f-learning_rate-hint .range")).to_have_text(rate)
        expect(page.locator("#f-seed-hint .range")).to_contain_text("2147483647")
        expect(page.locator("#f-tags-hint")).to_contain_text("commas" if locale == "en-GB" else "カンマ")
        if locale == "en-GB":
            expect(page.locator("#f-shuffle_seed-hint code")).to_have_text("seed")
