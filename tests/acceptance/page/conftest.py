"""The page in a real browser, before a real service."""

import asyncio
import contextlib
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Playwright,
    Request,
    expect,
    sync_playwright,
)

from tests.acceptance.conftest import Served, Service, serving
from tests.integration.conftest import Api

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
AXE = "4.14.1"
WAIT_MS = 90_000
SEVEN = [(80, 70), (200, 70), (170, 130), (140, 190), (125, 240)]
"""A digit on paper of 280 by 280."""
VIOLATIONS = (
    "addEventListener('securitypolicyviolation', (e) => console.error('policy', e.effectiveDirective, e.blockedURI))"
)

expect.set_options(timeout=WAIT_MS)


class Watched:
    """A page of a browser, and everything in it that should not have been."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.asked: list[str] = []
        self.faults: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.add_init_script(VIOLATIONS)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(f"{message.type}: {message.text}")

    def _asked(self, request: Request) -> None:
        self.asked.append(request.url)
        if not request.url.startswith((f"{self.url}/", "data:", "blob:")):
            self.faults.append(f"left the origin: {request.url}")

    def open(self, view: str = "") -> Page:
        """Show a view as if its address had been typed."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/{view}")
        expect(self.page.locator("h1")).to_be_visible()
        return self.page

    def each(self, views: Iterable[str]) -> Iterator[Page]:
        """Show one view after another, as a reader comes to them: the page, and Plotly, are loaded once."""
        first, *rest = views
        yield self.open(first)
        for view in rest:
            leave = "(view) => { document.querySelector('h1').dataset.left = ''; location.hash = view }"
            self.page.evaluate(leave, view)
            expect(self.page.locator("h1:not([data-left])")).to_be_visible()
            yield self.page

    def forgive(self, text: str) -> None:
        """What this test provokes: the browser's own complaint about it is no fault."""
        self.faults = [fault for fault in self.faults if text not in fault]


def points(page: Page, plot: int = 0, trace: int = 0) -> int:
    """Points of a line that Plotly shows."""
    found: int = page.evaluate(
        "([plot, trace]) => document.querySelectorAll('.drawn')[plot]?.data?.[trace]?.y.length ?? 0", [plot, trace]
    )
    return found


def until_points(page: Page, least: int, plot: int = 0) -> None:
    page.wait_for_function(
        "([plot, least]) => (document.querySelectorAll('.drawn')[plot]?.data?.at(-1)?.y.length ?? 0) >= least",
        arg=[plot, least],
    )


def settle(page: Page) -> None:
    """Wait until every figure of the view is drawn."""
    page.wait_for_function("() => [...document.querySelectorAll('.drawn')].every((one) => one.data?.length)")


def scroll_to(page: Page, count: int) -> None:
    """Scroll down until so many rows have come."""
    page.wait_for_function(
        "(count) => (scrollTo(0, document.body.scrollHeight), document.querySelectorAll('tbody tr').length === count)",
        arg=count,
    )


def spots(page: Page, places: list[tuple[int, int]]) -> list[tuple[float, float]]:
    """Where in the window these places of the paper are."""
    page.locator(".paper").scroll_into_view_if_needed()
    box = page.locator(".paper").bounding_box()
    assert box is not None
    return [(box["x"] + x * box["width"] / 280, box["y"] + y * box["height"] / 280) for x, y in places]


def draw_seven(page: Page) -> None:
    first, *rest = spots(page, SEVEN)
    page.mouse.move(*first)
    page.mouse.down()
    for spot in rest:
        page.mouse.move(*spot, steps=8)
    page.mouse.up()


def installed() -> str | None:
    """Where the browser is, if there is one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def launch(playwright: Playwright, path: str) -> Browser:
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


@pytest.fixture(scope="session")
def browser_path() -> str:
    """The browser that is installed; a test is skipped where there is none."""
    path = installed()
    if path is None:
        pytest.skip(f"no browser is installed: one of {', '.join(BROWSERS)} is needed")
    return path


@pytest.fixture(scope="module")
def playwright(browser_path: str) -> Iterator[Playwright]:
    """One for each module: as long as it lives an event loop runs in this thread, and nobody else can have one."""
    with sync_playwright() as playwright:
        yield playwright
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


@pytest.fixture(scope="module")
def browser(playwright: Playwright, browser_path: str) -> Iterator[Browser]:
    browser = launch(playwright, browser_path)
    yield browser
    browser.close()


@contextlib.contextmanager
def watched(browser: Browser, url: str, **options: Any) -> Iterator[Watched]:
    """A page in a profile of its own. At the end nothing may have gone wrong in it."""
    defaults: dict[str, Any] = {"locale": "en-GB", "reduced_motion": "reduce"}
    context: BrowserContext = browser.new_context(**defaults | options)
    try:
        found = Watched(context.new_page(), url)
        yield found
        assert found.faults == []
    finally:
        context.close()


def data_folder(root: Path, mnist_dir: Path) -> Path:
    (root / "datasets").mkdir()
    (root / "datasets" / "mnist.npz").hardlink_to(mnist_dir / "mnist.npz")
    return root


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, mnist_dir: Path, browser_path: str) -> Iterator[Service]:
    """A service with a worker and two models: ReLU, one layer, two epochs; and sigmoid, three layers, one."""
    with serving(data_folder(tmp_path_factory.mktemp("page"), mnist_dir)) as service:
        relu = service.create(activation="relu", depth=1, epochs=2, name="able", tags=["models"])
        sigmoid = service.create(activation="sigmoid", depth=3, epochs=1, name="deep", tags=["models"])
        for one in (relu, sigmoid):
            service.succeeded(one["id"])
        yield service


@pytest.fixture(scope="session")
def models(trained: Service) -> dict[str, str]:
    """Ids of the two models, by name."""
    found = trained.http.get("/experiments", params={"tag": "models"}).json()["data"]
    return {one["spec"]["name"]: one["id"] for one in found}


@pytest.fixture
def idle(api: Api, browser_path: str) -> Iterator[Served]:
    """A service without a worker: what is queued stays queued."""
    served = Served(str(api.base_url))
    with served.http:
        yield served


@pytest.fixture
def seen(browser: Browser, trained: Service) -> Iterator[Watched]:
    """The page of the service with models, on a desk."""
    with watched(browser, trained.url, viewport={"width": 1280, "height": 900}) as found:
        yield found


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, fetched once for a virtual environment."""
    folder = Path(sys.prefix) / "data" / "axe-core"
    archive = folder / f"axe-core-{AXE}.tgz"
    if not archive.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("axe-core cannot be fetched: there is no npm")
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "pack", "--silent", f"axe-core@{AXE}", "--pack-destination", str(folder)]
        fetched = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if fetched.returncode or not archive.exists():
            pytest.skip(f"axe-core cannot be fetched: {fetched.stderr.strip()[-200:]}")
    with tarfile.open(archive) as files:
        member = files.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()
