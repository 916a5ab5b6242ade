"""/docs and /redoc in a real browser: they are drawn, and their policies forbid nothing that they need."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.acceptance.conftest import Service, serving
from tests.acceptance.page.conftest import watched

SCRIPT = (
    "() => document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = 1' }))"
)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, browser_path: str) -> Iterator[Service]:
    """A service without a worker that a whole module shares."""
    with serving(tmp_path_factory.mktemp("documentation"), "--no-worker") as service:
        yield service


def test_swagger_ui_is_drawn_and_sends_a_request(browser: Browser, bare: Service) -> None:
    with watched(browser, bare.url) as seen:
        seen.page.goto(f"{bare.url}/docs")
        expect(seen.page.locator(".info .title").first).to_contain_text("epochd")
        probe = seen.page.locator(".opblock", has_text="/health/live").first
        probe.locator("button.opblock-summary-control").click()
        probe.get_by_role("button", name="Try it out").click()
        probe.get_by_role("button", name="Execute").click()
        expect(probe.locator(".live-responses-table .response .response-col_status").first).to_contain_text("200")


def test_redoc_is_drawn_and_searches(browser: Browser, bare: Service) -> None:
    with watched(browser, bare.url) as seen:
        seen.page.goto(f"{bare.url}/redoc")
        expect(seen.page.locator("h1").first).to_contain_text("epochd")
        seen.page.get_by_role("searchbox").or_(seen.page.locator("input[type=text]")).first.fill("sweep")
        expect(seen.page.locator("[data-role='search:results']")).to_contain_text("sweep")
        seen.forgive("cdn.redoc.ly")  # a picture of its own that ReDoc would fetch, and the policy forbids


def test_what_is_not_the_services_own_does_not_run(browser: Browser, bare: Service) -> None:
    with watched(browser, bare.url) as seen:
        seen.page.goto(f"{bare.url}/docs")
        seen.page.evaluate(SCRIPT)
        assert seen.page.evaluate("() => window.ran") is None
        assert any("script-src" in fault for fault in seen.faults)
        seen.faults.clear()
