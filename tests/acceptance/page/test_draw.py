"""Drawing: what models read while a digit is drawn, and in pictures."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from service import datasets
from tests.acceptance.conftest import Service
from tests.acceptance.page.conftest import SEVEN, Watched, draw_seven, spots, watched

pytestmark = pytest.mark.slow


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


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
        page.get_by_label("Choose a picture").set_input_files(
            {"name": "digit.png", "mimeType": "image/png", "buffer": digit[0]}
        )
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


def test_a_picture_is_chosen(seen: Watched, models: dict[str, str], digit: tuple[bytes, str], tmp_path: Path) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    page.get_by_label("Choose a picture").set_input_files(
        {"name": "digit.png", "mimeType": "image/png", "buffer": digit[0]}
    )
    expect(page.locator(".digit")).to_have_text(digit[1])
    page.get_by_label("Choose a picture").set_input_files(
        {"name": "digit.png", "mimeType": "image/png", "buffer": b"no picture"}
    )
    expect(page.get_by_role("alert").first).to_contain_text("no PNG, JPEG, WebP, BMP, GIF or TIFF picture")
    seen.forgive("422")


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(
    seen: Watched, models: dict[str, str], digit: tuple[bytes, str], how: str
) -> None:
    page = seen.open(f"#/draw?model={models['able']}")
    page.evaluate(
        """([how, text]) => {
          const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], "digit.png", { type: "image/png" }));
          const event = how === "drop"
            ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
          document.querySelector(".paper").dispatchEvent(event);
        }""",
        [how, base64.b64encode(digit[0]).decode()],
    )
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
    page.get_by_label("Choose a picture").set_input_files(
        {"name": "digit.png", "mimeType": "image/png", "buffer": b"no picture"}
    )
    expect(page.locator(".digit")).to_have_text("?")
    seen.forgive("422")
