"""Drawing: what models read while a digit is drawn, and in pictures."""

import base64
import io
import json
import re
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from service import datasets
from tests.acceptance.conftest import Service
from tests.acceptance.page.conftest import SEVEN, Watched, draw_seven, spots, watched

DASH = "\N{EN DASH}"
PADDING = b"\0" * (11 * 2**20)
"""Behind a picture it is no part of it, and makes it larger than the API takes."""
HELD = """
  globalThis.held = [];
  globalThis.freed = 0;
  const decode = globalThis.createImageBitmap;
  globalThis.createImageBitmap = async (...given) => {
    const image = await decode(...given);
    await new Promise((resolve) => held.push(resolve));
    const close = image.close.bind(image);
    image.close = () => { freed += 1; close(); };
    return image;
  };
"""
"""Pictures are decoded when the test says so."""


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(image: np.ndarray) -> bytes:
    return encoded(Image.fromarray(image))


def choose(page: Page, picture: bytes, kind: str = "png") -> None:
    given = {"name": f"digit.{kind}", "mimeType": f"image/{kind}", "buffer": picture}
    page.get_by_label("Choose a picture").set_input_files(given)  # type: ignore[arg-type]


def inked(page: Page) -> int:
    """Pixels of the paper that are not white."""
    found: int = page.evaluate(
        """() => {
          const paper = document.querySelector(".paper");
          const { data } = paper.getContext("2d").getImageData(0, 0, paper.width, paper.height);
          return data.filter((value, at) => at % 4 === 0 && value < 200).length;
        }"""
    )
    return found


def release(page: Page, which: int) -> None:
    """Let a picture be decoded, and what waits for it go on."""
    page.wait_for_function("(which) => held.length > which", arg=which)
    page.evaluate("(which) => { held[which](); return new Promise((resolve) => setTimeout(resolve, 100)); }", which)


def moved(page: Page, kind: str, place: str, picture: bytes) -> bool:
    """Drag a file over a place, drop it or paste it there: whether the browser would do with it what it does."""
    left: bool = page.evaluate(
        """([kind, place, text]) => {
          const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], "digit.png", { type: "image/png" }));
          const event = kind === "paste"
            ? new ClipboardEvent(kind, { clipboardData: data, bubbles: true })
            : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
          return document.querySelector(place).dispatchEvent(event);
        }""",
        [kind, place, base64.b64encode(picture).decode()],
    )
    return left


@pytest.fixture(scope="module")
def digit(mnist: datasets.Arrays, trained: Service, models: dict[str, str]) -> tuple[bytes, str]:
    """A picture of the test set, and what the able model reads in it."""
    picture = png(mnist.x_test[0])
    answer = trained.http.post(
        "/predict", params={"model": models["able"]}, content=picture, headers={"Content-Type": "image/png"}
    )
    return picture, answer.raise_for_status().json()["predictions"][0]["label"]


def test_a_seven_is_drawn_and_read_while_it_is_drawn(seen: Watched, models: dict[str, str]) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    first, second, *rest = spots(page, SEVEN)
    page.mouse.move(*first)
    page.mouse.down()
    page.mouse.move(*second, steps=8)
    expect(page.locator(".digit")).not_to_have_text("?")  # the pen is still down
    for spot in rest:
        page.mouse.move(*spot, steps=8)
    page.mouse.up()
    expect(page.locator(".digit")).to_have_text("7")
    expect(page.locator(".bars .best")).to_contain_text("7")
    lit = page.evaluate(
        "document.querySelector('.seen').getContext('2d').getImageData(0, 0, 28, 28).data.filter((v) => v > 200).length"
    )
    assert lit > 784 + 20  # alpha is 255 everywhere; the rest is ink
    page.get_by_role("button", name="Wipe").click()
    expect(page.locator(".digit")).to_have_text("?")


