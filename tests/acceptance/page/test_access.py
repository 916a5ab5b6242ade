"""The page of a service that asks for keys: signing in and out, and what a key does not allow."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.acceptance.conftest import Service, run, serving
from tests.acceptance.page.conftest import Watched, watched

PHONE = {"width": 360, "height": 740}


class Guarded:
    """A service that asks for keys, and its folder."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.url = service.url
        self._folder = folder
        self.admin = self.key("keeper", "admin")
        self.http = httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {self.admin}"}, timeout=30)

    def keys(self, *arguments: str) -> Any:
        done = run("keys", *arguments, "--json", "--data-dir", str(self._folder), cwd=self._folder)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def key(self, name: str, *scopes: str) -> str:
        asked = [word for scope in scopes for word in ("--scope", scope)]
        key: str = self.keys("create", "--name", name, *asked)["key"]
        return key


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, browser_path: str) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    with serving(folder, "--no-worker") as service:
        found = Guarded(service, folder)
        with found.http:
            while found.http.get("/session").json()["name"] != "keeper":
                pass
            found.http.post("/experiments", json={"activation": "relu", "depth": 1, "name": "waits"}).raise_for_status()
            yield found


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")


def serious(page: Page, axe: str) -> list[str]:
    page.evaluate(axe)
    found = page.evaluate("axe.run()")
    return [one["id"] for one in found["violations"] if one["impact"] in {"serious", "critical"}]


def refused(seen: Watched) -> None:
    """A browser complains of every 401 and 403: what these tests provoke is no fault."""
    seen.forgive("status of 401")
    seen.forgive("status of 403")


def test_one_signs_in_by_keyboard_and_out_again(browser: Browser, guarded: Guarded) -> None:
    key = guarded.key("Ada", "write", "predict")
    with watched(browser, guarded.url) as seen:
        page = seen.open("#/sweeps")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        field = page.get_by_label("API key")
        assert field.get_attribute("type") == "password"
        field.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#key-fault")).to_have_text("Enter a key.")
        sign_in(page, "nonsense")
        expect(page.locator("#key-fault")).to_contain_text("not known here")
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_be_focused()
        sign_in(page, key)
        expect(page.get_by_role("heading", name="Sweeps")).to_be_visible()
        expect(page.locator("#who")).to_have_text("Ada")
        page.reload()
        expect(page.get_by_role("heading", name="Sweeps")).to_be_visible()
        assert key not in page.evaluate(
            "document.cookie + JSON.stringify(localStorage) + document.documentElement.innerHTML"
        )
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
        expect(page.locator("#who")).to_be_empty()
        refused(seen)


def test_what_a_key_does_not_allow_is_not_offered(browser: Browser, guarded: Guarded) -> None:
    with watched(browser, guarded.url) as seen:
        page = seen.open()
        sign_in(page, guarded.key("looks", "read"))
        expect(page.get_by_role("link", name="waits")).to_be_visible()
        expect(page.get_by_role("link", name="New experiment")).to_have_count(0)
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
        page.get_by_role("link", name="waits").click()
        expect(page.get_by_role("heading", name="waits")).to_be_visible()
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
        seen.open("#/experiments/new")
        expect(page.get_by_role("alert")).to_contain_text("needs the scope write")
        seen.open("#/draw")
        expect(page.get_by_role("alert")).to_contain_text("needs the scope predict")
        refused(seen)


def test_one_who_may_write_is_offered_it(browser: Browser, guarded: Guarded) -> None:
    with watched(browser, guarded.url) as seen:
        page = seen.open()
        sign_in(page, guarded.key("writes", "write"))
        expect(page.get_by_role("link", name="New experiment")).to_be_visible()
        expect(page.get_by_role("button", name="Cancel: waits")).to_be_visible()
        refused(seen)


def test_a_long_name_fits_a_phone_and_axe_finds_no_serious_fault(browser: Browser, guarded: Guarded, axe: str) -> None:
    with watched(browser, guarded.url, viewport=PHONE) as seen:
        page = seen.open("#/sweeps")
        sign_in(page, guarded.key("long " * 19 + "name", "read"))
        expect(page.get_by_role("heading", name="Sweeps")).to_be_visible()
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert serious(page, axe) == []
        refused(seen)


def test_a_revoked_key_leads_to_signing_in_and_back(browser: Browser, guarded: Guarded) -> None:
    with watched(browser, guarded.url) as seen:
        page = seen.open("#/experiments?status=queued")
        sign_in(page, guarded.key("goes", "read"))
        expect(page.get_by_role("link", name="waits")).to_be_visible()
        guarded.keys("revoke", "goes")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        sign_in(page, guarded.key("comes", "read"))
        expect(page.get_by_role("link", name="waits")).to_be_visible()
        assert page.url.endswith("#/experiments?status=queued")
        refused(seen)


def test_a_stream_that_is_refused_leads_to_signing_in(browser: Browser, guarded: Guarded) -> None:
    with watched(browser, guarded.url) as seen:
        page = seen.open("#/sweeps/new")
        sign_in(page, guarded.key("streams", "write"))
        expect(page.get_by_role("heading", name="New sweep")).to_be_visible()
        page.context.clear_cookies()
        (one,) = guarded.http.get("/experiments", params={"status": "queued", "limit": 1}).json()["data"]
        page.evaluate(
            "(path) => import('/assets/web/live.js').then((m) => m.follow(path, {}, new AbortController().signal))",
            one["links"]["events"],
        )
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        expect(page.locator("#away")).to_be_empty()
        refused(seen)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("locale", "heading"), [("en-GB", "Sign in"), ("ja-JP", "サインイン")])
