"""Predictions from ONNX files: right answers from many threads, few loads, and names that are not believed for long."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from service.errors import BlobMissing
from service.serving.predictor import Predictor, own_name

ROLLS = 10


@dataclass(frozen=True)
class Model:
    """Its ONNX file answers `number` for a picture whose first tenth is bright."""

    number: int
    dataset: str = "mnist"

    @property
    def experiment_id(self) -> str:
        return f"experiment-{self.number}"

    @property
    def onnx_sha256(self) -> str:
        return f"{self.number:064x}"


@dataclass
class Files:
    """Where a predictor loads from, and what it has loaded."""

    files: dict[tuple[str, str], bytes]
    loaded: list[str] = field(default_factory=list)

    def __call__(self, experiment_id: str, sha256: str) -> bytes:
        self.loaded.append(experiment_id)
        try:
            return self.files[experiment_id, sha256]
        except KeyError:
            raise BlobMissing("gone") from None


@pytest.fixture(scope="module")
def rolled(tiny_onnx: bytes) -> dict[tuple[str, str], bytes]:
    files = {}
    for number in range(ROLLS):
        network = onnx.load_from_string(tiny_onnx)
        weights = np.roll(numpy_helper.to_array(network.graph.initializer[0]), number, axis=1)
        network.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
        files[Model(number).experiment_id, Model(number).onnx_sha256] = network.SerializeToString()
    return files


@pytest.fixture
def files(rolled: dict[tuple[str, str], bytes]) -> Files:
    return Files(rolled)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The predictor's clock, which stands still until a test moves it."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("service.serving.predictor.time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def picture(count: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    pixels = np.zeros((count, 784), dtype=np.float32)
    pixels[:, :78] = 255
    return pixels


def digit(predictor: Predictor, model: Model) -> int:
    return int(predictor.probabilities(model, picture())[0].argmax())


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_probabilities_are_ten_for_each_picture_and_add_up_to_1(files: Files, count: int) -> None:
    answer = Predictor(load=files, capacity=2).probabilities(Model(4), picture(count))
    assert answer.shape == (count, 10)
    assert answer.dtype == np.float32
    assert (answer.argmax(axis=1) == 4).all()
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)


def test_pixels_reach_the_network_as_shares_of_255(files: Files) -> None:
    answer = Predictor(load=files, capacity=1).probabilities(Model(0), picture())
    np.testing.assert_allclose(answer[0, 0], np.exp(78) / (np.exp(78) + 9))
    faint = Predictor(load=files, capacity=1).probabilities(Model(0), picture() / np.float32(78))
    np.testing.assert_allclose(faint[0, 0], np.exp(1) / (np.exp(1) + 9), rtol=1e-4)


def test_a_model_is_loaded_once(files: Files) -> None:
    predictor = Predictor(load=files, capacity=2)
    assert [digit(predictor, Model(3)) for _ in range(5)] == [3] * 5
    assert files.loaded == ["experiment-3"]


def test_the_least_recently_used_model_goes_first(files: Files) -> None:
    predictor = Predictor(load=files, capacity=2)
    for number in (1, 2, 1, 3, 1, 2):
        assert digit(predictor, Model(number)) == number
    assert files.loaded == ["experiment-1", "experiment-2", "experiment-3", "experiment-2"]


def test_a_file_that_is_gone_is_an_error_each_time_and_nothing_is_kept(files: Files) -> None:
    predictor = Predictor(load=files, capacity=2)
    lost = Model(ROLLS)
    for _ in range(2):
        with pytest.raises(BlobMissing):
            predictor.probabilities(lost, picture())
        with pytest.raises(BlobMissing):
            predictor.learn("lost", lost)
        assert predictor.known("lost") is None
    assert files.loaded == [lost.experiment_id] * 4


@pytest.mark.parametrize("capacity", [1, 3, 64])
def test_many_threads_get_the_answers_of_the_models_they_asked(files: Files, capacity: int) -> None:
    predictor = Predictor(load=files, capacity=capacity)
    threads = 8
    begin = threading.Barrier(threads)

    def ask(thread: int) -> None:
        begin.wait()
        for turn in range(60):
            model = Model((thread + turn * 3) % ROLLS)
            predictor.learn(f"alias-{turn % 7}", model)
            assert digit(predictor, model) == model.number
            predictor.known(f"alias-{thread % 7}")
            predictor.forget(f"alias-{thread % 7}")

    with ThreadPoolExecutor(threads) as pool:
        for asked in [pool.submit(ask, thread) for thread in range(threads)]:
            asked.result()
    if capacity >= ROLLS:
        assert set(files.loaded) == {Model(number).experiment_id for number in range(ROLLS)}
        assert len(files.loaded) <= ROLLS * threads


def test_a_name_is_believed_for_a_moment(files: Files, clock: SimpleNamespace) -> None:
    predictor = Predictor(load=files, capacity=2)
    assert predictor.known("best") is None
    predictor.learn("best", Model(1))
    assert predictor.known("best") == Model(1)
    clock.now += Predictor.RESOLVE_SECONDS
    assert predictor.known("best") == Model(1)
    clock.now += 0.001
    assert predictor.known("best") is None
    predictor.learn("best", Model(2))
    assert predictor.known("best") == Model(2)
    assert files.loaded == ["experiment-1", "experiment-2"]


def test_one_asks_anew_while_others_go_on_with_what_they_know(files: Files, clock: SimpleNamespace) -> None:
    predictor = Predictor(load=files, capacity=2)
    predictor.learn("best", Model(1))
    clock.now += Predictor.RESOLVE_SECONDS + 0.001
    assert predictor.known("best") is None
    assert predictor.known("best") == Model(1)
    clock.now += Predictor.STALE_SECONDS
    assert predictor.known("best") is None
    assert predictor.known("best") is None


def test_a_forgotten_name_is_asked_for_again_and_others_are_not(files: Files, clock: SimpleNamespace) -> None:
    predictor = Predictor(load=files, capacity=2)
    predictor.learn("mine", Model(1))
    predictor.learn("best", Model(1))
    predictor.forget("mine")
    predictor.forget("never heard of")
    assert predictor.known("mine") is None
    assert predictor.known("best") == Model(1)


def test_a_name_whose_model_was_pushed_out_is_not_known(files: Files, clock: SimpleNamespace) -> None:
    predictor = Predictor(load=files, capacity=1)
    predictor.learn("best", Model(1))
    predictor.learn("other", Model(2))
    assert predictor.known("best") is None
    assert predictor.known("other") == Model(2)


def test_names_do_not_pile_up(files: Files, clock: SimpleNamespace) -> None:
    predictor = Predictor(load=files, capacity=2)
    for number in range(1000):
        predictor.learn(f"name-{number}", Model(1))
    assert sum(predictor.known(f"name-{number}") is not None for number in range(1000)) <= 21
    assert predictor.known("name-999") == Model(1)


def test_no_alias_can_be_taken_for_an_experiment() -> None:
    identity = "019304a2-7b1c-7d3e-8f00-0123456789ab"
    assert own_name(identity) != identity
    assert "/" in own_name(identity)  # no alias has one