def test_models_read_the_same_drawing_side_by_side(seen: Watched, models: dict[str, str]) -> None:
    page = seen.open(f"#/draw?model={models['able']},{models['deep']}")
    headings = page.locator(".answer h2")
    expect(headings).to_have_count(2)
    expect(headings.first).to_contain_text("able")
    expect(headings.last).to_contain_text("deep")
    with page.expect_response(lambda response: "/predict?" in response.url):
        draw_seven(page)
    expect(page.locator(".digit").first).to_have_text("7")
    expect(page.locator(".digit").last).not_to_have_text("?")
    page.get_by_role("button", name="Remove model 2").click()
    expect(headings).to_have_count(1)
    expect(page.locator(".digit")).to_have_text("7")
    page.get_by_role("button", name="Add a model").click()
    expect(headings).to_have_count(2)


def test_the_bars_are_what_the_api_answers(seen: Watched, models: dict[str, str], digit: tuple[bytes, str]) -> None:
    page = seen.open(f"#/draw?model={models['deep']}")
    with page.expect_response(lambda response: "/predict?" in response.url) as answer:
        choose(page, digit[0])
    expect(page.locator(".digit")).not_to_have_text("?")
    widths = page.locator(".fill").evaluate_all("all => all.map((one) => parseFloat(one.style.width))")
    (prediction,) = answer.value.json()["predictions"]
    assert widths == pytest.approx([100 * share for share in prediction["probabilities"]], abs=0.01)
    shown = page.evaluate("[...document.querySelector('.seen').getContext('2d').getImageData(0, 0, 28, 28).data]")
    assert shown[::4] == np.ravel(prediction.get("pixels") or prediction["explanation"]["pixels"]).tolist()


def test_a_finger_draws(browser: Browser, trained: Service, models: dict[str, str]) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with watched(browser, trained.url, **phone) as seen:
        page = seen.open(f"#/draw?model={models['able']}")
        touches = page.context.new_cdp_session(page)
        first, *rest = spots(page, SEVEN)

        def touch(kind: str, *at: tuple[float, float]) -> None:
            points = [{"x": x, "y": y} for x, y in at]
            touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touch("touchStart", first)
        start = first
        for spot in rest:
            for step in range(1, 9):
                touch("touchMove", tuple(a + (b - a) * step / 8 for a, b in zip(start, spot, strict=True)))  # type: ignore[arg-type]
            start = spot
        touch("touchEnd")
        expect(page.locator(".digit")).to_have_text("7")


def test_a_pen_draws(seen: Watched, models: dict[str, str]) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    pen = page.context.new_cdp_session(page)

    def move(kind: str, at: tuple[float, float]) -> None:
        held = {"button": "left", "buttons": 1, "clickCount": 1, "pointerType": "pen", "force": 0.5}
        pen.send("Input.dispatchMouseEvent", {"type": kind, "x": at[0], "y": at[1]} | held)

    start, *rest = spots(page, SEVEN)
    move("mousePressed", start)
    for spot in rest:
        for step in range(1, 9):
            move("mouseMoved", tuple(a + (b - a) * step / 8 for a, b in zip(start, spot, strict=True)))  # type: ignore[arg-type]
        start = spot
    move("mouseReleased", start)
    expect(page.locator(".digit")).to_have_text("7")


def test_the_keyboard_draws(seen: Watched, models: dict[str, str]) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    page.locator(".paper").focus()
    for _ in range(12):
        page.keyboard.press("Shift+ArrowDown")
    expect(page.locator(".digit")).not_to_have_text("?")
    page.keyboard.press("Delete")
    expect(page.locator(".digit")).to_have_text("?")


def test_keys_that_are_the_browser_s_are_left_to_it(seen: Watched, models: dict[str, str]) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    page.locator(".paper").focus()
    page.evaluate(
        "() => { globalThis.taken = []; addEventListener('keydown', (e) => taken.push(e.defaultPrevented)); }"
    )
    before = page.locator(".desk").get_attribute("style")
    for other in ("altKey", "ctrlKey", "metaKey"):
        page.locator(".paper").dispatch_event("keydown", {"key": "ArrowLeft", other: True})
    assert page.evaluate("taken") == [False] * 3
    assert page.locator(".desk").get_attribute("style") == before
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("taken.at(-1)") is True
    assert page.locator(".desk").get_attribute("style") != before


