"""The page's experiments: the table, one of them, and several compared."""

import csv
import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, Route, expect

from tests.acceptance.conftest import Served, Service
from tests.acceptance.page.conftest import Watched, points, scroll_to, settle, until_points, watched


def row(page: Page, name: str):
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


def test_an_experiment_is_queued_in_the_form_and_its_curves_grow(seen: Watched, trained: Service) -> None:
    page = seen.open("#/experiments/new")
    page.get_by_label("Activation").select_option("relu")
    page.get_by_label("Depth").fill("2")
    page.get_by_label("Epochs").fill("40")
    page.get_by_label("Name").fill("grows")
    expect(page.get_by_text("1 experiment with 13,002 parameters.")).to_be_visible()
    page.get_by_role("button", name="Train").click()
    expect(page.get_by_role("heading", name="grows", exact=True)).to_be_visible()
    experiment_id = page.url.rsplit("/", 1)[1]
    assert trained.get(experiment_id)["spec"]["epochs"] == 40

    until_points(page, 1)
    first = points(page)
    assert first < 40
    until_points(page, first + 1)
    expect(page.locator("h1 + .badge")).to_have_text("succeeded")
    until_points(page, 40)
    until_points(page, 1, plot=2)
    until_points(page, 1, plot=3)
    for title in ("Learning curves", "Gradient norms by layer", "Confusion matrix", "Mistakes"):
        expect(page.get_by_role("figure").get_by_role("heading", name=title)).to_be_visible()
    accuracy = trained.get(experiment_id)["result"]["test_accuracy"]
    expect(page.locator(".facts")).to_contain_text(f"{accuracy:.4f}")
    page.get_by_text("Every epoch in numbers").click()
    expect(page.get_by_role("region", name="Every epoch in numbers").locator("tbody tr")).to_have_count(40)


def test_what_an_experiment_gave_can_be_taken_along(
    seen: Watched, trained: Service, models: dict[str, str], tmp_path: Path
) -> None:
    page = seen.open(f"#/experiments/{models['able']}")
    formats = trained.get(models["able"])["model"]["formats"]
    for name, file in (("keras", "Keras"), ("onnx", "ONNX")):
        with page.expect_download() as download:
            page.get_by_role("link", name=file).click()
        assert hashlib.sha256(Path(download.value.path()).read_bytes()).hexdigest() == formats[name]["sha256"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Metrics (CSV)").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert [one["epoch"] for one in rows] == ["1", "2"]

    spec = trained.get(models["able"])["spec"]
    curl, python = page.locator("pre code").all_text_contents()
    answer = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(answer.stdout)["spec"] == spec
    answer = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, check=True, cwd=tmp_path)
    again = trained.get(answer.stdout.strip())
    assert again["spec"] == spec
    for one in trained.http.get("/experiments", params={"tag": "models"}).json()["data"]:
        if one["id"] not in models.values():
            trained.succeeded(one["id"])
            trained.http.delete(one["links"]["self"]).raise_for_status()


def test_a_running_experiment_is_cancelled_repeated_and_deleted_in_the_table(seen: Watched, trained: Service) -> None:
    created = trained.create(activation="tanh", depth=1, epochs=1000, name="endless", tags=["endless"])
    page = seen.open("#/experiments?tag=endless")
    expect(row(page, "endless").locator(".badge")).to_have_text("running")
    bar = row(page, "endless").locator("progress")
    expect(bar).not_to_have_attribute("value", "0")
    before = int(bar.get_attribute("value") or 0)
    page.wait_for_function("(before) => document.querySelector('progress').value > before", arg=before)

    page.get_by_role("button", name="Cancel: endless").click()
    expect(row(page, "endless").locator(".badge")).to_have_text("cancelled")
    assert trained.get(created["id"])["status"] == "cancelled"

    page.get_by_role("button", name="Repeat: endless").click()
    expect(row(page, "endless")).to_have_count(2)
    page.get_by_role("button", name="Cancel: endless").click()
    expect(row(page, "endless").get_by_text("cancelled")).to_have_count(2)

    for left in (1, 0):
        page.get_by_role("button", name="Delete: endless").first.click()
        expect(page.get_by_role("dialog")).to_contain_text("Delete endless, with its metrics and its model?")
        page.get_by_role("button", name="Delete", exact=True).click()
        expect(row(page, "endless")).to_have_count(left)
    expect(page.get_by_text("No experiment matches. Widen the filter.")).to_be_visible()
    assert trained.http.get("/experiments", params={"tag": "endless"}).json()["data"] == []


