"""The Python client, of both kinds, against the real API: what is asked, what comes back, and what breaks between."""

import inspect
import io
import itertools
import json
import subprocess
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, assert_type

import anyio
import numpy as np
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from PIL import Image

from service import client as clients
from service.client import ApiError, Async, AsyncClient, Client, ExperimentHandle, Retries, Sync
from service.domain.experiment import EpochMetrics, Experiment, Status
from service.settings import Settings
from service.store import experiments, queue, workers
from service.store.queue import Claim
from tests.integration.conftest import Api, claim, finish, record, serving
from tests.integration.gate import Gate, gate_to

pytestmark = pytest.mark.slow

QUICK = Retries(times=4, first_seconds=0.01, most_seconds=0.05)


class Blocking:
    """An asynchronous client or handle, to be used as the other kind is: the same tests hold for both."""

    def __init__(self, portal: BlockingPortal, of: Any) -> None:
        self._portal = portal
        self._of = of

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._of, name)
        return (lambda *given, **named: self._came(value(*given, **named))) if callable(value) else value

    def __repr__(self) -> str:
        return repr(self._of)

    def _came(self, value: Any) -> Any:
        if inspect.iscoroutine(value):
            return self._came(self._portal.call(lambda: value))
        if isinstance(value, AsyncIterator):
            return self._each(value)
        return Blocking(self._portal, value) if hasattr(value, "_carrier") else value

    def _each(self, values: Any) -> Iterator[Any]:
        try:
            while (value := self._portal.call(anext, values, None)) is not None:
                yield self._came(value)
        finally:
            self._portal.call(values.aclose)


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest, portal: BlockingPortal) -> Iterator[Callable[..., Any]]:
    """Makes clients, of each kind in turn, and closes them."""
    made: list[Any] = []

    def connect(url: object, **options: Any) -> Any:
        kind = Client if request.param == "sync" else AsyncClient
        client = kind(str(url), **{"retries": QUICK, **options})
        made.append(client if isinstance(client, Client) else Blocking(portal, client))
        return made[-1]

    yield connect
    for client in made:
        client.close()


@pytest.fixture
def api(sqlite_api: Api) -> Api:
    return sqlite_api


@pytest.fixture
def client(api: Api, connect: Callable[..., Any]) -> Any:
    return connect(api.base_url)


@pytest.fixture
def gate(api: Api) -> Iterator[Gate]:
    assert api.base_url.port is not None
    with gate_to(api.base_url.port) as gate:
        yield gate


@pytest.fixture
def shaky(gate: Gate, connect: Callable[..., Any]) -> Any:
    """A client whose connections break as the gate is told."""
    return connect(gate.url)


@pytest.fixture
def good(api: Api, tiny_onnx: bytes) -> str:
    """The id of an experiment that has succeeded, with three epochs."""
    claimed = claim(api, seed=7, tags=["deep"])
    for number in (1, 2, 3):
        record(api, claimed, number)
    finish(api, claimed, tiny_onnx)
    return claimed.experiment_id


def fail(api: Api, claimed: Claim) -> None:
    with api.ports.database.write() as session:
        queue.fail(session, claimed, "training_diverged", "the loss became NaN in epoch 3")


# Queueing and reading.


def test_train_queues_what_was_said_and_the_service_adds_the_rest(api: Api, client: Any) -> None:
    made = client.train("relu", 3, units=32, tags=["mine"])
    assert made.raw == api.get(f"/experiments/{made.id}").json()
    assert (made.status, made.spec.units, made.spec.epochs, made.spec.tags) == (Status.QUEUED, 32, 10, ("mine",))
    assert made.value == Experiment.model_validate({k: v for k, v in made.raw.items() if k != "links"})
    assert repr(made) == f"<experiment {made.id}: relu, depth 3, queued>"


