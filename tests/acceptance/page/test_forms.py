"""The page's forms: made from the API's description, counted and checked by the API."""

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.acceptance.conftest import Service
from tests.acceptance.page.conftest import watched

pytestmark = pytest.mark.slow


def test_the_form_has_the_fields_bounds_and_choices_of_the_api(browser: Browser, idle: Service) -> None:
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
                assert float(control.get_attribute("max") or "") == schema["maximum"]
            if "default" in schema and schema["default"] != []:
                expect(control).to_have_value(str(schema["default"]))
            assert (control.get_attribute("required") is not None) == (name in spec["required"])


def test_what_is_wrong_stands_beside_its_field(browser: Browser, idle: Service) -> None:
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


def test_a_network_is_counted_before_it_is_queued(browser: Browser, idle: Service) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open("#/experiments/new")
        page.get_by_label("Activation").select_option("relu")
        page.get_by_label("Depth").fill("1")
        expect(page.get_by_text("with 12,730 parameters")).to_be_visible()
        page.get_by_label("Units").fill("32")
        expect(page.get_by_text("with 25,450 parameters")).to_be_visible()
        page.get_by_text("More settings").click()
        page.get_by_label("Tags").fill("one, two words")
        page.get_by_role("button", name="Train").click()
        expect(page.get_by_role("heading", name="relu, depth 1")).to_be_visible()
        (queued,) = idle.http.get("/experiments").json()["data"]
        assert (queued["spec"]["units"], queued["spec"]["tags"]) == (32, ["one", "two words"])


def test_an_experiment_is_changed_and_trained_anew(browser: Browser, idle: Service) -> None:
    first = idle.create(activation="gelu", depth=4, units=20, learning_rate=0.01, tags=["a", "b"], name="it's")
    with watched(browser, idle.url) as seen:
        page = seen.open(f"#/experiments/{first['id']}")
        page.get_by_role("link", name="Change and train").click()
        page.get_by_label("Depth").fill("5")
        page.get_by_role("button", name="Train").click()
        expect(page.get_by_role("heading", name="it's")).to_be_visible()
        changed = idle.get(page.url.rsplit("/", 1)[1])
        assert changed["spec"] == first["spec"] | {"depth": 5}


def test_a_sweep_is_counted_by_a_dry_run_and_queued(browser: Browser, idle: Service) -> None:
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


def test_what_is_wrong_with_a_sweep_stands_beside_its_field(browser: Browser, idle: Service) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open("#/sweeps/new")
        page.locator("#f-grid-depth").fill("1, 1")
        expect(page.locator("#f-grid-depth-fault")).to_have_text("stands there twice: 1")
        page.locator("#f-grid-depth").fill("1, two")
        expect(page.locator("#f-grid-depth-fault")).to_contain_text("integer")
        page.get_by_role("button", name="Do not vary: Depth").click()
        expect(page.locator("#f-base-depth-fault")).to_contain_text("field required")
        page.get_by_text("What all share").click()
        page.locator("#f-base-depth").fill("2")
        expect(page.get_by_text("10 experiments")).to_be_visible()
        seen.forgive("422")


@pytest.mark.parametrize("noun", ["experiments", "sweeps"])
def test_a_lost_answer_and_a_double_click_make_nothing_twice(browser: Browser, idle: Service, noun: str) -> None:
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


def test_a_changed_form_is_another_request(browser: Browser, idle: Service) -> None:
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