def test_a_question_that_is_answered_no_deletes_nothing(
    seen: Watched, trained: Service, models: dict[str, str]
) -> None:
    page = seen.open(f"#/experiments/{models['deep']}")
    page.get_by_role("button", name="Delete: deep").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert trained.get(models["deep"])["status"] == "succeeded"


def test_what_the_service_refuses_is_said(seen: Watched, trained: Service, models: dict[str, str]) -> None:
    trained.http.put("/models/kept", json={"experiment_id": models["deep"]}).raise_for_status()
    page = seen.open(f"#/experiments/{models['deep']}")
    page.get_by_role("button", name="Delete: deep").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("kept")
    trained.http.delete("/models/kept").raise_for_status()
    seen.forgive("409")


def test_several_experiments_are_compared(seen: Watched, trained: Service, models: dict[str, str]) -> None:
    page = seen.open("#/experiments?tag=models")
    for name in models:
        page.get_by_role("checkbox", name=f"Pick {name}").check()
    expect(page.get_by_role("region", name="Picked experiments")).to_contain_text("2 picked")
    page.get_by_role("link", name="Compare curves").click()
    expect(page.get_by_role("heading", name="Comparison")).to_be_visible()
    until_points(page, 1, plot=2)
    shown = page.evaluate("Object.fromEntries(document.querySelector('.drawn').data.map((one) => [one.name, one.y]))")
    for name, experiment_id in models.items():
        epochs = trained.metrics(experiment_id)["epochs"]
        assert shown[name] == [epoch["val_accuracy"] for epoch in epochs]
    expect(page.get_by_role("region", name="Comparison").locator("tbody tr")).to_have_count(2)


def test_the_table_has_pages_without_end_and_new_experiments_come_by_themselves(browser: Browser, idle: Served) -> None:
    idle.http.post("/sweeps", json={"base": {"activation": "relu", "depth": 1}, "seeds": 130}).raise_for_status()
    with watched(browser, idle.url) as seen:
        page = seen.open()
        rows = page.locator("tbody tr")
        expect(rows).to_have_count(50)
        scroll_to(page, 130)
        expect(page.get_by_role("button", name="Load more")).to_be_hidden()
        ids = page.locator("tbody th a").evaluate_all("all => all.map((a) => a.getAttribute('href'))")
        assert len(set(ids)) == 130

        idle.create(activation="gelu", depth=5, name="newcomer")
        expect(rows.first).to_contain_text("newcomer")
        expect(rows.first.locator(".badge")).to_have_text("queued")

        page.get_by_label("Activation").select_option("gelu")
        expect(rows).to_have_count(1)
        assert page.url.endswith("#/experiments?activation=gelu")
        page.reload()
        expect(rows).to_have_count(1)
        page.get_by_label("Depth").fill("6")
        page.get_by_label("Depth").press("Enter")
        expect(page.get_by_text("No experiment matches. Widen the filter.")).to_be_visible()


def asked_again(page: Page) -> None:
    """The table has been asked for twice: what the first answer changed is shown."""
    for _ in range(2):
        with page.expect_response(lambda answer: "/experiments?" in answer.url):
            pass


