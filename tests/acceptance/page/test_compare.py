"""Comparing experiments: some are deleted, some have the same name, and there may be too many."""

import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.acceptance.conftest import Served, Service
from tests.acceptance.page.conftest import Watched, points, until_points, watched


@pytest.fixture
def desk(browser: Browser, idle: Served) -> Iterator[Watched]:
    """The page of a service that trains nothing."""
    with watched(browser, idle.url) as found:
        yield found


def queued(service: Served, **spec: object) -> str:
    experiment_id: str = service.create(**{"activation": "relu", "depth": 1} | spec)["id"]
    return experiment_id


def delete(service: Served, experiment_id: str) -> None:
    service.http.post(f"/experiments/{experiment_id}/cancel").raise_for_status()
    service.http.delete(f"/experiments/{experiment_id}").raise_for_status()


def links(seen: Watched) -> Locator:
    return seen.page.get_by_role("region", name="Comparison").locator("tbody a")


def traces(seen: Watched) -> list[str]:
    names: list[str] = seen.page.evaluate("document.querySelector('.drawn').data.map((one) => one.name)")
    return names


def test_what_is_gone_is_named_and_the_rest_is_compared(desk: Watched, idle: Served) -> None:
    first, second, third = (queued(idle, name=name) for name in ("alpha", "beta", "gamma"))
    delete(idle, third)
    page = desk.open(f"#/compare?ids={third},{first},{second}")
    expect(links(desk)).to_have_text(["alpha", "beta"])
    expect(page.get_by_text(f"No longer there: …{third[-4:]}.")).to_be_visible()

    links(desk).first.focus()
    delete(idle, first)
    expect(links(desk)).to_have_text(["beta"])
    expect(page.get_by_role("region", name="Comparison")).to_be_focused()
    expect(page.get_by_text(f"No longer there: …{third[-4:]}, alpha.")).to_be_visible()
    page.wait_for_function("() => document.querySelector('.drawn').data?.length === 1")
    idle.http.post(f"/experiments/{second}/cancel").raise_for_status()
    expect(page.locator(".badge")).to_have_text("cancelled")  # it was asked for further on
    desk.forgive("404")


def test_nothing_is_left_to_compare(desk: Watched, idle: Served) -> None:
    only = queued(idle, name="alpha")
    page = desk.open(f"#/compare?ids={only},{uuid.uuid4()}")
    expect(links(desk)).to_have_text(["alpha"])
    delete(idle, only)
    expect(page.get_by_text("Pick experiments in the table")).to_be_visible()
    expect(page.get_by_text("alpha.")).to_be_visible()
    expect(page.get_by_role("heading", name="Comparison")).to_be_visible()
    expect(page.locator(".figure")).to_have_count(0)
    desk.forgive("404")


def test_names_that_repeat_are_told_apart(desk: Watched, idle: Served) -> None:
    same = [{"seed": 1}, {"seed": 2}, {"seed": 2}]
    ids = [queued(idle, name="same", **spec) for spec in same] + [queued(idle, name="other", depth=2)]
    desk.open(f"#/compare?ids={','.join(ids)}")
    labels = ["same (seed 1)", f"same (seed 2, …{ids[1][-4:]})", f"same (seed 2, …{ids[2][-4:]})", "other"]
    expect(links(desk)).to_have_text(labels)
    desk.page.wait_for_function("() => document.querySelector('.drawn').data?.length === 4")
    assert traces(desk) == labels


def test_the_table_keeps_its_focus_and_its_scroll(browser: Browser, idle: Served) -> None:
    ids = [queued(idle, name=f"a long name without end {at}", seed=at) for at in range(2)]
    with watched(browser, idle.url, viewport={"width": 360, "height": 740}) as seen:
        page = seen.open(f"#/compare?ids={','.join(ids)}")
        expect(links(seen)).to_have_count(2)
        links(seen).last.focus()
        table = page.get_by_role("region", name="Comparison")
        table.evaluate("(one) => { one.scrollLeft = 40; }")
        assert table.evaluate("(one) => one.scrollLeft") == 40
        for _ in range(3):
            with page.expect_response(lambda response: response.url.endswith(f"/experiments/{ids[1]}")):
                pass
        idle.http.post(f"/experiments/{ids[0]}/cancel").raise_for_status()
        expect(page.locator(".badge").first).to_have_text("cancelled")
        expect(links(seen).last).to_be_focused()
        assert table.evaluate("(one) => one.scrollLeft") == 40


def test_more_than_can_be_told_apart_are_counted(desk: Watched, idle: Served) -> None:
    answer = idle.http.post("/sweeps", json={"base": {"activation": "relu", "depth": 1}, "seeds": 30})
    sweep = answer.raise_for_status().json()["id"]
    members = idle.http.get("/experiments", params={"sweep_id": sweep, "limit": 200}).json()["data"]
    page = desk.open(f"#/compare?ids={','.join(one['id'] for one in members)}")
    expect(links(desk)).to_have_count(28)
    expect(page.get_by_text("28 of 30 are shown.")).to_be_visible()


def visible(seen: Watched) -> list[object]:
    shown: list[object] = seen.page.evaluate(
        "document.querySelector('.drawn')._fullData.map((one) => [one.name, one.visible])"
    )
    return shown


def test_a_curve_that_was_hidden_stays_hidden_while_others_grow_or_go(
    browser: Browser, trained: Service, models: dict[str, str]
) -> None:
    grows = trained.create(activation="selu", depth=1, epochs=1000, name="grows")
    goes = trained.create(activation="selu", depth=2, epochs=1000, name="goes")
    try:
        with watched(browser, trained.url) as seen:
            page = seen.open(f"#/compare?ids={goes['id']},{models['able']},{grows['id']}")
            until_points(page, 1)
            page.locator(".drawn").first.locator(".traces", has_text="able").locator(".legendtoggle").click()
            page.wait_for_function(
                "() => document.querySelector('.drawn')._fullData.some((one) => one.visible === 'legendonly')"
            )
            until_points(page, points(page, trace=2) + 2)
            assert ["able", "legendonly"] in visible(seen)
            delete(trained, goes["id"])
            page.wait_for_function("() => document.querySelector('.drawn').data.length === 2")
            assert visible(seen) == [["able", "legendonly"], ["grows", True]]
            seen.forgive("404")
    finally:
        trained.http.post(grows["links"]["cancel"]).raise_for_status()
        trained.until(grows["id"], lambda body: body["finished_at"] is not None)
        trained.http.delete(grows["links"]["self"]).raise_for_status()