def test_an_experiment_is_read_by_its_id_or_the_beginning_of_it(api: Api, client: Any, good: str) -> None:
    assert client.get_experiment(good).result.test_accuracy == 0.75
    assert client.get_experiment(good[:13]).id == good
    with pytest.raises(clients.NotFound, match="begins with 00000000"):
        client.get_experiment("00000000")
    same = [client.train("relu", 1).id for _ in range(2)]
    shared = "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*same, strict=True)))
    with pytest.raises(ApiError, match="experiments have an id that begins with"):
        client.get_experiment(shared[:8])


def test_wherever_an_id_is_wanted_its_beginning_will_do(
    api: Api, client: Any, good: str, digit: np.ndarray[Any, Any], tiny_onnx: bytes, tmp_path: Path
) -> None:
    sweep = client.sweep(grid={"activation": ["relu"], "depth": [1]})
    short = good[:23]
    assert client.predict(digit, model=short).experiment_id == good
    assert client.predict_many([digit], model=short)[0].experiment_id == good
    assert client.predict_each(digit, [short, "best"])[short].experiment_id == good
    assert len(client.metrics(short).epochs) == 3
    client.download(short, tmp_path / "model.onnx", "onnx")
    assert (tmp_path / "model.onnx").read_bytes() == tiny_onnx
    assert client.set_alias("mine", short).experiment_id == good
    assert [one.value.sweep_id for one in client.experiments(sweep_id=sweep.id[:23])] == [sweep.id]
    assert [one.value.sweep_id for one in client.page(sweep_id=sweep.id[:23]).data] == [sweep.id]
    with pytest.raises(clients.NotFound, match="begins with 00000000"):
        client.predict(digit, model="00000000")


def test_an_alias_may_look_like_the_beginning_of_an_id(client: Any, good: str, digit: np.ndarray[Any, Any]) -> None:
    client.set_alias("20261126", good)
    assert client.predict(digit, model="20261126").experiment_id == good
    assert client.model_name("20261126") == "20261126"
    assert client.model_name(good[:23]) == good


@pytest.mark.parametrize("text", ["", "../models", "a/b", "a?b", "é", "%2e"])
def test_what_is_no_id_is_not_found(client: Any, text: str) -> None:
    with pytest.raises(clients.NotFound):
        client.get_experiment(text)


def test_both_kinds_are_typed(api: Api, portal: BlockingPortal) -> None:
    async def train() -> str:
        async with AsyncClient(str(api.base_url)) as client:
            made = assert_type(await client.train("relu", 1), ExperimentHandle[Async])
            assert_type(made.epochs(), AsyncIterator[EpochMetrics])
            assert assert_type(await AsyncClient.ready(client), bool)
            return assert_type(await made.refresh(), Experiment).id

    with Client(str(api.base_url)) as client:
        made = assert_type(client.train("relu", 1), ExperimentHandle[Sync])
        assert_type(made.epochs(), Iterator[EpochMetrics])
        assert_type(made.cancel(), Experiment)
        assert_type(list(client.experiments()), list[ExperimentHandle[Sync]])
        assert assert_type(Client.ready(client), bool)
        assert [one.id for one in Client.experiments(client)] == [made.id]
        assert client.get_experiment(portal.call(train)).status is Status.QUEUED


def test_experiments_are_listed_page_by_page(client: Any) -> None:
    made = [client.train("tanh", depth).id for depth in (1, 2, 3, 4)]
    for size in (1, 3, 4, 200):
        assert [one.id for one in client.experiments(page_size=size)] == made[::-1]
    assert [one.id for one in client.experiments(page_size=1, sort="created_at")] == made
    page = client.page(limit=3)
    assert [one.id for one in page.data] == made[:0:-1]
    assert [one.id for one in client.page(cursor=page.next_cursor).data] == made[:1]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"status": [Status.CANCELLED, "failed"]}, ["cancelled"]),
        ({"tag": ["deep"]}, ["waiting", "cancelled"]),
        ({"tag": ["deep", "a;b, c"]}, ["waiting"]),
        ({"activation": ["tanh"], "depth": [2, 3], "dataset": ["mnist"]}, ["cancelled"]),
        ({"sweep_id": "019304a2-7b1c-7d3e-8f00-0123456789ab"}, []),
    ],
)
def test_lists_are_filtered(client: Any, filters: dict[str, Any], names: list[str]) -> None:
    cancelled = client.train("tanh", 2, tags=["deep"])
    made = {"cancelled": cancelled, "waiting": client.train("relu", 1, tags=["deep", "a;b, c"])}
    cancelled.cancel()
    assert [one.id for one in client.experiments(**filters)] == [made[name].id for name in names]


