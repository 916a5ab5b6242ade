"""How well digits are read in pictures as people send them: really trained networks, real handwriting.

The figures in docs/pictures.md are those that this module logs:
`PICTURES=1000 pytest -n 0 tests/integration/test_pictures.py -o log_cli=true -o log_cli_level=INFO`.
"""

import io
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from service import datasets
from service.domain.events import Job, Member, Stops, Trained
from service.domain.experiment import Spec
from service.serving import images
from service.serving.images import Pixels
from service.serving.predictor import Predictor
from service.store.models import ServableModel

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "PICTURES" not in os.environ, reason="test_docs_figures.py runs this by the command of docs/pictures.md"
    ),
]

Grey = npt.NDArray[np.uint8]
Chance = np.random.Generator
log = logging.getLogger(__name__)

COUNT = int(os.environ.get("PICTURES", "1000"))
"""How many of MNIST's test images, evenly drawn; and how many of each thousand of other people's digits."""
NETWORKS = {"128 units": 128, "16 units": 16}


def right(networks: dict[str, Predictor], pixels: Pixels, truth: npt.NDArray[Any]) -> dict[str, float]:
    """The share that each network reads right."""
    return {
        name: float((one.probabilities(model(name), pixels).argmax(axis=1) == truth).mean())
        for name, one in networks.items()
    }


def model(name: str) -> ServableModel:
    return ServableModel(experiment_id=name, dataset="mnist", onnx_sha256=name)


@pytest.fixture(scope="module")
def networks(mnist_dir: Path) -> dict[str, Predictor]:
    """ReLU at depth 2, otherwise the default spec, trained here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's and Keras's own
        from service.training import fit

        found = {}
        for name, units in NETWORKS.items():
            spec = Spec(activation="relu", depth=2, units=units)
            member = Member(experiment_id=name, attempt=1, spec=spec)
            job = Job(members=(member,), data_dir=str(mnist_dir), checkpoint_seconds=1e9)
            (trained,) = (event for event in fit.train(job, Stops()) if isinstance(event, Trained))
            found[name] = Predictor(load=lambda *_, onnx=trained.onnx: onnx, capacity=1)
    return found


def file(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def enlarged(digit: Grey, factor: float) -> Image.Image:
    side = round(28 * factor)
    return Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)


def large(digit: Grey, chance: Chance) -> bytes:
    return file(enlarged(digit, chance.uniform(2, 20)))


def inverted(digit: Grey, chance: Chance) -> bytes:
    return file(Image.fromarray(255 - digit))


def in_a_corner(digit: Grey, chance: Chance) -> bytes:
    canvas = Image.new("L", (640, 480))
    canvas.paste(Image.fromarray(digit), tuple(chance.choice([[0, 0], [612, 0], [0, 452], [612, 452]])))
    return file(canvas)


def noisy(digit: Grey, chance: Chance) -> bytes:
    grey = np.pad(digit, 4) + chance.normal(0, 25, (36, 36))
    return file(Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)))


def poor_jpeg(digit: Grey, chance: Chance) -> bytes:
    return file(Image.fromarray(255 - np.asarray(enlarged(digit, 2))), "JPEG", quality=40)


def in_a_gradient(digit: Grey, chance: Chance) -> bytes:
    """Dark ink on paper whose light falls from 250 to 60, in any direction."""
    ink = np.asarray(enlarged(digit, 8)) / 255
    angle = chance.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[: len(ink), : len(ink)]
    slope = columns * np.cos(angle) + rows * np.sin(angle)
    paper = 60 + 190 * (slope - slope.min()) / np.ptp(slope)
    return file(Image.fromarray((paper * (1 - 0.8 * ink)).astype(np.uint8)))


def transparent(digit: Grey, chance: Chance) -> bytes:
    ink = enlarged(digit, 5)
    colour = Image.new("RGB", ink.size, tuple(chance.integers(0, 90, 3).tolist()))
    colour.putalpha(ink)
    return file(colour)


def photographed(digit: Grey, chance: Chance) -> bytes:
    """Dark ink on ruled paper, with the hard edge of a shadow through it, noise and JPEG."""
    ink = np.pad(np.asarray(enlarged(digit, 6)) / 255, 80)
    paper = np.full(ink.shape, 225.0)
    paper[int(chance.integers(0, 40)) :: 45] = 190
    paper[:, int(chance.integers(100, 230)) :] *= 0.6
    grey = paper * (1 - 0.75 * ink) + chance.normal(0, 4, ink.shape)
    return file(Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB"), "JPEG", quality=80)


WAYS: list[Callable[[Grey, Chance], bytes]] = [
    large, inverted, in_a_corner, noisy, poor_jpeg, in_a_gradient, transparent, photographed
]  # fmt: skip


def read(files: list[bytes]) -> Pixels:
    return np.concatenate([images.from_bytes(data, max_pixels=1_000_000) for data in files])


@pytest.fixture(scope="module")
def plain(networks: dict[str, Predictor], mnist: datasets.Arrays) -> dict[str, float]:
    step = len(mnist.x_test) // COUNT
    found = right(networks, mnist.x_test[::step].reshape(-1, 784).astype(np.float32), mnist.y_test[::step])
    log.info("plain: %s", found)
    return found


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_digits_are_read_as_well_as_the_plain_ones(
    networks: dict[str, Predictor],
    plain: dict[str, float],
    mnist: datasets.Arrays,
    way: Callable[[Grey, Chance], bytes],
) -> None:
    step = len(mnist.x_test) // COUNT
    files = [way(digit, np.random.default_rng(place)) for place, digit in enumerate(mnist.x_test[::step])]
    found = right(networks, read(files), mnist.y_test[::step])
    log.info("%s: %s", way.__name__, found)
    for name, share in found.items():
        assert share >= plain[name] - 0.02, name


@pytest.mark.parametrize(("margin", "least"), [(40, 0.88), (0, 0.86)], ids=["on paper", "cropped tight"])
def test_other_peoples_digits_are_read(networks: dict[str, Predictor], margin: int, least: float) -> None:
    """Handwriting of 13 other writers from another scanner, in 8x8 pixels: scikit-learn's `load_digits` (E. Alpaydin
    and C. Kaynak, *Optical Recognition of Handwritten Digits*, 1998). Enlarged 20 times, never trained on. The method
    was tuned on every second picture; `odd` are the others.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    most = len(digits.images) * COUNT // 1000
    truth = digits.target[:most]
    grey = (digits.images[:most] * (255 / 16)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(one).resize((160, 160), Image.Resampling.BICUBIC)) for one in grey]
    pixels = read([file(Image.fromarray(255 - np.pad(one, margin))) for one in large])
    found = right(networks, pixels, truth)
    odd, even = (right(networks, pixels[part::2], truth[part::2]) for part in (1, 0))
    log.info("load_digits, margin %s: all %s, odd %s, even %s", margin, found, odd, even)
    assert found["128 units"] >= least