def test_signing_in_is_for_everybody(
    browser: Browser, guarded: Guarded, axe: str, scheme: Any, locale: str, heading: str
) -> None:
    with watched(browser, guarded.url, color_scheme=scheme, locale=locale, viewport=PHONE) as seen:
        page = seen.open()
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert serious(page, axe) == []
        refused(seen)


def test_the_command_that_a_view_shows_works_with_a_key(browser: Browser, guarded: Guarded) -> None:
    (waiting,) = (
        one["id"] for one in guarded.http.get("/experiments").json()["data"] if one["spec"]["name"] == "waits"
    )
    with watched(browser, guarded.url) as seen:
        page = seen.open(f"#/experiments/{waiting}")
        sign_in(page, guarded.admin)
        shown = page.locator("pre code").first
        expect(shown).to_contain_text("Authorization: Bearer $EPOCHD_API_KEY")
        environment = os.environ | {"EPOCHD_API_KEY": guarded.admin}
        done = subprocess.run(
            ["sh", "-c", shown.text_content() or ""], env=environment, capture_output=True, text=True, check=True
        )
        refused(seen)
    again = json.loads(done.stdout)
    assert again["spec"]["name"] == "waits"
    taken_back(guarded, again["id"])


def taken_back(guarded: Guarded, experiment_id: str) -> None:
    guarded.http.post(f"/experiments/{experiment_id}/cancel").raise_for_status()
    guarded.http.delete(f"/experiments/{experiment_id}").raise_for_status()


def test_the_python_that_a_view_shows_works_with_a_key(browser: Browser, guarded: Guarded) -> None:
    (waiting,) = (
        one["id"] for one in guarded.http.get("/experiments").json()["data"] if one["spec"]["name"] == "waits"
    )
    with watched(browser, guarded.url) as seen:
        page = seen.open(f"#/experiments/{waiting}")
        sign_in(page, guarded.admin)
        shown = page.locator("pre code").nth(1)
        expect(shown).to_contain_text("import httpx")
        environment = os.environ | {"EPOCHD_API_KEY": guarded.admin}
        program = [sys.executable, "-c", shown.text_content() or ""]
        done = subprocess.run(program, env=environment, capture_output=True, text=True, check=True)
        refused(seen)
    taken_back(guarded, done.stdout.strip())


def test_who_signs_in_or_out_in_one_window_does_so_in_all(browser: Browser, guarded: Guarded) -> None:
    with watched(browser, guarded.url) as seen:
        page = seen.open("#/sweeps")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        other = page.context.new_page()
        other.goto(f"{guarded.url}/")
        sign_in(other, guarded.admin)
        expect(page.get_by_role("heading", name="Sweeps")).to_be_visible()
        expect(page.locator("#who")).to_have_text("keeper")
        other.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        refused(seen)


def test_who_may_only_predict_begins_where_they_may(browser: Browser, guarded: Guarded) -> None:
    with watched(browser, guarded.url) as seen:
        page = seen.open()
        sign_in(page, guarded.key("reads digits", "predict"))
        expect(page.get_by_role("heading", name="Draw a digit")).to_be_visible()
        for name in ("Experiments", "Sweeps"):
            expect(page.get_by_role("link", name=name, exact=True)).to_have_count(0)
        refused(seen)


RETURNED_UNTIL_REFUSED = """() => {
  if (document.querySelector('#key')) return true;
  document.dispatchEvent(new Event('visibilitychange'));
  return false;
}"""


def test_what_was_typed_outlives_a_key_that_expires_meanwhile_but_no_window_that_signs_out(
    browser: Browser, guarded: Guarded
) -> None:
    with watched(browser, guarded.url) as seen:
        page = seen.open("#/experiments/new")
        sign_in(page, guarded.key("expires", "write"))
        page.get_by_label("Name").fill("half")
        guarded.keys("revoke", "expires")
        page.wait_for_function(RETURNED_UNTIL_REFUSED, polling=300)  # as whoever comes back to this window
        sign_in(page, guarded.key("lasts", "write"))
        expect(page.get_by_label("Name")).to_have_value("half")
        other = page.context.new_page()
        other.goto(f"{guarded.url}/")
        other.get_by_role("button", name="Sign out").click()
        sign_in(page, guarded.admin)
        expect(page.get_by_label("Name")).to_have_value("")
        refused(seen)


def test_that_signing_out_failed_is_told_until_the_next_view(browser: Browser, guarded: Guarded) -> None:
    with watched(browser, guarded.url) as seen:
        page = seen.open("#/sweeps")
        sign_in(page, guarded.admin)
        problem = {"status": 429, "detail": "too many requests"}
        page.route("**/session", lambda route: route.fulfill(status=429, json=problem))
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("alert")).to_have_text("too many requests")
        page.get_by_role("link", name="Experiments", exact=True).click()
        expect(page.get_by_role("heading", name="Experiments")).to_be_visible()
        expect(page.get_by_role("alert")).to_have_count(0)
        refused(seen)
        seen.forgive("429")