def test_two_handles_of_the_same_are_equal(client: Any) -> None:
    made = client.train("relu", 1)
    seen = client.get_experiment(made.id)
    other, sweep = client.train("relu", 1), client.sweep(grid={"activation": ["relu"], "depth": [1]})
    (ours, again, another, all_of_it) = (getattr(one, "_of", one) for one in (made, seen, other, sweep))
    assert (ours == again, hash(ours) == hash(again)) == (True, True)
    assert ours not in {another, all_of_it, made.id}
    assert len({ours, again, another}) == 2


def test_an_experiment_is_cancelled_repeated_and_deleted(client: Any) -> None:
    made = client.train("relu", 1)
    with pytest.raises(clients.ExperimentNotFinished):
        made.delete()
    made.cancel()
    assert made.status is Status.CANCELLED
    assert made.cancel().status is Status.CANCELLED
    again = made.retry()
    assert again.value.retry_of == made.id
    made.delete()
    with pytest.raises(clients.ExperimentNotFound):
        made.refresh()


def test_a_sweep_is_planned_queued_cancelled_and_deleted(client: Any) -> None:
    wanted: Any = {"grid": {"activation": ["relu", "tanh"], "depth": {"start": 1, "stop": 3}}, "seeds": 2}
    plan = client.plan_sweep(**wanted)
    assert (plan.experiments, plan.seeds, plan.arms[0].label) == (12, 2, "relu, depth 1")
    assert list(client.sweeps()) == []
    sweep = client.sweep(**wanted, name="mine")
    assert repr(sweep) == f"<sweep {sweep.id}: 0 of 12 done, queued>"
    assert len({one.id for one in sweep.experiments()}) == 12
    assert [one.spec.depth for one in sweep.experiments(depth=[3])] == [3] * 4
    assert sweep.comparison().complete is False
    assert sweep.comparison(reference="relu, depth 1").reference == "relu, depth 1"
    with pytest.raises(clients.UnknownArm):
        sweep.comparison(reference="relu")
    assert client.get_sweep(sweep.id[:8]).spec == sweep.spec
    assert sweep.cancel().progress.cancelled == 12
    assert sweep.wait().status == "finished"
    sweep.delete()
    with pytest.raises(clients.SweepNotFound):
        sweep.refresh()


def test_workers_are_the_domains_own(client: Client, api: Api) -> None:
    assert client.workers() == []
    with api.ports.database.write() as session:
        workers.beat(
            session, "one", lease_seconds=60, trouble="no Ray", host="desk", process=7, engine="ray", slots=2,
            version="1.0", draining=False,
        )  # fmt: skip
        (expected,) = workers.every(session)
    assert client.workers() == [expected]


def test_models_have_names(client: Any, good: str) -> None:
    assert client.set_alias("mine", good).experiment_id == good
    assert {one.alias: one.computed for one in client.models()} == {"best": True, "mine": False}
    assert client.alias("mine").test_accuracy == 0.75
    with pytest.raises(clients.ExperimentHasAlias):
        client.get_experiment(good).delete()
    with pytest.raises(clients.ReservedAlias):
        client.set_alias("best", good)
    client.delete_alias("mine")
    with pytest.raises(clients.AliasNotFound):
        client.alias("mine")


