"""The reproduction's page: what it says of figures of the article that lie outside of ours."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from service.domain.article import ARTICLE
from service.domain.experiment import Result
from service.reproduction.page import beside_the_article
from service.reproduction.results import Results


def results(epochs: int = 10, shift: float = 0.0) -> Results:
    """Twelve seeds of each of the article's networks, around its own figures; `shift` moves one arm's accuracies."""
    rng = np.random.default_rng(2026)
    runs: Any = {}
    arms = []
    for arm, (accuracy, loss) in ARTICLE.items():
        moved = shift if arm == ("relu", 2) else 0.0
        accuracies = accuracy + moved + rng.normal(0, 0.003, 12).clip(-0.005, 0.005)
        losses = loss + rng.normal(0, 0.01, 12)
        runs[arm] = [
            SimpleNamespace(result=Result(test_accuracy=a, test_loss=b, computation_seconds=1.0))
            for a, b in zip(accuracies.tolist(), losses.tolist(), strict=True)
        ]
        spreads = {
            name: {"mean": float(x.mean()), "min": float(x.min()), "max": float(x.max())}
            for name, x in (("accuracy", accuracies), ("loss", losses))
        }
        arms.append({"values": {"activation": arm[0], "depth": arm[1]}} | spreads)
    return Results(seeds=12, epochs=epochs, wall_seconds=1.0, comparison={"arms": arms}, runs=runs, measured={})


def test_figures_that_lie_within_are_counted() -> None:
    text = "\n".join(beside_the_article(results()))
    assert "All 12 figures lie within our range." in text
    assert "2/13 = 15.4%, so of 12 figures about 1.8 may be expected outside by chance alone" in text


def test_a_figure_far_outside_is_not_explained_by_chance() -> None:
    text = "\n".join(beside_the_article(results(shift=-0.1)))
    assert "1 of 12 figures lies outside of our range." in text
    (line,) = [line for line in text.splitlines() if line.startswith("- ")]
    assert line.startswith("- relu, depth 2: the article's accuracy 0.9356 is 0.09")
    assert "which chance does not explain" in line
    assert line.endswith("(prediction from 12 seeds, Holm-adjusted p < 0.001).")


def test_a_figure_just_outside_is_explained_by_chance() -> None:
    text = "\n".join(beside_the_article(results(shift=-0.006)))
    (line,) = [line for line in text.splitlines() if line.startswith("- ")]
    assert "which chance explains" in line


def test_networks_of_other_epochs_are_not_set_beside_the_article_s() -> None:
    text = "\n".join(beside_the_article(results(epochs=3)))
    assert text.endswith("None of these networks is like them: they had 3 epochs.\n")
    assert "|" not in text
