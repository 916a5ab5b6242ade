"""How a wait looks in a terminal."""

import io

import pytest
from rich.console import Console

from service.client.progress import bar

NUMBERS = "loss 0.1234, accuracy 0.1234, test 0.1234"


def shown(title: str, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    bars = bar(title, 400, "epochs", console)
    bars.update(bars.task_ids[0], completed=200, text=NUMBERS)
    with console.capture() as told:
        console.print(bars.get_renderable())
    (line,) = told.get().splitlines()
    return line


@pytest.mark.parametrize(
    "title", ["n" * 200, "relu, depth 3", "数" * 100, "a\x9b\u202eb" * 40], ids=["long", "usual", "wide", "steering"]
)
@pytest.mark.parametrize("width", [40, 60, 80, 120, 300])
def test_what_is_measured_stays_in_a_bar_of_any_width(title: str, width: int) -> None:
    line = shown(title, width)
    assert "200/400" in line
    assert "loss 0.1234, accuracy 0.1234" in line
    assert not set(line) & set("\x9b\u202e")
    assert ("━" in line) is (width >= 80)
    assert (NUMBERS in line) is (width >= 60)


def test_a_title_is_whole_where_there_is_room() -> None:
    assert shown("relu, depth 3", 80).startswith("relu, depth 3 ━━━")
    assert shown("n" * 200, 80).startswith("nnn")
    assert "…" in shown("n" * 200, 80)
