"""POST /predict: every way to send an image, and which model answers."""

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.settings import Settings
from tests.conftest import succeed
from tests.integration.conftest import Api, problem, serving

GREY = np.zeros((28, 28), dtype=np.uint8)
GREY[4:24, 12:16] = 200
ROWS = GREY.tolist()
SHARES = (GREY / 255).tolist()
MOST = 5


def picture(kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(GREY).convert("RGB" if kind == "WEBP" else "L").save(buffer, kind, lossless=True, quality=100)
    return buffer.getvalue()


PNG = picture()
BASE64 = base64.b64encode(PNG).decode()


@pytest.fixture(scope="module")
def model_api(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: bytes) -> Iterator[Api]:
    """An API with one model, for requests that change nothing."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("model"), max_images=MOST)
    with serving(settings) as api:
        succeed(api.ports.database, api.ports.blobs, tiny_onnx)
        yield api


def answer(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = response.json()
    return body


@pytest.fixture(scope="module")
def expected(model_api: Api) -> dict[str, Any]:
    """What the model answers to the digit."""
    body = answer(model_api.post("/predict", json={"image": ROWS}))
    (prediction,) = body["predictions"]
    assert isinstance(prediction, dict)
    return prediction


def test_a_prediction_has_a_digit_a_label_a_confidence_and_ten_probabilities(
    model_api: Api, expected: dict[str, Any]
) -> None:
    assert expected.keys() == {"digit", "label", "confidence", "probabilities"}
    assert expected["label"] == str(expected["digit"])
    assert len(expected["probabilities"]) == 10
    assert sum(expected["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert expected["confidence"] == max(expected["probabilities"]) == expected["probabilities"][expected["digit"]]


JSON_BODIES: dict[str, tuple[dict[str, Any], int, str]] = {
    "28x28": ({"image": ROWS}, 1, "0-255"),
    "784": ({"image": GREY.ravel().tolist()}, 1, "0-255"),
    "shares of 1": ({"image": SHARES}, 1, "0-1"),
    "base64": ({"image": BASE64}, 1, "0-255"),
    "data URL": ({"image": "data:image/png;base64," + BASE64}, 1, "0-255"),
    "many": ({"images": [ROWS] * MOST}, MOST, "0-255"),
    "many of different shapes": ({"images": [ROWS, GREY.ravel().tolist()]}, 2, "0-255"),
    "many shares": ({"images": [SHARES] * 2}, 2, "0-1"),
    "numbers and base64": ({"images": [ROWS, BASE64, ROWS]}, 3, "0-255"),
    "shares and base64": ({"images": [BASE64, SHARES]}, 2, "0-1"),
    "many base64": ({"images": [BASE64] * 2}, 2, "0-255"),
}


@pytest.mark.parametrize(("body", "count", "range_"), JSON_BODIES.values(), ids=JSON_BODIES.keys())
def test_images_may_be_numbers_or_base64(
    model_api: Api, expected: dict[str, Any], body: dict[str, Any], count: int, range_: str
) -> None:
    found = answer(model_api.post("/predict", json=body))
    assert found["range"] == range_
    assert len(found["predictions"]) == count
    for prediction in found["predictions"]:
        assert prediction["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)


@pytest.mark.parametrize(
    "media_type",
    [
        "image/png",
        "image/jpeg",
        "image/webp",
        "image/bmp",
        "image/gif",
        "image/tiff",
        "IMAGE/PNG",
        "image/png; charset=binary",
        "Image/Png ;x=y",
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_picture_may_be_the_body_itself(model_api: Api, expected: dict[str, Any], media_type: str, kind: str) -> None:
    response = model_api.post("/predict", content=picture(kind), headers={"content-type": media_type})
    assert answer(response)["predictions"] == [expected]


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON", "application/json; charset=utf-8"])
def test_json_may_be_spelled_in_any_case(model_api: Api, expected: dict[str, Any], media_type: str) -> None:
    body = model_api.build_request("POST", "/predict", json={"image": ROWS}).content
    response = model_api.post("/predict", content=body, headers={"content-type": media_type})
    assert answer(response)["predictions"] == [expected]


@pytest.mark.parametrize("count", [1, 2, MOST])
def test_files_may_be_sent_as_a_form(model_api: Api, expected: dict[str, Any], count: int) -> None:
    files = [("image", (f"{number}.dat", PNG, "text/plain")) for number in range(count)]
    found = answer(model_api.post("/predict", files=files))
    assert (found["predictions"], found["range"]) == ([expected] * count, "0-255")


FORM = {"content-type": "multipart/form-data; boundary=x"}
FORMS: dict[str, tuple[dict[str, Any], int, str]] = {
    "another field": ({"files": {"file": PNG}}, 422, ""),
    "another field too": ({"files": {"image": PNG, "file": PNG}}, 422, ""),
    "no file": ({"files": {"image": (None, "text")}}, 422, "/image"),
    "text beside the file": ({"files": {"image": PNG}, "data": {"model": "best"}}, 422, ""),
    "no field": ({"content": b"--x--\r\n", "headers": FORM}, 422, "/image"),
    "no form": ({"content": b"hello", "headers": FORM}, 422, ""),
    "no boundary": ({"content": b"hello", "headers": {"content-type": "multipart/form-data"}}, 422, ""),
    "cut short": ({"content": b"--x\r\nContent-Dis", "headers": FORM}, 422, "/image"),
    "one too many": ({"files": [("image", PNG)] * (MOST + 1)}, 413, ""),
    "many too many": ({"files": [("image", PNG)] * 300}, 413, ""),
    "many fields": ({"files": {"image": PNG}, "data": {str(n): "" for n in range(30)}}, 422, ""),
    "an empty file": ({"files": [("image", PNG), ("image", b"")]}, 422, "/image/1"),
    "a text file": ({"files": [("image", PNG), ("image", ("a.png", b"text"))]}, 422, "/image/1"),
}


@pytest.mark.parametrize(("form", "status", "pointer"), FORMS.values(), ids=FORMS.keys())
def test_a_wrong_form_is_refused(model_api: Api, form: dict[str, Any], status: int, pointer: str) -> None:
    found = problem(model_api.post("/predict", **form), status)
    if status == 422:
        assert found["errors"][0]["pointer"] == pointer


BODIES = {
    "nothing": (b"", ""),
    "half": (b"{", ""),
    "a list": (b"[]", ""),
    "null": (b"null", ""),
    "neither": (b"{}", ""),
    "both": (b'{"image": [], "images": []}', ""),
    "more": (b'{"image": [], "x": 1}', ""),
    "NaN": (b'{"image": NaN}', ""),
    "no UTF-8": (b'{"image": "\xff"}', ""),
    "half a character": (b'{"image": "\\ud800"}', ""),
    "deep": (b'{"image": ' + b"[" * 100_000, ""),
    "deep to the limit": (b'{"image": ' + b"[" * 1000 + b"true" + b"]" * 1000 + b"}", "/image"),
    "many digits": (b'{"image": [' + b"1" * 5000 + b"]}", ""),
    "no list": (b'{"images": {}}', "/images"),
    "no images": (b'{"images": []}', "/images"),
    "a number": (b'{"image": 7}', "/image"),
    "true": (b'{"image": true}', "/image"),
    "one true": (b'{"image": [true' + b",0" * 783 + b"]}", "/image"),
    "one false among many": (b'{"images": [[' + b"7," * 783 + b"false]]}", "/images"),
    "nulls": (b'{"image": [null' + b",0" * 783 + b"]}", "/image"),
    "text": (b'{"image": ["0"' + b",0" * 783 + b"]}", "/image"),
    "300": (b'{"image": [300' + b",0" * 783 + b"]}", "/image"),
    "no base64": (b'{"image": "hello"}', "/image"),
    "the second wrong": (b'{"images": [[' + b"0," * 783 + b"0], [1]]}", "/images/1"),
    "the second no picture": (b'{"images": [[' + b"0," * 783 + b'0], "aGVsbG8="]}', "/images/1"),
}


@pytest.mark.parametrize(("body", "pointer"), BODIES.values(), ids=BODIES.keys())
def test_json_that_holds_no_image_is_refused_where_it_is_wrong(model_api: Api, body: bytes, pointer: str) -> None:
    found = problem(model_api.post("/predict", content=body, headers={"content-type": "application/json"}), 422)
    assert found["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("body", [b"", b"text", PNG[:60], picture("PPM")], ids=["empty", "text", "cut", "PPM"])
def test_a_body_that_is_no_picture_is_refused(model_api: Api, body: bytes) -> None:
    problem(model_api.post("/predict", content=body, headers={"content-type": "image/png"}), 422, "invalid-image")


@pytest.mark.parametrize(
    "media_type", ["", "text/plain", "image/heic", "image/svg+xml", "application/x-www-form-urlencoded", "json", "*/*"]
)
def test_another_media_type_is_told_the_possible_ones(model_api: Api, media_type: str) -> None:
    response = model_api.post("/predict", content=PNG, headers={"content-type": media_type} if media_type else {})
    detail = problem(response, 415, "unsupported-media-type")["detail"]
    assert all(kind in detail for kind in ("application/json", "multipart/form-data", "image/png", "image/tiff"))


def test_too_many_images_are_refused(model_api: Api) -> None:
    assert f"at most {MOST}" in problem(model_api.post("/predict", json={"images": [ROWS] * (MOST + 1)}), 413)["detail"]


@pytest.mark.parametrize(
    ("image", "wanted", "brightest"),
    [
        ([1] + [0] * 783, "0-255", 1),
        ([1] + [0] * 783, "0-1", 255),
        ([0.5] + [0] * 783, "0-1", 128),
        ([200] + [0] * 783, "0-255", 200),
    ],
)
def test_the_range_that_was_asked_for_is_the_one_read(
    model_api: Api, image: list[float], wanted: str, brightest: int
) -> None:
    response = model_api.post("/predict", params={"range": wanted, "explain": True}, json={"image": image})
    found = answer(response)
    assert found["range"] == wanted
    assert max(map(max, found["predictions"][0]["pixels"])) == brightest
    if brightest == 200:
        problem(model_api.post("/predict", params={"range": "0-1"}, json={"image": image}), 422, "invalid-image")


def test_explain_gives_the_pixels_that_the_network_saw_and_how_they_came_to_be(model_api: Api) -> None:
    found = answer(model_api.post("/predict?explain=true", json={"images": [ROWS, BASE64]}))
    assert [(one["pixels"], one["steps"]) for one in found["predictions"]] == [(ROWS, [])] * 2
    drawn = 255 - np.pad(GREY, 40).repeat(3, axis=0).repeat(3, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(drawn).save(buffer, "PNG")
    response = model_api.post("/predict?explain=1", content=buffer.getvalue(), headers={"content-type": "image/png"})
    (one,) = answer(response)["predictions"]
    seen = np.array(one["pixels"])
    assert (seen.shape, seen.dtype.kind, seen.min(), seen.max()) == ((28, 28), "i", 0, 255)
    assert seen[4:25, 11:18].sum() == seen.sum()
    assert one["steps"] == ["inverted", "cropped", "sharpened", "stroke_width_changed", "fitted", "centred"]
    form = answer(model_api.post("/predict?explain=1", files=[("image", PNG), ("image", buffer.getvalue())]))
    assert [len(prediction["steps"]) for prediction in form["predictions"]] == [0, 6]
    plain = answer(model_api.post("/predict", files=[("image", PNG)]))
    assert "steps" not in plain["predictions"][0]


@pytest.mark.parametrize("brightness", [0, 90, 255])
@pytest.mark.parametrize("side", [28, 300])
def test_a_blank_picture_is_told_that_there_is_no_ink_in_it(model_api: Api, side: int, brightness: int) -> None:
    buffer = io.BytesIO()
    Image.new("L", (side, side), brightness).save(buffer, "PNG")
    response = model_api.post("/predict", content=buffer.getvalue(), headers={"content-type": "image/png"})
    if (side, brightness) != (28, 90):  # a 28x28 picture with a dark background is used as it is
        assert "no ink" in problem(response, 422, "invalid-image")["detail"]


def test_more_pictures_than_can_be_read_soon_are_refused_and_small_ones_are_not(
    tmp_path: Path, tiny_onnx: bytes
) -> None:
    with serving(Settings(data_dir=tmp_path, max_waiting=0)) as api:
        succeed(api.ports.database, api.ports.blobs, tiny_onnx)
        large = io.BytesIO()
        Image.fromarray(np.kron(np.eye(100, dtype=np.uint8) * 255, np.ones((60, 60), np.uint8))).save(large, "PNG")

        def ask(_: int) -> httpx.Response:
            return api.post("/predict", content=large.getvalue(), headers={"content-type": "image/png"})

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(ask, range(16)))
            refused = [answer for answer in answers if answer.status_code == 503]
            assert refused
            assert all(answer.status_code == 200 for answer in answers if answer not in refused)
        assert problem(refused[0], 503, "overloaded")["detail"].endswith("try again in a moment")
        assert int(refused[0].headers["retry-after"]) > 0
        assert api.post("/predict", json={"image": [1] * 784}).status_code == 200
        assert ask(0).status_code == 200