def test_a_picture_is_chosen(seen: Watched, models: dict[str, str], digit: tuple[bytes, str], tmp_path: Path) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    choose(page, digit[0])
    expect(page.locator(".digit")).to_have_text(digit[1])
    choose(page, b"no picture")
    expect(page.get_by_role("alert").first).to_contain_text("no PNG, JPEG, WebP, BMP, GIF or TIFF picture")
    seen.forgive("422")


def test_a_picture_is_pasted(seen: Watched, models: dict[str, str], digit: tuple[bytes, str]) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    moved(page, "paste", ".paper", digit[0])
    expect(page.locator(".digit")).to_have_text(digit[1])


def test_what_is_pasted_and_is_no_picture_is_said(seen: Watched, models: dict[str, str]) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.setData("text/plain", "seven");
          const event = new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
          document.querySelector(".paper").dispatchEvent(event);
        }"""
    )
    expect(page.get_by_role("alert").first).to_contain_text("That is no picture")
    draw_seven(page)
    expect(page.locator(".digit")).to_have_text("7")
    expect(page.get_by_text("That is no picture")).to_have_count(0)


def test_a_failed_reading_does_not_leave_the_last_answer_standing(
    seen: Watched, models: dict[str, str], digit: tuple[bytes, str]
) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    draw_seven(page)
    expect(page.locator(".digit")).to_have_text("7")
    choose(page, b"no picture")
    expect(page.locator(".digit")).to_have_text("?")
    seen.forgive("422")


def test_a_wipe_while_a_picture_is_decoded_wins(
    seen: Watched, models: dict[str, str], digit: tuple[bytes, str]
) -> None:
    seen.page.add_init_script(HELD)
    page = seen.open(f"#/draw?model={models['able']}")
    choose(page, digit[0])
    page.get_by_role("button", name="Wipe").click()
    release(page, 0)
    assert inked(page) == 0
    assert page.evaluate("freed") == 1
    expect(page.locator(".answer")).to_contain_text("nothing drawn yet")


def test_the_last_picture_wins_whichever_is_decoded_first(
    seen: Watched, models: dict[str, str], digit: tuple[bytes, str]
) -> None:
    seen.page.add_init_script(HELD)
    page = seen.open(f"#/draw?model={models['able']}")
    blank = png(np.full((300, 300), 255, dtype=np.uint8))
    choose(page, digit[0])
    choose(page, blank)
    release(page, 1)
    expect(page.get_by_role("alert").first).to_contain_text("ink")
    release(page, 0)
    assert inked(page) == 0
    assert page.evaluate("freed") == 2
    expect(page.locator(".digit")).to_have_text("?")
    seen.forgive("422")


def test_a_model_that_is_gone_is_named_and_the_others_answer(
    seen: Watched, trained: Service, models: dict[str, str]
) -> None:
    goes = trained.create(activation="tanh", depth=1, epochs=1, name="goes")["id"]
    trained.succeeded(goes)
    page = seen.open(f"#/draw?model={goes},{models['able']}")
    expect(page.locator(".answer")).to_have_count(2)
    trained.http.delete(f"/experiments/{goes}").raise_for_status()
    draw_seven(page)
    expect(page.get_by_role("status").filter(has_text="No longer there: goes.")).to_be_visible()
    expect(page.locator(".answer h2")).to_have_count(1)
    expect(page.locator(".digit")).to_have_text("7")
    expect(page.locator("select option", has_text="goes")).to_have_count(0)
    expect(page.get_by_role("alert").filter(has_text=re.compile("."))).to_have_count(0)
    assert page.url.endswith(f"#/draw?model={models['able']}")
    seen.forgive("404")


def test_a_link_to_a_model_that_is_gone_opens_with_the_rest(seen: Watched, models: dict[str, str]) -> None:
    gone = str(uuid.uuid4())
    page = seen.open(f"#/draw?model={gone},{models['deep']}")
    expect(page.locator(".answer h2")).to_have_count(1)
    expect(page.locator(".answer h2")).to_contain_text("deep")
    expect(page.get_by_text(f"No longer there: …{gone[-4:]}.")).to_be_visible()
    seen.open(f"#/draw?model={gone}")
    expect(page.get_by_text(f"No longer there: …{gone[-4:]}.")).to_be_visible()
    expect(page.locator(".answer h2")).to_contain_text("best")
    seen.forgive("404")


def test_models_of_one_name_are_told_apart(seen: Watched, trained: Service, models: dict[str, str]) -> None:
    able = models["able"]
    trained.http.put("/models/able", json={"experiment_id": models["deep"]}).raise_for_status()
    try:
        page = seen.open(f"#/draw?model={able},able,{models['deep']}")
        expect(page.locator(".answer h2")).to_have_text(
            [re.compile(rf"^able …{able[-4:]} \("), re.compile(r"^able \("), re.compile(r"^deep \(")]
        )
        expect(page.locator("select").first.locator("option", has_text=f"able …{able[-4:]} (")).to_have_count(1)
    finally:
        trained.http.delete("/models/able").raise_for_status()


def test_more_models_than_are_shown_are_counted(seen: Watched, trained: Service, models: dict[str, str]) -> None:
    names = [f"named-{at}" for at in range(4)]
    for name in names:
        trained.http.put(f"/models/{name}", json={"experiment_id": models["able"]}).raise_for_status()
    page = seen.open(f"#/draw?model={','.join([*names, *models.values()])}")
    expect(page.locator(".answer")).to_have_count(4)
    expect(page.get_by_text("4 of 6 are shown.")).to_be_visible()
    for name in names:
        trained.http.delete(f"/models/{name}").raise_for_status()


@pytest.mark.parametrize("colours", ["none", "active"])
def test_the_pen_is_seen_while_the_keyboard_draws(
    browser: Browser, trained: Service, models: dict[str, str], colours: Any
) -> None:
    with watched(browser, trained.url, forced_colors=colours) as seen:
        page = seen.open(f"#/draw?model={models['able']}")
        pen = page.locator(".pen")
        expect(pen).to_be_hidden()
        page.mouse.click(*spots(page, [(20, 20)])[0])
        expect(pen).to_be_hidden()
        page.get_by_role("button", name="Wipe").focus()
        page.keyboard.press("Shift+Tab")
        expect(page.locator(".paper")).to_be_focused()
        expect(pen).to_be_visible()
        for key in ("Delete", "ArrowLeft", "ArrowDown"):
            page.keyboard.press(key)
        paper, ring = page.locator(".paper").bounding_box(), pen.bounding_box()
        assert paper is not None
        assert ring is not None
        places = [
            (ring["x"] + ring["width"] / 2 - paper["x"]) / paper["width"],
            (ring["y"] + ring["height"] / 2 - paper["y"]) / paper["height"],
        ]
        assert places == pytest.approx([(140 - 14) / 280, (70 + 14) / 280], abs=0.01)
        assert pen.evaluate("(one) => getComputedStyle(one).borderTopColor") == "rgb(29, 95, 168)"
        assert inked(page) == 0


def test_one_stroke_is_spoken_once(seen: Watched, models: dict[str, str]) -> None:
    page = seen.open(f"#/draw?model={models['able']},{models['deep']}")
    page.evaluate(
        """() => {
          globalThis.told = [];
          const spoken = document.querySelector(".unseen[role=status]:not(#said)");
          const told = () => globalThis.told.push(spoken.textContent);
          new MutationObserver(told).observe(spoken, { childList: true, characterData: true, subtree: true });
        }"""
    )
    first, *rest = spots(page, SEVEN)
    page.mouse.move(*first)
    page.mouse.down()
    for spot in rest:
        page.mouse.move(*spot, steps=12)
        page.wait_for_timeout(100)
    page.mouse.up()
    page.wait_for_function("() => told.length")
    page.wait_for_timeout(1000)
    told = page.evaluate("told")
    assert len(told) <= 2  # a second one if a slow machine answered late
    assert told[-1].startswith("7, ")


def test_an_answer_that_is_awaited_is_said_and_the_others_stay(seen: Watched, models: dict[str, str]) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    sure = page.locator(".answer .digit + .faint")
    expect(sure).to_have_text("nothing drawn yet")
    held: list[Route] = []
    holding = True
    page.route("**/predict?*", lambda route: held.append(route) if holding else route.continue_())
    draw_seven(page)
    expect(sure).to_have_text("reading …")
    holding = False
    held.pop().continue_()
    expect(page.locator(".digit")).to_have_text("7")

    holding = True
    with page.expect_request("**/predict?*"):
        page.get_by_role("button", name="Add a model").click()
    expect(sure.last).to_have_text("reading …")
    expect(page.locator(".digit").first).to_have_text("7")
    problem = {"detail": "It cannot be read."}
    held.pop().fulfill(status=422, content_type="application/problem+json", body=json.dumps(problem))
    expect(page.get_by_role("alert").first).to_have_text("It cannot be read.")
    expect(sure).to_have_text([DASH, DASH])
    seen.forgive("422")


@pytest.mark.parametrize("place", [".paper", ".answers", "body"])
def test_a_picture_is_dropped_on_the_sheet_or_beside_it(
    seen: Watched, models: dict[str, str], digit: tuple[bytes, str], place: str
) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    assert not moved(page, "dragover", place, digit[0])
    expect(page.locator(".sheet.over")).to_have_count(1)
    assert not moved(page, "drop", place, digit[0])
    expect(page.locator(".sheet.over")).to_have_count(0)
    expect(page.locator(".digit")).to_have_text(digit[1])
    page.get_by_role("link", name="Sweeps").click()
    expect(page.get_by_role("heading", name="Sweeps")).to_be_visible()
    assert moved(page, "drop", "body", digit[0])  # elsewhere nothing is in the browser's way


def test_the_focus_stays_where_a_picture_was_chosen(
    seen: Watched, models: dict[str, str], digit: tuple[bytes, str]
) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Choose a picture").click()
    page.evaluate("document.activeElement.blur()")  # as a dialog that closes may leave it
    chooser.value.set_files({"name": "digit.png", "mimeType": "image/png", "buffer": digit[0]})
    expect(page.locator("#picture")).to_be_focused()
    expect(page.locator(".digit")).to_have_text(digit[1])


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "bmp", "gif", "tiff"])
def test_every_kind_of_picture_that_is_offered_is_read(
    seen: Watched, models: dict[str, str], digit: tuple[bytes, str], kind: str
) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    offered = page.locator("#picture").get_attribute("accept") or ""
    assert f"image/{kind}" in offered.split(",")
    choose(page, encoded(Image.open(io.BytesIO(digit[0])), kind), kind)
    expect(page.locator(".digit")).to_have_text(digit[1])


def sent(page: Page, picture: bytes, kind: str) -> Image.Image:
    """What is sent of a picture that is chosen. Of a body that is a file, Playwright tells nothing."""
    page.evaluate(
        """() => {
          const { fetch } = globalThis;
          globalThis.fetch = (path, options) => {
            if (options?.body) globalThis.body = options.body;
            return fetch(path, options);
          };
        }"""
    )
    choose(page, picture, kind)
    page.wait_for_function("() => globalThis.body")
    text = page.evaluate(
        """() => new Promise((resolve) => {
          const reader = new FileReader();
          reader.onload = () => resolve(reader.result.split(",")[1]);
          reader.readAsDataURL(body);
        })"""
    )
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_a_picture_that_is_too_large_is_sent_in_fewer_pixels(seen: Watched, models: dict[str, str]) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    photo = Image.new("L", (2000, 1500), 255)
    photo.paste(0, (0, 0, 1000, 1500))
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright: its left is above
    upright = sent(page, encoded(photo, "JPEG", exif=exif) + PADDING, "jpeg")
    assert (upright.format, upright.size) == ("PNG", (960, 1280))
    assert upright.convert("L").getpixel((900, 100)) == 0
    assert upright.convert("L").getpixel((900, 1200)) == 255
    expect(page.locator(".digit")).not_to_have_text("?")


def test_what_shines_through_a_large_picture_still_does(seen: Watched, models: dict[str, str]) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    drawn = Image.new("RGBA", (2000, 2000), (255, 255, 255, 0))
    drawn.paste((255, 255, 255, 255), (900, 300, 1100, 1700))
    smaller = sent(page, encoded(drawn) + PADDING, "png")
    assert (smaller.mode, smaller.size) == ("RGBA", (1280, 1280))
    assert [smaller.getpixel(at) for at in ((10, 10), (640, 640))] == [(0, 0, 0, 0), (255, 255, 255, 255)]
    expect(page.locator(".digit")).to_have_text("1")  # white ink on nothing: the API puts black behind it


def test_what_the_browser_cannot_decode_the_api_refuses(seen: Watched, models: dict[str, str]) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    choose(page, PADDING)
    expect(page.get_by_role("alert").first).to_contain_text("10,485,760 bytes")
    expect(page.locator(".answer .digit + .faint")).to_have_text(DASH)
    seen.forgive("413")


def test_the_paper_is_kept_until_it_is_wiped(seen: Watched, models: dict[str, str], digit: tuple[bytes, str]) -> None:
    page = seen.open(f"#/draw?model={models['able']}")

    def return_from_the_sweeps() -> None:
        page.get_by_role("link", name="Sweeps").click()
        expect(page.get_by_role("heading", name="Sweeps")).to_be_visible()
        page.get_by_role("link", name="Draw a digit").click()
        expect(page.locator(".paper")).to_be_visible()

    draw_seven(page)
    expect(page.locator(".digit")).to_have_text("7")
    ink = inked(page)
    page.get_by_role("button", name="日本語").click()
    expect(page.get_by_role("heading", name="数字を書く")).to_be_visible()
    expect(page.locator(".digit")).to_have_text("7")
    assert inked(page) == ink
    page.get_by_role("button", name="English").click()
    return_from_the_sweeps()
    expect(page.locator(".digit")).to_have_text("7")
    assert inked(page) == ink

    choose(page, digit[0])
    expect(page.locator(".digit")).to_have_text(digit[1])
    return_from_the_sweeps()
    expect(page.locator(".digit")).to_have_text(digit[1])
    assert inked(page) > 0

    page.get_by_role("button", name="Wipe").click()
    return_from_the_sweeps()
    expect(page.locator(".answer")).to_contain_text("nothing drawn yet")
    assert inked(page) == 0


def test_the_drawing_is_there_again_after_signing_in(seen: Watched, models: dict[str, str]) -> None:
    inside = True

    def session(route: Route) -> None:
        nonlocal inside
        inside = inside or route.request.method == "POST"
        scopes = ["read", "predict"] if inside else []
        route.fulfill(json={"asks_for_key": True, "name": "Ada" if inside else None, "scopes": scopes})

    page = seen.page
    page.route("**/session", session)
    seen.open(f"#/draw?model={models['able']}")
    draw_seven(page)
    expect(page.locator(".digit")).to_have_text("7")
    ink = inked(page)
    inside = False
    refused = "({ refusals }) => refusals.dispatchEvent(new Event('refused'))"
    page.evaluate(f"import('/assets/web/api.js').then({refused})")
    page.get_by_label("API key").fill("another")
    page.keyboard.press("Enter")
    expect(page.locator(".digit")).to_have_text("7")
    assert inked(page) == ink


def test_one_who_may_only_predict_is_asked_for_no_names(seen: Watched, models: dict[str, str]) -> None:
    scopes = {"asks_for_key": True, "name": "reader of digits", "scopes": ["predict"]}
    seen.page.route("**/session", lambda route: route.fulfill(json=scopes))
    able = models["able"]
    page = seen.open(f"#/draw?model={able}")
    expect(page.locator(".answer h2")).to_have_text(f"…{able[-4:]}")
    draw_seven(page)
    expect(page.locator(".digit")).to_have_text("7")
    assert not [one for one in seen.asked if "/experiments" in one or "/models" in one]


def test_what_the_model_saw_stands_under_its_picture(seen: Watched, models: dict[str, str]) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    draw_seven(page)
    expect(page.locator(".seen")).to_be_visible()
    ends = page.evaluate(
        """() => {
          const caption = document.createRange();
          caption.selectNodeContents(document.querySelector(".saw figcaption"));
          return [document.querySelector(".seen"), caption].map((one) => one.getBoundingClientRect().right);
        }"""
    )
    assert ends[0] == pytest.approx(ends[1], abs=1)
