"""The page's views as files for the documentation: `python -m tests.acceptance.page.pictures [FOLDER]`.

Trains what there is to see in a service of its own, and takes each view in light and dark colours and on a phone, and
some in Japanese. A font that has its letters must be installed for these.
"""

import io
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from service import datasets
from tests.acceptance.conftest import Service, run, serving
from tests.acceptance.page.conftest import BROWSERS, data_folder, draw_seven, installed, launch, settle, watched
from tests.conftest import DATASETS

FOLDER = Path(__file__).parents[3] / "docs" / "images"
MOST_BYTES = 150_000
DESK = {"width": 1280, "height": 860}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": DESK},
    "dark": {"viewport": DESK, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2},
    "japanese": {"viewport": DESK, "locale": "ja-JP"},
}

JAPANESE = {"experiments", "draw"}


def prepare(service: Service) -> dict[str, str]:
    """Train what is shown: the address of each view."""
    grid = {"activation": ["sigmoid", "relu"], "depth": [1, 2, 3]}
    asked = {"base": {"epochs": 5}, "grid": grid, "seeds": 5, "name": "Does depth hurt?"}
    sweep = service.http.post("/sweeps", json=asked).raise_for_status().json()
    pair = [service.create(activation=one, depth=3, epochs=12, seed=9, tags=["article"]) for one in ("sigmoid", "relu")]
    members = service.http.get("/experiments", params={"limit": 200}).raise_for_status().json()["data"]
    for one in members:
        service.succeeded(one["id"])
    for activation in ("gelu", "tanh"):
        long = service.create(activation=activation, depth=2, epochs=1000, name=f"{activation}, for long")
        service.until(long["id"], lambda body: body["progress"]["epoch"] >= 30)
    ids = ",".join(one["id"] for one in pair)
    return {
        "experiments": "#/experiments",
        "experiment": f"#/experiments/{pair[0]['id']}",
        "comparison": f"#/compare?ids={ids}",
        "sweep": f"#/sweeps/{sweep['id']}",
        "new-experiment": "#/experiments/new",
        "new-sweep": "#/sweeps/new",
        "draw": f"#/draw?model={ids}",
    }


def arrange(page: Page, name: str) -> None:
    """What a reader would have done before the picture."""
    settle(page)
    if name == "experiments":
        expect(page.locator("tbody tr").nth(33)).to_be_visible()
        for box in page.get_by_role("checkbox").all()[2:4]:
            box.check()
        page.evaluate("() => scrollTo(0, 0)")
    if name == "new-experiment":
        page.locator("[name=activation]").select_option("relu")
        page.locator("[name=depth]").fill("3")
        expect(page.locator(".plan")).to_contain_text("13,274")
    if name == "new-sweep":
        expect(page.locator(".plan")).to_contain_text("30")
    if name == "draw":
        draw_seven(page)
        expect(page.locator(".digit").last).to_have_text("7")
        page.evaluate("() => scrollTo(0, 0)")


def take(browser: Browser, service: Service) -> Iterator[tuple[str, bytes]]:
    views = prepare(service)
    for look, options in LOOKS.items():
        for name, view in views.items():
            if look == "japanese" and name not in JAPANESE:
                continue
            with watched(browser, service.url, **options) as seen:
                page = seen.open(view)
                arrange(page, name)
                yield f"{name}-{look}.png", page.screenshot()


def take_signing_in(browser: Browser, service: Service, folder: Path) -> Iterator[tuple[str, bytes]]:
    """The same service from its first key on."""
    done = run("keys", "create", "--name", "owner", "--scope", "admin", "--data-dir", str(folder), cwd=folder)
    assert done.returncode == 0, done.stderr
    while not service.http.get("/session").json()["asks_for_key"]:
        pass
    for look, options in LOOKS.items():
        with watched(browser, service.url, **options) as seen:
            page = seen.open("#/experiments")
            expect(page.locator("#key")).to_be_visible()
            yield f"sign-in-{look}.png", page.screenshot()
            seen.forgive("status of 401")


def small(png: bytes) -> bytes:
    """The same in 128 colours: a third of the bytes, and no difference that is seen."""
    file = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def main(folder: Path) -> None:
    path = installed()
    if path is None:
        sys.exit(f"pictures: no browser is installed: one of {', '.join(BROWSERS)} is needed")
    datasets.load("mnist", DATASETS)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as root, sync_playwright() as playwright:
        browser = launch(playwright, path)
        data_dir = data_folder(Path(root), DATASETS)
        with serving(data_dir, EPOCHD_SLOTS="2") as service:
            for name, png in chain(take(browser, service), take_signing_in(browser, service, data_dir)):
                data = small(png)
                assert len(data) < MOST_BYTES, (name, len(data))
                (folder / name).write_bytes(data)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