def test_a_depth_that_cannot_be_read_any_more_leaves_the_filter_as_it_was(browser: Browser, idle: Served) -> None:
    for depth in (3, 5):
        idle.create(activation="relu", depth=depth)
    with watched(browser, idle.url) as seen:
        page = seen.open("#/experiments?depth=3")
        names = page.locator("tbody th a")
        expect(names).to_have_text(["relu, depth 3"])
        field = page.get_by_role("spinbutton", name="Depth")
        field.select_text()
        field.press("-")
        asked_again(page)
        expect(page.get_by_text("This is no number.")).to_be_visible()
        expect(names).to_have_text(["relu, depth 3"])
        page.get_by_label("Activation").select_option("relu")
        expect(page).to_have_url(re.compile(r"#/experiments\?activation=relu&depth=3$"))
        asked_again(page)
        expect(page.get_by_text("This is no number.")).to_be_visible()
        assert all("depth=3" in url for url in seen.asked if "/experiments?" in url)
        field.fill("5")
        field.press("Enter")
        expect(names).to_have_text(["relu, depth 5"])
        expect(page.get_by_text("This is no number.")).to_have_count(0)


def test_what_is_picked_stays_picked_until_it_is_gone_or_unpicked(browser: Browser, idle: Served) -> None:
    idle.http.post("/sweeps", json={"base": {"activation": "relu", "depth": 1}, "seeds": 50}).raise_for_status()
    with watched(browser, idle.url) as seen:
        page = seen.open()
        rows, picks = page.locator("tbody tr"), page.get_by_role("region", name="Picked experiments")
        expect(rows).to_have_count(50)
        for place in (47, 48, 49):
            rows.nth(place).get_by_role("checkbox").check()
        picked = page.get_by_role("link", name="Compare curves")
        address = picked.get_attribute("href") or ""
        others = {"base": {"activation": "gelu", "depth": 2}, "seeds": 60}
        idle.http.post("/sweeps", json=others).raise_for_status()
        expect(rows.first).to_contain_text("gelu")
        expect(page.locator("tbody").get_by_text("relu")).to_have_count(0)
        expect(picks).to_contain_text("3 picked")
        expect(picked).to_have_attribute("href", address)

        page.get_by_label("Activation").select_option("gelu")
        expect(page).to_have_url(re.compile("activation=gelu"))
        expect(picks).to_contain_text("3 picked")
        rows.first.get_by_role("link").click()
        expect(page.locator("h1 + .badge")).to_be_visible()
        page.go_back()
        expect(picks).to_contain_text("3 picked")

        first, *kept = address.partition("=")[2].split(",")
        idle.http.post(f"/experiments/{first}/cancel").raise_for_status()
        idle.http.delete(f"/experiments/{first}").raise_for_status()
        expect(picks).to_contain_text("2 picked")
        expect(picked).to_have_attribute("href", f"#/compare?ids={','.join(kept)}")
        page.get_by_label("Activation").select_option("relu")
        expect(rows).to_have_count(49)
        expect(rows.get_by_role("checkbox", checked=True)).to_have_count(2)
        rows.get_by_role("checkbox", checked=True).first.uncheck()
        expect(picks).to_contain_text("1 picked")
        seen.forgive("404")


def test_the_table_is_sorted_by_the_service(seen: Watched, models: dict[str, str]) -> None:
    page = seen.open("#/experiments?tag=models")
    names = page.locator("tbody th a")
    expect(names).to_have_text(["deep", "able"])
    page.get_by_role("button", name="Test accuracy").click()
    expect(names).to_have_text(["able", "deep"])
    expect(page.get_by_role("columnheader", name="Test accuracy")).to_have_attribute("aria-sort", "descending")
    page.get_by_role("button", name="Test accuracy").click()
    expect(names).to_have_text(["deep", "able"])


def test_an_empty_service_says_what_to_do(browser: Browser, idle: Served) -> None:
    with watched(browser, idle.url) as seen:
        page = seen.open()
        expect(page.get_by_text("Nothing has been trained yet.")).to_be_visible()
        subprocess.run(["sh", "-c", page.locator("pre code").text_content() or ""], check=True, capture_output=True)
        expect(page.get_by_role("link", name=re.compile("relu, depth 1"))).to_be_visible()
        page.get_by_role("link", name="Sweeps", exact=True).click()
        expect(page.get_by_text("No sweeps yet.")).to_be_visible()
        page.get_by_role("link", name="Draw a digit").click()
        expect(page.get_by_text("There is no model yet")).to_be_visible()


