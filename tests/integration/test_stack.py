"""Networks trained as one: each keeps its own bits, its own end, and its own resume."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from service.domain.events import Checkpoint, EpochEnd, Failed, Stopped, Stops, Trained
from service.domain.experiment import ACTIVATIONS, Optimizer, Spec
from tests.integration.test_training import epochs_of, job, model_of, spec, stopped_after, tf, train

__all__ = ["tf"]

pytestmark = pytest.mark.slow

TOGETHER = [3, 9, 0, 7, 1]


def seeds(wanted: Spec, numbers: list[int]) -> list[Spec]:
    return [wanted.model_copy(update={"seed": number}) for number in numbers]


def assert_same_bits(tf, folder: Path, wanted: Spec, number: int = 7) -> None:
    """One network among others, and the same alone."""
    alone = train(tf, folder, *seeds(wanted, [number]))
    together = train(tf, folder, *seeds(wanted, TOGETHER))
    assert model_of(together, number).weights_sha256 == model_of(alone, number).weights_sha256
    assert model_of(together, number).test_accuracy == model_of(alone, number).test_accuracy
    assert epochs_of(together, number) == epochs_of(alone, number)


STACKED = [name for name in ACTIVATIONS if not spec(activation=name).mixes_units]
"""A third of them is tried, and all of them with EVERY_ACTIVATION=1: a stack is made in the same way of each."""


@pytest.mark.parametrize("activation", STACKED if os.environ.get("EVERY_ACTIVATION") else STACKED[::3])
def test_every_activation_gives_the_same_bits_alone_and_together(tf, mnist_dir: Path, activation: str) -> None:
    assert_same_bits(tf, mnist_dir, spec(activation=activation, depth=2, epochs=1))


@pytest.mark.parametrize("optimizer", [name for name in get_args(Optimizer) if spec(optimizer=name).stack_key])
def test_every_optimizer_gives_the_same_bits_alone_and_together(tf, mnist_dir: Path, optimizer: str) -> None:
    assert_same_bits(tf, mnist_dir, spec(optimizer=optimizer))


@pytest.mark.parametrize(
    ("depth", "units", "batch_size"),
    [(1, 1, 1000), (2, 2, 7_000), (3, 5, 999), (8, 16, 60_000), (2, 33, 501), (1, 150, 2000)],
)
def test_every_shape_gives_the_same_bits_alone_and_together(
    tf, mnist_dir: Path, depth: int, units: int, batch_size: int
) -> None:
    assert_same_bits(tf, mnist_dir, spec(depth=depth, units=units, batch_size=batch_size, epochs=1))


def test_each_network_is_the_one_of_its_seed(tf, mnist_dir: Path) -> None:
    events = train(tf, mnist_dir, *seeds(spec(epochs=1), TOGETHER))
    assert len({model_of(events, number).weights_sha256 for number in TOGETHER}) == len(TOGETHER)


def test_a_member_that_stops_resumes_alone_or_among_others_with_the_same_bits(tf, mnist_dir: Path) -> None:
    wanted = spec(epochs=3, depth=2)
    whole = train(tf, mnist_dir, *seeds(wanted, TOGETHER))
    interrupted = stopped_after(tf, job(mnist_dir, *seeds(wanted, TOGETHER)), 2)
    payloads = {int(event.experiment_id): event.payload for event in interrupted if isinstance(event, Checkpoint)}
    assert payloads.keys() == set(TOGETHER)
    for group in ([7], [0, 7, 9]):
        resumed = train(tf, mnist_dir, *seeds(wanted, group), resume=[payloads[number] for number in group])
        for number in group:
            assert model_of(resumed, number).weights_sha256 == model_of(whole, number).weights_sha256
            assert epochs_of(interrupted, number) + epochs_of(resumed, number) == epochs_of(whole, number)


def test_one_member_stops_and_the_others_go_on(tf, mnist_dir: Path) -> None:
    wanted, stops, events = spec(epochs=3), Stops(), []
    for event in tf.fit.train(job(mnist_dir, *seeds(wanted, [1, 2])), stops):
        events.append(event)
        stops.stop("1")
    assert [event.experiment_id for event in events if isinstance(event, Stopped)] == ["1"]
    assert [sorted(event.metrics) for event in events if isinstance(event, EpochEnd)] == [["1", "2"], ["2"], ["2"]]
    alone = train(tf, mnist_dir, *seeds(wanted, [2]))
    assert model_of(events, 2).weights_sha256 == model_of(alone, 2).weights_sha256


def test_one_member_diverges_and_the_others_keep_their_bits(tf, mnist_dir: Path) -> None:
    wanted = spec(epochs=2)
    stack = tf.stack.Stack(seeds(wanted, [1, 2]), tf.fit._tensors("mnist", str(mnist_dir)))
    stack.variables[0].assign(np.concatenate([np.full((1, 16, 784), np.nan), stack.variables[0].numpy()[1:]]))
    payloads = [tf.checkpoints.save(stack, place, 0) for place in (0, 1)]
    events = train(tf, mnist_dir, *seeds(wanted, [1, 2]), resume=payloads)
    assert [event.experiment_id for event in events if isinstance(event, Failed)] == ["1"]
    assert [sorted(event.metrics) for event in events if isinstance(event, EpochEnd)] == [["1", "2"], ["2"]]
    assert [event.experiment_id for event in events if isinstance(event, Trained)] == ["2"]
    alone = train(tf, mnist_dir, *seeds(wanted, [2]))
    assert model_of(events, 2).weights_sha256 == model_of(alone, 2).weights_sha256


def test_a_tensorflow_that_was_started_otherwise_is_refused() -> None:
    program = "import tensorflow\nimport service.training.fit\n"
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("ImportError: TensorFlow was imported before")


def test_libraries_that_training_can_do_without_are_passed_over_and_can_be_imported_later() -> None:
    program = (
        "import sys\n"
        "import service.training\n"
        "print(*sorted({'matplotlib', 'pandas', 'scipy'} & sys.modules.keys()))\n"
        "import matplotlib.pyplot, pandas, scipy.stats\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_checkpoints_of_different_epochs_are_not_stacked(tf, mnist_dir: Path) -> None:
    stack = tf.stack.Stack(seeds(spec(), [1, 2]), tf.fit._tensors("mnist", str(mnist_dir)))
    payloads = [tf.checkpoints.save(stack, place, place + 1) for place in (0, 1)]
    with pytest.raises(ValueError, match="different epochs"):
        tf.checkpoints.restore(payloads, stack)