# What the service refuses.


def test_a_refusal_says_which_field_is_wrong(client: Any) -> None:
    with pytest.raises(clients.InvalidRequest) as raised:
        client.train("rleu", 0)
    assert raised.value.status == 422
    assert raised.value.type == "urn:epochd:problem:invalid-request"
    assert raised.value.title == "Invalid request"
    assert {fault.pointer for fault in raised.value.errors} == {"/activation", "/depth"}
    assert "/depth: " in str(raised.value)


def test_a_queue_that_stays_full_is_told_at_once_when_the_wait_would_be_too_long(
    tmp_path: Path, connect: Callable[..., Any]
) -> None:
    with serving(Settings(data_dir=tmp_path / "full", max_queued=1)) as full:
        client = connect(full.base_url)
        client.train("relu", 1)
        with pytest.raises(clients.QueueFull):
            client.train("relu", 1)


def test_where_nobody_listens_there_is_no_answer(connect: Callable[..., Any]) -> None:
    client = connect("http://127.0.0.1:9", retries=Retries(times=1, first_seconds=0.01))
    assert client.ready() is False
    with pytest.raises(clients.NoAnswer, match=r"no answer from http://127\.0\.0\.1:9: connection refused") as raised:
        client.get_experiment("x" * 36)
    assert raised.value.status is None


@pytest.mark.parametrize("url", ["ftp://x", "nonsense", "http://[::1"])
def test_what_is_no_address_is_told_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ApiError, match="no address of a service"):
        Client(url)


# Connections that break.


def test_an_answer_that_is_lost_queues_nothing_twice(api: Api, gate: Gate, shaky: Any) -> None:
    gate.plans = ["swallow", "refuse"]
    made = shaky.train("relu", 1)
    gate.plans = ["refuse", "swallow"]
    sweep = shaky.sweep(grid={"activation": ["relu"], "depth": [1, 2]})
    listed = {one["id"] for one in api.get("/experiments").json()["data"]}
    assert listed == {made.id, *(one.id for one in sweep.experiments())}
    assert len(listed) == 3


def test_each_call_has_a_key_of_its_own(client: Any) -> None:
    assert client.train("relu", 1).id != client.train("relu", 1).id


def test_what_may_not_be_sent_twice_is_not(api: Api, gate: Gate, shaky: Any, good: str) -> None:
    experiment = shaky.get_experiment(good)
    gate.plans = ["swallow"]
    gate.cut()
    with pytest.raises(clients.NoAnswer):
        experiment.retry()
    assert len(api.get("/experiments").json()["data"]) == 2


def test_a_deletion_whose_answer_is_lost_is_a_deletion(api: Api, gate: Gate, shaky: Any, good: str) -> None:
    experiment = shaky.get_experiment(good)
    gate.plans = ["swallow"]
    gate.cut()
    experiment.delete()
    assert api.get(f"/experiments/{good}").status_code == 404


def test_it_gives_up_in_the_end(gate: Gate, shaky: Any) -> None:
    gate.plans = ["refuse"] * 20
    with pytest.raises(clients.NoAnswer):
        shaky.get_experiment("x" * 36)
    assert len(gate.plans) == 20 - 1 - QUICK.times


# Following.


def test_epochs_come_as_they_end(api: Api, client: Any) -> None:
    claimed = claim(api)
    epochs = client.get_experiment(claimed.experiment_id).epochs()
    for number in (1, 2):
        record(api, claimed, number)
        assert next(epochs).epoch == number
    fail(api, claimed)
    assert list(epochs) == []


@pytest.mark.parametrize("plans", [[3, 1, "swallow", 2], [0], ["refuse", 1, 1, 1, 1, 1, 1, 1], [1, *["refuse"] * 9]])
def test_no_epoch_is_lost_and_none_comes_twice_when_connections_break(
    gate: Gate, shaky: Any, good: str, plans: list[Any]
) -> None:
    experiment = shaky.get_experiment(good)
    gate.plans = list(plans)
    gate.cut()
    assert [one.epoch for one in experiment.epochs()] == [1, 2, 3]


