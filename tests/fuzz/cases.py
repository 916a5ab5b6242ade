"""Requests that nobody should send: pictures and bodies that were right once, changed at random."""

import base64
import gzip
import io
import json
import random
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["Case", "case"]

KINDS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MODES = {
    "PNG": ("L", "RGB", "RGBA", "P", "1", "LA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("L", "RGB", "P", "1"),
    "GIF": ("L", "P"),
    "TIFF": ("L", "RGB", "RGBA", "CMYK", "F", "I;16", "1"),
}
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 255, 256, 0.5, 1e308, -1e-308, 2**63, 2**64, 10**400, "", "0", "\ud800", "é" * 50,
    [], {}, [[]], [None], {"a": []}, "data:image/png;base64,", "AAAA",
)  # fmt: skip
NUMBERS_OF_TEXT = ("NaN", "Infinity", "-Infinity", "1e999", "1e-999", "00", "0x10", "+1", "\u0661")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request."""

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def case(seed: int, number: int) -> Case:
    """The same for the same numbers."""
    chance = random.Random(f"{seed} {number}")
    make = chance.choice((_picture, _picture, _picture, _form, _json, _json, _tensors, _binary, _instances))
    made = make(chance)
    if chance.random() < 0.05:
        packed = gzip.compress(made.body, 1)
        packed = _damaged(packed, chance) if chance.random() < 0.5 else packed
        made = Case(path=made.path, body=packed, headers=made.headers | {"Content-Encoding": "gzip"})
    return made


def _picture(chance: random.Random) -> Case:
    kind = chance.choice(KINDS)
    data = _damaged(_whole(kind, chance.choice(MODES[kind]), chance.choice((28, 28, 33, 120))), chance)
    query = chance.choice(("", "", "?explain=true", "?model=best,best", "?range=0-1"))
    name = chance.choice((kind.lower(), "png", "jpeg", "webp"))
    return Case(path=f"/predict{query}", body=data, headers={"Content-Type": f"image/{name}"})


def _form(chance: random.Random) -> Case:
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        + _damaged(_whole(chance.choice(KINDS), "L", 28), chance)
        + b"\r\n"
        for _ in range(chance.randint(0, 3))
    ]
    body = b"".join(parts) + b"--x--\r\n"
    body = _damaged(body, chance) if chance.random() < 0.5 else body
    boundary = chance.choice(("x", "x", "x", "y", "", '"', "x" * 200))
    return Case(path="/predict", body=body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})


def _json(chance: random.Random) -> Case:
    image: Any = chance.choice((_rows(chance), [0.5] * 784, base64.b64encode(_whole("PNG", "L", 28)).decode()))
    value: Any = {"image": image} if chance.random() < 0.5 else {"images": [image] * chance.randint(0, 4)}
    return Case(path="/predict", body=_as_json(value, chance), headers={"Content-Type": "application/json"})


def _tensors(chance: random.Random) -> Case:
    count = chance.randint(0, 3)
    tensor = {
        "name": "pixels",
        "shape": chance.choice(([count, 784], [count, 28, 28], [784])),
        "datatype": chance.choice(("FP32", "UINT8", "INT64", "FP16", "BYTES")),
        "data": [0.5] * 784 * count,
    }
    value = {"id": "1", "inputs": [tensor], "outputs": [{"name": "digit"}], "parameters": {"range": "0-1"}}
    return Case(path="/v2/models/best/infer", body=_as_json(value, chance))


def _binary(chance: random.Random) -> Case:
    data = np.zeros(784 * chance.randint(0, 2), np.float32).tobytes()
    parameters = {"binary_data_size": len(data) + chance.choice((0, 0, 0, -1, 4, 2**40))}
    tensor = {"name": "pixels", "shape": [1, 784], "datatype": "FP32", "parameters": parameters}
    head = _as_json({"inputs": [tensor], "parameters": {"binary_data_output": True}}, chance)
    length = chance.choice((str(len(head)), str(len(head)), "0", "-1", "x", str(2**70), "1e3", ""))
    body = head + (_damaged(data, chance) if data else b"")
    return Case(path="/v2/models/best/infer", body=body, headers={"Inference-Header-Content-Length": length})


def _instances(chance: random.Random) -> Case:
    rows = _rows(chance)
    value = chance.choice(
        (
            {"instances": [rows, rows]},
            {"instances": [{"pixels": rows}]},
            {"inputs": [rows]},
            {"inputs": {"pixels": [rows]}},
            {"instances": [{"b64": base64.b64encode(_whole("PNG", "L", 28)).decode()}]},
        )
    )
    return Case(path="/v1/models/best:predict", body=_as_json(value, chance))


def _rows(chance: random.Random) -> list[list[int]]:
    return [[chance.randrange(256) for _ in range(28)] for _ in range(28)]


def _as_json(value: Any, chance: random.Random) -> bytes:
    """The value with a few of its parts made odd, and then perhaps its text."""
    for _ in range(chance.choice((0, 1, 1, 2))):
        value = _odd(value, chance)
    text = json.dumps(value).encode()
    roll = chance.random()
    if roll < 0.1:
        return _damaged(text, chance)
    if roll < 0.2:
        return text.replace(b"0", chance.choice(NUMBERS_OF_TEXT).encode(), chance.randint(1, 3))
    if roll < 0.22:
        return b"[" * 100_000 + text
    return text


def _odd(value: Any, chance: random.Random) -> Any:
    if not isinstance(value, (dict, list)) or not value or chance.random() < 0.2:
        return chance.choice(ODD)
    if isinstance(value, dict):
        key = chance.choice(list(value))
        if chance.random() < 0.1:
            return {name: part for name, part in value.items() if name != key} | {"odd": value[key]}
        return value | {key: _odd(value[key], chance)}
    place = chance.randrange(len(value))
    return [*value[:place], *chance.choice(([_odd(value[place], chance)], [], [value[place]] * 2)), *value[place + 1 :]]


def _damaged(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((0, 1, 1, 2, 5, 20))):
        if not changed:
            break
        place = chance.randrange(len(changed))
        length = min(chance.choice((1, 1, 1, 2, 4, 16)), len(changed) - place)
        match chance.randrange(5):
            case 0:
                changed[place : place + length] = chance.randbytes(length)
            case 1:
                changed[place : place + length] = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * length
            case 2:
                del changed[place : place + length]
            case 3:
                changed[place:place] = changed[place : place + length]
            case _ if chance.random() < 0.2:
                del changed[place:]
    return bytes(changed)


@cache
def _whole(kind: str, mode: str, side: int) -> bytes:
    rows, columns = np.mgrid[:side, :side] / side
    ink = ((abs(columns - 0.5) < 0.08) & (abs(rows - 0.5) < 0.35)) * 200.0
    grey = np.clip(ink + 20 * rows, 0, 255).astype(np.uint8)
    wide = mode == "I;16"
    picture = Image.fromarray(grey.astype(np.uint16) * 257) if wide else Image.fromarray(grey).convert(mode)
    buffer = io.BytesIO()
    options: dict[str, Any] = {"exif": bytes(_turned())} if kind in {"JPEG", "PNG", "WEBP"} and side == 33 else {}
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()
