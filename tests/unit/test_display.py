"""What people see of experiments in a terminal."""

import io
import math
import unicodedata
from typing import Any

import pytest
from rich.console import Group

from service.commands.console import Messages, err, out, print_json, say
from service.commands.display import curves
from service.domain.experiment import EpochMetrics
from service.domain.text import visible


def epochs(*losses: float) -> list[EpochMetrics]:
    return [
        EpochMetrics(
            epoch=number, loss=loss, accuracy=0.5, val_loss=loss, val_accuracy=0.5, seconds=1, gradient_norms=(1, 1)
        )
        for number, loss in enumerate(losses, 1)
    ]


@pytest.mark.parametrize("losses", [(1.0,), (1.0, 0.5), (0.5, 0.5), (1.0, math.nan), (math.nan,), (math.inf, math.nan)])
def test_curves_are_drawn_of_whatever_was_measured(losses: tuple[float, ...]) -> None:
    text = curves(epochs(*losses)).plain
    assert "(loss)" in text
    assert "(accuracy)" in text
    assert ("nan" in text) is False


def test_ticks_name_each_epoch_once() -> None:
    for count in (5, 10, 12, 40, 1000):
        (ticks, *_) = [
            line
            for line in curves(epochs(*[1 / n for n in range(1, count + 1)])).plain.splitlines()
            if line.lstrip().startswith("epoch | 0")
        ]
        named = ticks.split()[2:]
        assert len(named) == len(set(named)) == 7
        assert float(named[0]) == 0
        assert float(named[-1]) == count


@pytest.mark.parametrize("width", [24, 50, 64, 200])
def test_a_plot_fits_into_the_terminal(width: int) -> None:
    text = curves(epochs(*[1 / n for n in range(1, 13)]), width).plain
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(map(len, lines)) <= width + 16
    assert max(map(len, lines)) <= 76


def test_curves_differ_without_colours() -> None:
    text = curves(epochs(*[1 / n for n in range(1, 13)])).plain
    assert "o⠤ while training" in text
    assert "x⠤ on test images" in text


# What is written.


def test_a_line_that_ctrl_c_interrupts_is_not_written_again() -> None:
    class Interrupted(io.StringIO):
        def flush(self) -> None:
            if self.getvalue() == "one\n":
                raise KeyboardInterrupt

    messages = Messages(file=Interrupted())
    with pytest.raises(KeyboardInterrupt):
        messages.print("one")
    messages.print("two")
    assert messages.file.getvalue() == "one\ntwo\n"  # type: ignore[attr-defined]


STEERING = "".join(
    chr(code)
    for code in range(0x3000)
    if chr(code) != "\n"
    and (
        unicodedata.category(chr(code)) in {"Cc", "Zl", "Zp"}
        or chr(code) in "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )
)


def test_what_a_terminal_would_obey_is_shown() -> None:
    assert visible("a\x1b[31m\x9b\u202eb") == "a\\x1b[31m\\x9b\\u202eb"
    assert not set(visible(STEERING)) & set(STEERING)
    assert visible("数字 é :smile: 👩‍🔬\n") == "数字 é :smile: 👩‍🔬\n"


@pytest.mark.parametrize("write", [say, err.print, out.print, print_json, lambda text: say(Group(text))])
def test_whatever_is_written_does_not_steer_the_terminal(capsys: Any, write: Any) -> None:
    write(f"a{STEERING}:smile:[red]b")
    told = "".join(capsys.readouterr())
    assert not set(told) & set(STEERING)
    assert ":smile:[red]b" in told