def test_a_missing_experiment_is_an_answer_and_no_blank_page(seen: Watched) -> None:
    page = seen.open("#/experiments/nothing")
    expect(page.get_by_role("alert")).to_contain_text("there is no such experiment")
    page.get_by_role("main").get_by_role("link", name="Experiments").click()
    expect(page.get_by_role("heading", name="Experiments")).to_be_visible()
    seen.forgive("404")


def test_nobody_asks_for_a_deleted_experiment(browser: Browser, idle: Served) -> None:
    created = idle.create(activation="relu", depth=1, name="goes")
    held: list[Route] = []

    def hold(route: Route) -> None:
        if route.request.method == "GET":
            held.append(route)
            return
        answer = route.fetch()  # it is deleted
        for one in held:
            one.fulfill(status=404, json={})
        route.fulfill(response=answer)

    with watched(browser, idle.url) as seen:
        page = seen.open(f"#/experiments/{created['id']}")
        expect(page.locator(".js-plotly-plot")).to_have_count(2)
        page.route(f"{idle.url}{created['links']['self']}", hold)
        # The events of the end come after the answer, and what they made the page ask for is still on its way.
        with page.expect_request(lambda one: one.method == "GET" and one.url.endswith(created["id"])):
            page.get_by_role("button", name="Cancel: goes").click()
        expect(page.locator("h1 + .badge")).to_have_text("cancelled")
        page.get_by_role("button", name="Delete: goes").click()
        page.get_by_role("button", name="Delete", exact=True).click()
        expect(page.get_by_role("heading", name="Experiments")).to_be_visible()
        assert idle.http.get(created["links"]["self"]).status_code == 404
        assert held  # `watched` tells whether the page heard of an answer


def test_an_experiment_that_may_not_be_deleted_is_followed_on(
    seen: Watched, trained: Service, models: dict[str, str]
) -> None:
    trained.http.put("/models/kept", json={"experiment_id": models["able"]}).raise_for_status()
    try:
        page = seen.open(f"#/experiments/{models['able']}")
        settle(page)
        page.get_by_role("button", name="Delete: able").click()
        with page.expect_response(lambda answer: "/figures/learning-curves" in answer.url):
            page.get_by_role("button", name="Delete", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("kept")
        assert points(page) == 2
    finally:
        trained.http.delete("/models/kept").raise_for_status()
    seen.forgive("409")


def test_a_double_click_repeats_an_experiment_once(browser: Browser, idle: Served) -> None:
    created = idle.create(activation="relu", depth=1, name="once")
    idle.http.post(created["links"]["cancel"]).raise_for_status()
    with watched(browser, idle.url) as seen:
        page = seen.open()
        with page.expect_response(lambda answer: answer.url.endswith("/retry")):
            page.get_by_role("button", name="Repeat: once").dblclick()
        expect(row(page, "once")).to_have_count(2)
        with page.expect_response(lambda answer: "/experiments?" in answer.url):
            pass
        assert len(idle.http.get("/experiments").json()["data"]) == 2


def test_the_table_follows_what_is_trained_by_its_events(seen: Watched, trained: Service) -> None:
    created = trained.create(activation="elu", depth=1, epochs=1000, name="streamed", tags=["streamed"])
    try:
        with seen.page.expect_request(lambda one: one.url.endswith(f"{created['id']}/events")):
            page = seen.open("#/experiments?tag=streamed")
        expect(row(page, "streamed").locator(".badge")).to_have_text("running")
        page.route("**/experiments?*", lambda route: None)  # from here on the table is not answered
        before = page.evaluate("document.querySelector('progress').value")
        page.wait_for_function("(before) => document.querySelector('progress').value > before + 2", arg=before)
        page.unroute("**/experiments?*")
    finally:
        trained.http.post(created["links"]["cancel"]).raise_for_status()
    trained.until(created["id"], lambda body: body["finished_at"] is not None)
    trained.http.delete(created["links"]["self"]).raise_for_status()
