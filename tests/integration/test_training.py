"""Training with real TensorFlow on real MNIST."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest

from service import datasets
from service.domain.events import Checkpoint, EpochEnd, Event, Failed, Job, Member, Stopped, Stops, Trained
from service.domain.experiment import ACTIVATIONS, EpochMetrics, Initializer, Optimizer, Spec
from service.serving.predictor import Predictor
from service.store.models import ServableModel

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tf():
    """TensorFlow, Keras and the modules that import them. Their own import warnings are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from service.training import fit  # isort: skip - it says how TensorFlow shall start
        import keras
        import tensorflow as tf

        from service.training import checkpoints, export, gradients, network, stack

        fit._configure()
        # tf2onnx is imported at the first export.
        probe = Spec(activation="relu", depth=1, units=1)
        export.to_onnx(probe, network.initial_weights(probe))
        return SimpleNamespace(
            keras=keras,
            tensorflow=tf,
            fit=fit,
            network=network,
            export=export,
            checkpoints=checkpoints,
            gradients=gradients,
            stack=stack,
        )


def spec(**values) -> Spec:
    return Spec.model_validate({"activation": "relu", "depth": 1, "epochs": 2} | values)


def job(folder: Path, *specs: Spec, resume: Sequence[bytes] = (), checkpoint_seconds: float = 1e9) -> Job:
    """One member for each spec, named by its seed."""
    return Job(
        members=tuple(Member(experiment_id=str(spec.seed), attempt=1, spec=spec) for spec in specs),
        data_dir=str(folder),
        checkpoint_seconds=checkpoint_seconds,
        resume=tuple(resume),
    )


def train(tf, folder: Path, *specs: Spec, **options) -> list[Event]:
    return list(tf.fit.train(job(folder, *specs, **options), Stops()))


def model_of(events: Iterable[Event], seed: int = 0) -> Trained:
    return next(event for event in events if isinstance(event, Trained) and event.experiment_id == str(seed))


def epochs_of(events: Iterable[Event], seed: int = 0) -> list[dict[str, object]]:
    ended = [event.metrics for event in events if isinstance(event, EpochEnd)]
    return [found[str(seed)].model_dump(exclude={"seconds"}) for found in ended if str(seed) in found]


def predictor(trained: Trained) -> tuple[Predictor, ServableModel]:
    model = ServableModel(experiment_id="one", dataset="mnist", onnx_sha256="a")
    return Predictor(load=lambda *_: trained.onnx, capacity=1), model


def test_the_activations_are_all_of_kerass_that_need_no_parameter_and_keep_the_width(tf) -> None:
    from keras.src.activations import ALL_OBJECTS

    known = {function.__name__ for function in ALL_OBJECTS}
    assert set(ACTIVATIONS) == known - {"glu", "threshold"}  # one halves the units, the other needs a threshold


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_onnx_answers_as_keras_does_for_every_activation(tf, activation: str, mnist: datasets.Arrays) -> None:
    wanted = spec(activation=activation, depth=2)
    network = tf.network.build_network(wanted)
    pixels = mnist.x_test[:500].reshape(-1, 784).astype(np.float32)
    expected = network(pixels / np.float32(255)).numpy()
    model = ServableModel(experiment_id="one", dataset="mnist", onnx_sha256=activation)
    onnx = tf.export.to_onnx(wanted, network.get_weights())
    answer = Predictor(load=lambda *_: onnx, capacity=1).probabilities(model, pixels)
    np.testing.assert_allclose(answer, expected, atol=1e-5)


