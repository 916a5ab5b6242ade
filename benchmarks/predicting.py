"""`POST /predict` against the empty endpoint of the same server: 8 connections, one server process."""

import io
import json
from collections.abc import Iterator

from PIL import Image

from benchmarks.options import Options
from benchmarks.report import Line, Measured
from benchmarks.turns import CEILING, a_digit, ours, ratio, served, take_turns

__all__ = ["measure"]

ROUNDS = 5


def measure(options: Options) -> Iterator[Measured]:
    """Yield the ratio of requests a second for a JSON and a PNG body."""
    digit = a_digit(options.datasets)
    png = io.BytesIO()
    Image.fromarray(digit).save(png, "PNG")
    bodies = {
        "JSON 28x28": ("application/json", json.dumps({"image": digit.tolist()}).encode()),
        "PNG": ("image/png", png.getvalue()),
    }
    rounds = options.rounds or ROUNDS
    with ours(options.datasets) as epochd:
        for name, (kind, body) in bodies.items():
            contenders = epochd.contenders("/predict", kind, body)
            loads = take_turns(contenders, rounds, options.seconds)
            rows = [served(f"POST /predict, {name}", one, one.server, loads) for one in contenders]
            yield from rows
            yield Line(
                what=f"POST /predict / empty endpoint, {name}",
                value=ratio(loads, "epochd", CEILING),
                unit="",
                budget=0.6,
                at_most=False,
                detail=f"{rows[0].rate:,.0f} against {rows[1].rate:,.0f} requests/s, median of {rounds}",
            )