def test_following_goes_on_when_the_service_stops_and_comes_back(api: Api, client: Any) -> None:
    claimed = claim(api)
    record(api, claimed, 1)
    epochs = client.get_experiment(claimed.experiment_id).epochs()
    assert next(epochs).epoch == 1
    api.ports.stopping.set()

    def come_back() -> None:
        api.ports.stopping.clear()
        record(api, claimed, 2)

    back = threading.Timer(0.3, come_back)
    back.start()
    assert next(epochs).epoch == 2
    back.join()
    epochs.close()


def test_waiting_for_a_sweep_goes_on_when_the_service_is_away_for_a_while(gate: Gate, shaky: Any) -> None:
    sweep = shaky.sweep(grid={"activation": ["relu"], "depth": [1]})
    sweep.cancel()
    gate.plans = ["refuse", "swallow"] * (QUICK.times + 1)
    gate.cut()
    assert sweep.wait(timeout=60).status == "finished"
    assert gate.plans == []


def test_waiting_for_a_sweep_ends_when_the_service_does_not_come_back(gate: Gate, shaky: Any) -> None:
    sweep = shaky.sweep(grid={"activation": ["relu"], "depth": [1]})
    gate.plans = ["refuse"] * 50
    gate.cut()
    with pytest.raises(clients.NoAnswer):
        sweep.wait(timeout=60)


def test_following_can_be_left_and_begun_again(api: Api, client: Any) -> None:
    claimed = claim(api)
    record(api, claimed, 1)
    experiment = client.get_experiment(claimed.experiment_id)
    for _ in range(3):
        epochs = experiment.epochs()
        assert next(epochs).epoch == 1
        epochs.close()


def test_wait_returns_when_it_has_ended(api: Api, client: Any, tiny_onnx: bytes) -> None:
    claimed = claim(api)
    experiment = client.get_experiment(claimed.experiment_id)

    def train() -> None:
        for number in (1, 2):
            record(api, claimed, number)
        finish(api, claimed, tiny_onnx)

    trainer = threading.Thread(target=train)
    trainer.start()
    assert experiment.wait(timeout=60).result.test_accuracy == 0.75
    trainer.join()
    assert experiment.status is Status.SUCCEEDED
    assert [one.epoch for one in experiment.metrics(after_epoch=1).epochs] == [2]


def test_wait_tells_of_a_failure(api: Api, client: Any) -> None:
    claimed = claim(api)
    fail(api, claimed)
    experiment = client.get_experiment(claimed.experiment_id)
    with pytest.raises(clients.ExperimentFailed, match="the loss became NaN") as raised:
        experiment.wait()
    assert raised.value.experiment.error is not None
    assert experiment.wait(check=False).error.code == "training_diverged"
    waiting = client.train("relu", 1)
    waiting.cancel()
    with pytest.raises(clients.ExperimentFailed, match="it was cancelled"):
        waiting.wait()


def test_a_wait_ends_in_time(client: Any) -> None:
    made = client.train("relu", 1)
    with pytest.raises(clients.WaitTimeout, match="it goes on"):
        made.wait(timeout=0.2)
    with pytest.raises(clients.WaitTimeout):
        made.wait(timeout=0.0001)
    with pytest.raises(TimeoutError):
        client.sweep(grid={"activation": ["relu"], "depth": [1]}).wait(timeout=0.2)


def test_an_experiment_that_is_deleted_meanwhile_ends_the_wait(api: Api, client: Any) -> None:
    claimed = claim(api)
    record(api, claimed, 1)
    epochs = client.get_experiment(claimed.experiment_id).epochs()
    assert next(epochs).epoch == 1
    with api.ports.database.write() as session:  # at once: its stream never sees the end
        queue.fail(session, claimed, "training_diverged", "the loss became NaN in epoch 3")
        experiments.delete_finished(session, claimed.experiment_id)
    with pytest.raises(clients.ExperimentNotFound, match="was deleted"):
        next(epochs)