@pytest.mark.parametrize(("activation", "depth"), [("relu", 1), ("sigmoid", 3)])
def test_onnx_answers_as_keras_does_on_all_test_images(
    tf, mnist_dir: Path, mnist: datasets.Arrays, tmp_path: Path, activation: str, depth: int
) -> None:
    trained = model_of(train(tf, mnist_dir, spec(activation=activation, depth=depth)))
    (tmp_path / "model.keras").write_bytes(trained.keras)
    network = tf.keras.saving.load_model(tmp_path / "model.keras")
    pixels = mnist.x_test.reshape(-1, 784).astype(np.float32)
    expected = network.predict(pixels / np.float32(255), batch_size=10_000, verbose=0)
    onnx, model = predictor(trained)
    answer = onnx.probabilities(model, pixels)
    assert answer.shape == (10_000, 10)
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    right = (answer.argmax(axis=1) == mnist.y_test).mean()
    assert right == pytest.approx(trained.test_accuracy, abs=1e-4)


def test_one_epoch_is_what_keras_does_with_the_same_batches(tf, mnist_dir: Path, mnist: datasets.Arrays) -> None:
    wanted = spec(activation="sigmoid", depth=2, epochs=1)
    ours = train(tf, mnist_dir, wanted)
    network = tf.network.build_network(wanted)
    network.compile(tf.keras.optimizers.Adam(0.001), "categorical_crossentropy", metrics=["accuracy"])
    order = tf.network.epoch_order(wanted, 1, 60_000)
    pixels = mnist.x_train.reshape(-1, 784)[order].astype(np.float32) / np.float32(255)
    labels = tf.keras.utils.to_categorical(mnist.y_train[order], 10)
    history = network.fit(pixels, labels, batch_size=1000, epochs=1, shuffle=False, verbose=0).history
    metrics = epochs_of(ours)[0]
    assert metrics["loss"] == pytest.approx(history["loss"][0], rel=1e-5)
    assert metrics["accuracy"] == pytest.approx(history["accuracy"][0], abs=1e-4)
    test_pixels = mnist.x_test.reshape(-1, 784).astype(np.float32) / np.float32(255)
    test_labels = tf.keras.utils.to_categorical(mnist.y_test, 10)
    loss, accuracy = network.evaluate(test_pixels, test_labels, batch_size=10_000, verbose=0)
    trained = model_of(ours)
    assert trained.test_loss == pytest.approx(loss, rel=1e-4)
    assert trained.test_accuracy == pytest.approx(accuracy, abs=2e-4)


def test_the_same_spec_gives_the_same_bits_and_each_seed_its_own(tf, mnist_dir: Path) -> None:
    def sha256(**values) -> str:
        wanted = spec(epochs=1, **values)
        return model_of(train(tf, mnist_dir, wanted), wanted.seed).weights_sha256

    first = sha256()
    assert sha256() == first
    assert len({first, sha256(seed=1), sha256(shuffle_seed=1)}) == 3


def stopped_after(tf, job: Job, epoch: int) -> list[Event]:
    """What is said until every member has stopped."""
    stops, events = Stops(), []
    for event in tf.fit.train(job, stops):
        events.append(event)
        if isinstance(event, EpochEnd) and all(metrics.epoch == epoch for metrics in event.metrics.values()):
            for member in job.members:
                stops.stop(member.experiment_id)
    return events


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_a_resumed_training_ends_with_the_bits_of_one_that_was_not_interrupted(
    tf, mnist_dir: Path, optimizer: str
) -> None:
    wanted = spec(epochs=4, optimizer=optimizer)
    whole = train(tf, mnist_dir, wanted)
    interrupted = stopped_after(tf, job(mnist_dir, wanted), 2)
    checkpoint = interrupted[-2]
    assert isinstance(checkpoint, Checkpoint)
    assert checkpoint.epoch == 2
    assert interrupted[-1] == Stopped(experiment_id="0")
    resumed = train(tf, mnist_dir, wanted, resume=[checkpoint.payload])
    assert model_of(resumed).weights_sha256 == model_of(whole).weights_sha256
    assert epochs_of(interrupted) + epochs_of(resumed) == epochs_of(whole)


def test_a_checkpoint_follows_every_epoch_but_the_last_when_they_are_wanted_at_once(tf, mnist_dir: Path) -> None:
    events = train(tf, mnist_dir, spec(epochs=3), checkpoint_seconds=0)
    assert [event.epoch for event in events if isinstance(event, Checkpoint)] == [1, 2]


