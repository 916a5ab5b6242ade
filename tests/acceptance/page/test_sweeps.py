"""The page's sweeps: the list, and one of them."""

from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from service.analysis.comparison import compare
from service.domain.comparison import Run
from service.domain.experiment import Status
from service.domain.sweep import Arm
from tests.acceptance.conftest import Served, Service
from tests.acceptance.page.conftest import Watched, until_points, watched


def test_a_sweep_is_followed_compared_and_deleted(seen: Watched, trained: Service) -> None:
    asked = {
        "base": {"epochs": 1},
        "grid": {"activation": ["sigmoid", "relu"], "depth": [1, 2]},
        "seeds": 2,
        "name": "small",
    }
    sweep = trained.http.post("/sweeps", json=asked).raise_for_status().json()
    page = seen.open("#/sweeps")
    page.get_by_role("link", name="small").click()
    expect(page.get_by_role("heading", name="small")).to_be_visible()
    expect(page.locator("h1 + .badge")).to_have_text("finished")
    expect(page.get_by_text("8 of 8 done")).to_be_visible()

    found = trained.http.get(sweep["links"]["comparison"]).json()
    expect(page.locator(".reading")).to_have_text(found["reading"][0].upper() + found["reading"][1:])
    arms = page.get_by_role("region", name="Comparison").locator("tbody tr")
    expect(arms).to_have_count(4)
    best = found["arms"][0]
    expect(arms.first).to_contain_text(best["label"])
    expect(arms.first).to_contain_text(f"{best['accuracy']['mean']:.4f}")
    page.locator("summary").click()
    expect(page.get_by_role("region", name="Differences").locator("tbody tr")).to_have_count(len(found["pairs"]))
    for plot in range(4):
        until_points(page, 1, plot=plot)
    expect(page.get_by_role("figure", name="Accuracy by depth")).to_be_visible()
    intervals = page.evaluate("document.querySelector('.drawn').data.some((one) => one.error_y?.array.length)")
    assert intervals

    page.get_by_role("link", name="Its experiments").click()
    expect(page.locator("tbody tr")).to_have_count(8)
    page.get_by_role("link", name="The experiments of one sweep").click()
    expect(page.get_by_role("heading", name="small", exact=True)).to_be_visible()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("dialog")).to_contain_text("Delete small, with its 8 experiments?")
    page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("heading", name="Sweeps")).to_be_visible()
    assert trained.http.get(sweep["links"]["self"]).status_code == 404


def test_a_sweep_is_cancelled(seen: Watched, trained: Service) -> None:
    asked = {"base": {"activation": "tanh", "depth": 1, "epochs": 1000}, "seeds": 2, "name": "long"}
    sweep = trained.http.post("/sweeps", json=asked).raise_for_status().json()
    page = seen.open(f"#/sweeps/{sweep['id']}")
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.get_by_text("cancelled 2")).to_be_visible()
    expect(page.get_by_role("button", name="Delete", exact=True)).to_be_visible()


