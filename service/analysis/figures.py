"""What is seen of one run: pure values in, a `Figure` out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from service.analysis.axes import epoch_axis, layers_of, left_out, look_of, loss_axis, norm_lines, positive
from service.analysis.chart import (
    DASHES,
    GREY,
    MARKERS,
    MOST_MARKED,
    MOST_MISTAKES,
    MOST_TILES,
    PALETTE,
    TRAINING_SHARE,
    Axis,
    Cells,
    Figure,
    Lines,
    Pictures,
    Series,
    Tile,
    finite,
)
from service.domain.experiment import EpochMetrics, Spec

__all__ = ["confusion_matrix", "gallery", "gradient_norms", "learning_curves", "subject"]


def learning_curves(epochs: Sequence[EpochMetrics], spec: Spec) -> Figure:
    """Loss and accuracy by epoch, on the training and on the test images, as the article draws them."""
    title = f"Learning curves: {subject(spec)}"
    if not epochs:
        return Figure(title=title, note="No epoch has ended.")
    x = tuple(float(one.epoch) for one in epochs)
    marked = len(x) <= MOST_MARKED
    _, test_marker = look_of(spec.activation)

    def pair(
        training: Callable[[EpochMetrics], float | None], test: Callable[[EpochMetrics], float | None]
    ) -> tuple[Series, Series]:
        one = Series(
            name="training images (while the weights change)",
            x=x,
            y=finite(map(training, epochs)),
            colour=GREY,
            dash="dash",
            marker="square-open" if marked else None,
            hover="epoch %{x}, training: %{y:.4f}<extra></extra>",
        )
        other = replace(
            one,
            name="test images (after the epoch)",
            y=finite(map(test, epochs)),
            colour=look_of(spec.activation)[0],
            dash="solid",
            marker="circle" + test_marker if marked else None,
            hover="epoch %{x}, test: %{y:.4f}<extra></extra>",
        )
        return one, other

    axis = epoch_axis(x)
    loss = pair(lambda one: one.loss, lambda one: one.val_loss)
    share = pair(lambda one: one.accuracy, lambda one: one.val_accuracy)
    last = epochs[-1]
    measured = "not a number" if last.val_accuracy is None else f"{last.val_accuracy:.4f}"
    return Figure(
        title=title,
        note=f"After epoch {last.epoch}: test accuracy {measured}.",
        panels=(
            Lines(x=axis, y=loss_axis(loss), series=loss),
            Lines(x=axis, y=Axis(title=TRAINING_SHARE), series=share),
        ),
    )


def gradient_norms(epochs: Sequence[EpochMetrics], spec: Spec) -> Figure:
    """Norm of each layer's gradient, for the first epoch, the last, and up to four between them."""
    title = f"Gradient by layer: {subject(spec)}"
    if not epochs:
        return Figure(title=title, note="No epoch has ended.")
    chosen = sorted({round(place) for place in np.linspace(0, len(epochs) - 1, 6)})
    series = tuple(
        Series(
            name=f"epoch {epochs[place].epoch}",
            x=layers_of(epochs[place]),
            y=positive(epochs[place].gradient_norms),
            colour=PALETTE[rank],
            dash=DASHES[rank],
            marker=MARKERS[rank] if spec.depth < MOST_MARKED else None,
            hover=f"epoch {epochs[place].epoch}, layer %{{x}}: %{{y:.3g}}<extra></extra>",
        )
        for rank, place in enumerate(chosen)
    )
    hidden = sum(value is None for one in series for value in one.y)
    note = "On the first 1,000 training images, after the epoch." + left_out(hidden)
    return Figure(title=title, note=note, panels=(norm_lines("", series, spec.depth, scale=series),))


def confusion_matrix(counts: npt.NDArray[np.integer[Any]], labels: Sequence[str], of: str) -> Figure:
    """What each class was read as.

    Args:
        counts: Whole numbers (k, k): a row for each true class, a column for each answer.
        labels: Names of the k classes.
        of: What the title calls the run, such as `subject(spec)`.

    Raises:
        ValueError: the counts are not (k, k).
    """
    if counts.shape != (len(labels), len(labels)):
        raise ValueError(f"counts of {len(labels)} classes must be square, and these are {counts.shape}")
    total, right = int(counts.sum()), int(np.trace(counts))
    title = f"What was read as what: {of}"
    if not total:
        return Figure(title=title, note="No image was read yet.")
    return Figure(
        title=title,
        note=f"{right:,} of {total:,} test images read right ({right / total:.4f}): the blue diagonal. "
        "Mistakes are orange, by their share of the row.",
        panels=(
            Cells(
                x_title="read as (class)",
                y_title="true class (number of test images)",
                labels=tuple(labels),
                counts=tuple(tuple(int(value) for value in row) for row in counts),
            ),
        ),
    )


def gallery(
    images: npt.NDArray[np.uint8],
    truths: npt.NDArray[np.integer[Any]],
    guesses: npt.NDArray[np.integer[Any]],
    confidences: npt.NDArray[np.floating[Any]],
    labels: Sequence[str],
    of: str,
) -> Figure:
    """Up to 50 test images: at most 30 mistakes, the most confident first, then images read right, in their order.

    Args:
        images: (n, 28, 28).
        truths: True class of each, (n,).
        guesses: Class that was read, (n,).
        confidences: Probability that the network gave to what it read, (n,), 0 to 1.
        labels: Names of the classes.
        of: What the title calls the run, such as `subject(spec)`.
    """
    title = f"Test images and what was read: {of}"
    if not len(images):
        return Figure(title=title, note="No image was read yet.")
    wrong = np.flatnonzero(truths != guesses)
    wrong = wrong[np.argsort(-confidences[wrong], kind="stable")]
    right = np.flatnonzero(truths == guesses)
    shown = wrong[: max(MOST_MISTAKES, MOST_TILES - len(right))][:MOST_TILES]
    tiles = tuple(
        _tile(images[at], labels[truths[at]], labels[guesses[at]], float(confidences[at]))
        for at in (*shown, *right[: MOST_TILES - len(shown)])
    )
    which = f"the {len(shown)} most confident, framed, come first" if len(shown) < len(wrong) else "framed, come first"
    many = f"{len(wrong):,} mistakes in {len(images):,} test images" + (f"; {which}." if len(wrong) else ".")
    return Figure(
        title=title,
        note=f"{many} The number is the network's confidence, 0 to 1.",
        panels=(Pictures(tiles=tiles),),
    )


def subject(spec: Spec) -> str:
    """What a title calls a run: "relu, 3 hidden layers, seed 0", with what differs from the article's spec."""
    words = [spec.activation, f"{spec.depth} hidden layer{'' if spec.depth == 1 else 's'}", f"seed {spec.seed}"]
    if spec.units != Spec.model_fields["units"].default:
        words.insert(2, f"{spec.units} units")
    if spec.dataset != "mnist":
        words.append(spec.dataset.replace("_", "-").title())
    return ", ".join(words)


def _tile(image: npt.NDArray[np.uint8], truth: str, guess: str, confidence: float) -> Tile:
    mistake = truth != guess
    words = f"{truth} read as {guess}" if mistake else truth
    # A long name, such as Fashion-MNIST's, gets a line of its own.
    lines = (words,) if len(words) <= 12 else (truth, f"read as {guess}") if mistake else (truth,)
    told = f"{truth} read as {guess}, {confidence:.2f}" if mistake else f"{truth}, read right, {confidence:.2f}"
    return Tile(image=image, caption=(*lines, f"{confidence:.2f}"), mistake=mistake, hover=told)