def test_a_checkpoint_of_another_network_is_refused(tf, mnist_dir: Path) -> None:
    small = tf.stack.Stack([spec(units=4)], tf.fit._tensors("mnist", str(mnist_dir)))
    with pytest.raises(ValueError, match="shape"):
        train(tf, mnist_dir, spec(), resume=[tf.checkpoints.save(small, 0, 1)])


def test_a_last_batch_that_is_smaller_counts_by_its_size(tf, mnist_dir: Path) -> None:
    (metrics,) = epochs_of(train(tf, mnist_dir, spec(epochs=1, batch_size=7_000)))
    accuracy = metrics["accuracy"]
    assert isinstance(accuracy, float)
    assert (accuracy * 60_000) == pytest.approx(round(accuracy * 60_000), abs=0.02)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_loss_that_is_lost_ends_the_training_with_the_epoch(tf, mnist_dir: Path, optimizer: str) -> None:
    events = train(tf, mnist_dir, spec(learning_rate=1e6, optimizer=optimizer))
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert (failed.experiment_id, failed.code) == ("0", "training_diverged")
    assert "in epoch 1: a smaller learning_rate than 1e+06, another initializer, or a smaller depth" in failed.message
    assert not any(isinstance(event, Trained) for event in events)
    (metrics,) = epochs_of(events)
    assert metrics["epoch"] == 1


def test_the_epoch_in_which_training_is_lost_shows_why(tf, mnist_dir: Path) -> None:
    events = train(tf, mnist_dir, spec(learning_rate=1e6, optimizer="sgd"))
    assert [type(event) for event in events] == [EpochEnd, Failed]
    (found,) = [event.metrics["0"] for event in events if isinstance(event, EpochEnd)]
    assert (found.gradient_norms, found.hidden[0].dead) == ((0.0, 0.0), 1.0)


@pytest.mark.parametrize(
    ("loss", "val_loss", "lost"), [(2e4, 0.5, False), (None, 0.5, True), (0.5, None, True), (0.5, 2e4, True)]
)
def test_only_where_an_epoch_ends_does_a_large_loss_count_as_lost(
    tf, loss: float | None, val_loss: float | None, lost: bool
) -> None:
    member = Member(experiment_id="0", attempt=1, spec=spec())
    metrics = EpochMetrics(
        epoch=2, loss=loss, accuracy=0.1, val_loss=val_loss, val_accuracy=0.1, seconds=1.0, gradient_norms=(1.0, 1.0)
    )
    living = {0: member}
    reported = list(tf.fit._report({0: metrics}, living))
    assert [type(event) for event in reported] == [EpochEnd, *[Failed] * lost]
    assert bool(living) is not lost


@pytest.mark.parametrize("initializer", get_args(Initializer))
def test_every_initializer_builds_and_draws_each_layer_differently(tf, initializer: str) -> None:
    network = tf.network.build_network(spec(depth=3, initializer=initializer))
    second, third = (network.get_layer(f"hidden_{layer}").kernel.numpy() for layer in (2, 3))
    assert np.isfinite(second).all()
    assert (second == third).all() == (initializer == "zeros")


@pytest.mark.parametrize(("depth", "units"), [(1, 1), (1, 16), (3, 16), (5, 40)])
def test_the_spec_knows_the_number_of_parameters(tf, depth: int, units: int) -> None:
    wanted = spec(depth=depth, units=units)
    assert tf.network.build_network(wanted).count_params() == wanted.parameters


def test_sigmoids_gradient_vanishes_with_depth_and_relus_does_not(tf, mnist_dir: Path) -> None:
    def ratio(activation: str) -> float:
        (metrics,) = epochs_of(train(tf, mnist_dir, spec(activation=activation, depth=4, epochs=1)))
        norms = metrics["gradient_norms"]
        assert isinstance(norms, tuple)
        return float(norms[0] / norms[-1])

    assert ratio("sigmoid") < 0.1 < ratio("relu")