def queued(idle: Served, **asked: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A sweep over seeds and its experiments."""
    sweep = idle.http.post("/sweeps", json={"base": {"activation": "relu", "depth": 1}} | asked).raise_for_status()
    created: dict[str, Any] = sweep.json()
    found = idle.http.get("/experiments", params={"sweep_id": created["id"]}).json()["data"]
    return created, found


def test_a_link_of_a_sweep_in_the_list_is_not_replaced_under_the_finger(browser: Browser, idle: Served) -> None:
    _, runs = queued(idle, seeds=3, name="long")
    with watched(browser, idle.url) as seen:
        page = seen.open("#/sweeps")
        page.get_by_role("link", name="long").hover()
        page.mouse.down()
        idle.http.post(runs[0]["links"]["cancel"]).raise_for_status()
        expect(page.get_by_text("1 of 3 done")).to_be_visible()
        page.mouse.up()
        expect(page.get_by_role("heading", name="long", exact=True)).to_be_visible()


def test_what_can_be_pressed_of_a_sweep_is_not_replaced_under_the_finger(browser: Browser, idle: Served) -> None:
    sweep, runs = queued(idle, seeds=4, name="long")
    with watched(browser, idle.url) as seen:
        page = seen.open(f"#/sweeps/{sweep['id']}")
        page.get_by_role("link", name="Its experiments").hover()
        page.mouse.down()
        idle.http.post(runs[0]["links"]["cancel"]).raise_for_status()
        expect(page.get_by_text("1 of 4 done")).to_be_visible()
        page.mouse.up()
        expect(page.get_by_role("heading", name="Experiments")).to_be_visible()
        page.go_back()
        page.get_by_role("button", name="Cancel", exact=True).hover()
        page.mouse.down()
        idle.http.post(runs[1]["links"]["cancel"]).raise_for_status()
        expect(page.get_by_text("2 of 4 done")).to_be_visible()
        page.mouse.up()
        expect(page.locator("h1 + .badge")).to_have_text("finished")
        expect(page.get_by_role("button", name="Cancel", exact=True)).to_have_count(0)
        expect(page.get_by_role("button", name="Delete", exact=True)).to_be_visible()


def test_a_sweep_without_a_name_that_anybody_sees_is_called_by_what_it_trains(browser: Browser, idle: Served) -> None:
    queued(idle, seeds=5)
    queued(idle, base={"activation": "gelu"}, grid={"depth": [1, 2]}, name="\u200b \u202e")
    with watched(browser, idle.url) as seen:
        page = seen.open("#/sweeps")
        expect(page.locator("tbody th a")).to_have_text(["Depth 1, 2", "relu, depth 1"])
        page.get_by_role("link", name="relu, depth 1").click()
        expect(page).to_have_title("relu, depth 1 \u00b7 epochd")
        page.get_by_role("button", name="Cancel", exact=True).click()
        page.get_by_role("button", name="Delete", exact=True).click()
        expect(page.get_by_role("dialog")).to_contain_text("Delete relu, depth 1, with its 5 experiments?")


def test_a_finished_sweep_is_followed_when_it_goes_on_and_when_it_is_deleted_elsewhere(
    browser: Browser, idle: Served
) -> None:
    sweep, runs = queued(idle, seeds=2, name="done")
    idle.http.post(sweep["links"]["cancel"]).raise_for_status()
    with watched(browser, idle.url) as seen:
        page = seen.open(f"#/sweeps/{sweep['id']}")
        expect(page.locator("h1 + .badge")).to_have_text("finished")
        expect(page.get_by_role("button", name="Delete", exact=True)).to_be_visible()
        idle.http.post(runs[0]["links"]["retry"]).raise_for_status()
        expect(page.get_by_text("2 of 3 done")).to_be_visible()
        expect(page.locator("h1 + .badge")).not_to_have_text("finished")
        idle.http.post(sweep["links"]["cancel"]).raise_for_status()
        idle.http.delete(sweep["links"]["self"]).raise_for_status()
        expect(page.get_by_role("alert")).to_have_text("done is deleted.")
        expect(page.get_by_role("link", name="Its experiments")).to_have_count(0)
        expect(page.get_by_role("button", name="Delete", exact=True)).to_have_count(0)
        seen.forgive("404")


def result(activation: str, seed: int, accuracy: float | None) -> Run:
    """An experiment's test accuracy; None where it failed."""
    arm = Arm(label=f"activation {activation}, depth 2", values={"activation": activation, "depth": 2})
    status = Status.FAILED if accuracy is None else Status.SUCCEEDED
    return Run(arm=arm, seed=seed, shuffle_seed=0, status=status, test_accuracy=accuracy)


@pytest.mark.parametrize(
    ("relu", "sigmoid", "sentence"),
    [
        (
            [0.95, 0.96, 0.94],
            [0.50, 0.60, 0.55],
            (
                "3シードで比べると、relu, 深さ2 は sigmoid, 深さ2 より多くのテスト画像を正しく読みました。"
                "差は 0.4000(95%信頼区間 0.2862〜0.5138)、3シード中3シードで上回り、"
                "偶然では説明できません(Holm補正後 p = 0.0043)。"
            ),
        ),
        (
            [0.95, 0.90, None],
            [0.90, 0.91, 0.92],
            (
                "2シードでは、relu, 深さ2 と sigmoid, 深さ2 に差があるとは言えません。"
                "差は 0.0200(95%信頼区間 -0.3612〜0.4012)、2シード中1シードで上回りましたが、"
                "偶然でも説明できます(Holm補正後 p = 0.63)。失敗した1件と中止した0件は、平均に含まれません。"
            ),
        ),
        ([0.95], [0.50], None),
    ],
    ids=["better", "not told apart", "one seed"],
)
def test_which_arm_is_better_is_said_in_japanese(
    browser: Browser, idle: Served, relu: list[float | None], sigmoid: list[float | None], sentence: str | None
) -> None:
    sweep, _ = queued(idle, base={}, grid={"activation": ["relu", "sigmoid"], "depth": [2]})
    runs = [
        result(name, seed, one) for name, arm in (("relu", relu), ("sigmoid", sigmoid)) for seed, one in enumerate(arm)
    ]
    found = compare(runs)
    with watched(browser, idle.url, locale="ja-JP") as seen:
        seen.page.route(
            f"**{sweep['links']['comparison']}", lambda one: one.fulfill(json=found.model_dump(mode="json"))
        )
        reading = seen.open(f"#/sweeps/{sweep['id']}").locator(".reading")
        # What is rare is said by the API, in its own words.
        expect(reading).to_have_text(sentence or found.reading)
        expect(reading).to_have_attribute("lang", "ja" if sentence else "en")