@pytest.mark.parametrize("progress", [True, False])
def test_progress_is_a_few_lines_where_there_is_no_terminal(
    client: Any, good: str, capsys: pytest.CaptureFixture[str], progress: bool
) -> None:
    client.get_experiment(good).wait(progress=progress)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == (
        [
            "relu, depth 1: 0/10  queued",
            "relu, depth 1: 1/10  loss 1.0000, accuracy 0.5000, test 0.2500",
            "relu, depth 1: 2/10  loss 0.5000, accuracy 0.5000, test 0.2500",
            "relu, depth 1: 3/10  loss 0.3333, accuracy 0.5000, test 0.2500",
        ]
        if progress
        else []
    )


def test_progress_is_plain_in_a_notebook(
    client: Any, good: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    client.get_experiment(good).wait(progress=True)
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.splitlines()[0] == "relu, depth 1: 0/10  queued"


def test_a_wait_that_is_cancelled_closes_what_it_opened(api: Api, portal: BlockingPortal) -> None:
    async def wait() -> bool:
        async with AsyncClient(str(api.base_url)) as client:
            made = await client.train("relu", 1)
            with anyio.move_on_after(0.2) as scope:
                await made.wait()
            assert await client.ready()
            return scope.cancelled_caught

    assert portal.call(wait)


# Models, files and figures.


@pytest.fixture
def digit(tmp_path: Path) -> np.ndarray[Any, Any]:
    pixels = np.zeros((28, 28), dtype=np.uint8)
    pixels[4:24, 12:16] = 255
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    return pixels


def test_any_kind_of_picture_is_read(client: Any, good: str, digit: np.ndarray[Any, Any], tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    kinds: list[Any] = [
        path, str(path), path.read_bytes(), Image.open(path), digit, digit.reshape(784), digit[None], digit.tolist(),
        digit / 255, digit > 0, io.BytesIO(path.read_bytes()),
    ]  # fmt: skip
    answers = [client.predict(kind, explain=True) for kind in kinds]
    assert {(one.digit, one.experiment_id) for one in answers} == {(answers[0].digit, good)}
    assert np.array_equal(answers[0].pixels, digit)
    assert len(answers[0].probabilities) == 10
    assert answers[0].confidence == max(answers[0].probabilities)
    assert client.get_experiment(good).predict(path) == client.predict(path, model=good)
    large = np.kron(digit, np.ones((9, 9), dtype=np.uint8))
    for array in (large, np.stack([large] * 3, axis=2)):
        assert client.predict(array) == client.predict(Image.fromarray(array))


def test_a_picture_that_exif_data_turn_is_read_the_same_from_its_file_and_from_pillow(
    client: Any, good: str, digit: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right
    large = np.kron(digit, np.ones((9, 9), dtype=np.uint8))
    Image.fromarray(large).save(tmp_path / "exif.jpg", exif=exif, quality=95)
    by_file = client.predict(tmp_path / "exif.jpg", explain=True)
    assert client.predict(Image.open(tmp_path / "exif.jpg"), explain=True).pixels == by_file.pixels
    assert client.predict(Image.fromarray(large), explain=True).pixels != by_file.pixels


def test_many_pictures_and_many_models(client: Any, good: str, digit: np.ndarray[Any, Any], tmp_path: Path) -> None:
    one = client.predict(digit)
    assert client.predict_many(np.stack([digit, digit])) == [one, one]
    assert client.predict_many([digit, tmp_path / "digit.png", digit.tolist()]) == [one] * 3
    assert client.predict_each(digit, ["best", good]) == {"best": one, good: one}
    assert client.predict_each(digit, ["best"]) == {"best": one}


def test_what_is_no_picture_is_refused(client: Any, good: str, tmp_path: Path) -> None:
    with pytest.raises(clients.InvalidImage):
        client.predict(b"no picture")
    with pytest.raises(FileNotFoundError):
        client.predict(tmp_path / "nothing.png")
    with pytest.raises(TypeError, match="a picture is a path"):
        client.predict(7)
    with pytest.raises(TypeError, match="uint8"):
        client.predict(np.zeros((56, 56)))
    with pytest.raises(clients.AliasNotFound):
        client.predict([0] * 784, model="nobody")


def test_a_model_is_downloaded_whole_or_not_at_all(
    api: Api, client: Any, good: str, tiny_onnx: bytes, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    client.get_experiment(good).download(folder / "model.onnx", "onnx")
    assert (folder / "model.onnx").read_bytes() == tiny_onnx
    with pytest.raises(clients.ApiError, match="has a model once"):
        client.train("relu", 1).download(folder / "none.keras")
    assert [path.name for path in folder.iterdir()] == ["model.onnx"]


def test_a_model_is_written_through_a_link(client: Any, good: str, tiny_onnx: bytes, tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to("target.onnx")
    client.download(good, tmp_path / "link.onnx", "onnx")
    assert (tmp_path / "link.onnx").is_symlink()
    assert (tmp_path / "target.onnx").read_bytes() == tiny_onnx


def test_filters_take_what_holds_their_values(client: Any) -> None:
    made = [client.train("relu", depth, tags={"mine"}).id for depth in np.arange(1, 4)]
    found = {one.id for one in client.experiments(depth=range(1, 3), status={"queued"}, tag=frozenset({"mine"}))}
    assert found == set(made[:2])
    assert [one.id for one in client.experiments(depth=np.array([3]))] == made[2:]


def test_a_file_that_breaks_off_leaves_nothing(gate: Gate, shaky: Any, good: str, tmp_path: Path) -> None:
    experiment = shaky.get_experiment(good)
    folder = tmp_path / "models"
    folder.mkdir()
    gate.plans = ["stop"]
    gate.cut()
    with pytest.raises(clients.NoAnswer):
        experiment.download(folder / "model.onnx", "onnx")
    assert list(folder.iterdir()) == []


def test_figures_show_themselves_in_a_notebook(client: Any, good: str) -> None:
    sweep = client.sweep(grid={"activation": ["relu"], "depth": [1]})
    for figure in (client.get_experiment(good).figure("learning-curves"), sweep.figure()):
        bundle = figure._repr_mimebundle_(include=None, exclude=None)
        assert bundle["application/vnd.plotly.v1+json"].keys() >= {"data", "layout"}
        assert bundle["image/svg+xml"].lstrip().startswith("<")
        assert bundle["text/plain"] == figure.title != ""
        json.dumps(bundle)
    drawn = client.get_experiment(good).draw("gradient-norms", kind="png", width=300)
    assert Image.open(io.BytesIO(drawn)).format == "PNG"


# How a service is found.


def test_the_environment_says_where_the_service_is_and_who_asks(
    api: Api, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EPOCHD_URL", gate.url)
    monkeypatch.setenv("EPOCHD_API_KEY", "from-environment")
    with Client() as client:
        assert client.url.rstrip("/") == gate.url
        assert client.ready()
    with Client(gate.url, api_key="given") as client:
        assert client.ready()
    monkeypatch.delenv("EPOCHD_API_KEY")
    with Client(gate.url) as client:
        assert client.ready()
    keys = [[line for line in head.splitlines() if line.lower().startswith("authorization")] for head in gate.asked]
    assert keys == [["Authorization: Bearer from-environment"], ["Authorization: Bearer given"], []]


def test_the_client_imports_neither_numpy_nor_pillow() -> None:
    code = "import sys, service.client; print([m for m in ('numpy', 'PIL', 'fastapi') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
