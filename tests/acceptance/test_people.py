"""The commands for people, as installed, against the real API."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from service.domain.experiment import Spec
from service.main import open_ports
from service.settings import Settings
from service.store import listing, queue, workers
from service.store.listing import Filter
from tests.acceptance.conftest import EPOCHD, fails, run, serving
from tests.integration.conftest import Api, claim, finish, record


@pytest.fixture
def epochd(api: Api, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command that knows where the service is."""
    return lambda *arguments, **environment: run(
        *arguments, cwd=tmp_path, **{"EPOCHD_URL": str(api.base_url), **environment}
    )


@pytest.fixture
def good(api: Api, tiny_onnx: bytes) -> str:
    claimed = claim(api, activation="sigmoid", depth=2, seed=7, name="a [bold] name")
    for number in (1, 2, 3):
        record(api, claimed, number)
    finish(api, claimed, tiny_onnx)
    return claimed.experiment_id


@pytest.fixture
def bad(api: Api) -> str:
    claimed = claim(api)
    with api.ports.database.write() as session:
        queue.fail(session, claimed, "training_diverged", "the loss became NaN in epoch 3")
    return claimed.experiment_id


def told(done: subprocess.CompletedProcess[str], code: int = 0) -> str:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_train_queues_what_the_options_say(api: Api, epochd: Any) -> None:
    words = (
        "--activation gelu --depth 3 --units 32 --epochs 5 --learning-rate 0.01 --optimizer sgd --batch-size 100 "
        "--initializer he_normal --seed 7 --shuffle-seed 8 --dataset fashion_mnist --priority 2 --name mine "
        "--tag a --tag b"
    )
    identity = told(epochd("train", *words.split(), "--detach")).strip()
    assert api.get(f"/experiments/{identity}").json()["spec"] == Spec(
        activation="gelu", depth=3, units=32, epochs=5, learning_rate=0.01, optimizer="sgd", batch_size=100,
        initializer="he_normal", seed=7, shuffle_seed=8, dataset="fashion_mnist", priority=2, name="mine",
        tags=("a", "b"),
    ).model_dump(mode="json")  # fmt: skip


def test_what_an_option_does_not_say_the_service_decides(api: Api, epochd: Any) -> None:
    made = json.loads(told(epochd("train", "--activation", "relu", "--depth", "1", "-d", "--json")))
    assert made == api.get(f"/experiments/{made['id']}").json()
    assert made["spec"] == Spec(activation="relu", depth=1).model_dump(mode="json")


def test_help_says_what_the_service_takes_when_nothing_is_said(epochd: Any) -> None:
    text = " ".join(told(epochd("train", "--help")).split())
    for name, field in Spec.model_fields.items():
        if not field.is_required() and name not in {"name", "tags"}:
            assert f"[default: ({field.default})]" in text


def test_list_shows_what_the_filters_leave(api: Api, epochd: Any, good: str, bad: str) -> None:
    assert told(epochd("list")).splitlines()[1].startswith(bad)
    table = told(epochd("list", "--status", "succeeded", "--activation", "sigmoid", "--depth", "2")).splitlines()
    assert len(table) == 2
    assert table[1].split()[:7] == [good, "succeeded", "sigmoid", "2", "7", "3/10", "0.7500"]
    assert "a [bold] name" in table[1]
    page = json.loads(told(epochd("list", "--limit", "1", "--json")))
    assert page == api.get("/experiments", params={"limit": 1}).json()
    again = json.loads(told(epochd("list", "--limit", "1", "--cursor", page["next_cursor"], "--json")))
    assert [one["id"] for one in again["data"]] == [good]


def test_workers_are_listed_with_what_keeps_them_from_training(api: Api, epochd: Any) -> None:
    assert told(epochd("workers")).startswith("There is no worker: epochd worker starts one.")
    with api.ports.database.write() as session:
        workers.beat(
            session, "one", lease_seconds=60, trouble="the Ray cluster at head:6379 cannot be reached", host="desk",
            process=7, engine="ray", slots=16, version="1.0", draining=False,
        )  # fmt: skip
    line = told(epochd("workers")).splitlines()[1]
    assert line.split()[:7] == ["desk,", "process", "7", "active", "ray", "0", "16"]
    assert line.endswith("the Ray cluster at head:6379 cannot be reached")
    assert json.loads(told(epochd("workers", "--json"))) == api.get("/workers").json()


def test_show_tells_the_result_and_draws_the_curves(api: Api, epochd: Any, good: str) -> None:
    text = told(epochd("show", good[:13]))
    assert f"{good} succeeded: test accuracy 0.7500, loss 0.5000" in text
    assert "sigmoid, depth 2, 13,002 parameters" in text
    assert "seed 7" in text
    assert "a [bold] name" in text
    assert "(loss)" in text
    assert "(accuracy)" in text
    assert "on test images" in text
    assert "\x1b" not in text
    assert json.loads(told(epochd("show", good, "--json"))) == api.get(f"/experiments/{good}").json()


def test_an_experiment_that_failed_is_exit_code_3(epochd: Any, bad: str) -> None:
    done = epochd("show", bad, "--watch")
    assert "the loss became NaN in epoch 3" in told(done, 3)
    assert told(epochd("show", bad)) == done.stdout


def test_an_experiment_is_cancelled_repeated_and_deleted(api: Api, epochd: Any, good: str) -> None:
    again = told(epochd("retry", good, "--detach")).strip()
    assert api.get(f"/experiments/{again}").json()["retry_of"] == good
    assert "cancel it first" in fails(epochd("delete", again))
    assert told(epochd("cancel", again)) == f"{again} cancelled\n"
    assert json.loads(told(epochd("cancel", again, "--json"))) == api.get(f"/experiments/{again}").json()
    assert told(epochd("delete", again)) == f"{again} deleted\n"
    assert api.get(f"/experiments/{again}").status_code == 404


def test_a_sweep_is_counted_queued_compared_and_cancelled(api: Api, epochd: Any) -> None:
    wanted = ("sweep", "--activation", "sigmoid,relu", "--depth", "1-3", "--epochs", "4", "--seeds", "10", "--tag", "t")
    assert told(epochd(*wanted, "--dry-run")) == "60 experiments: 6 to compare, 10 of each\n"
    assert json.loads(told(epochd(*wanted, "--dry-run", "--json")))["experiments"] == 60
    assert api.get("/sweeps").json()["data"] == []
    sweep = told(epochd(*wanted)).strip()
    spec = api.get(f"/sweeps/{sweep}").json()["spec"]
    assert spec["base"] == {"epochs": 4}
    assert spec["grid"] == {"activation": ["sigmoid", "relu"], "depth": {"start": 1, "stop": 3, "step": 1}}
    assert len(told(epochd("list", "--sweep", sweep, "--limit", "200")).splitlines()) == 61
    text = told(epochd("compare", sweep))
    assert text.splitlines()[0] == api.get(f"/sweeps/{sweep}/comparison").json()["reading"]
    assert "sigmoid, depth 3" in text
    assert "0 of 10" in text
    found = json.loads(told(epochd("compare", sweep, "--reference", "relu, depth 1", "--json")))
    assert found["reference"] == "relu, depth 1"
    assert told(epochd("cancel", sweep)) == f"{sweep} finished\n"
    assert "finished" in api.get(f"/sweeps/{sweep}").json()["status"]
    assert told(epochd("compare", sweep, "--watch")).startswith(text.splitlines()[0][:2])
    assert told(epochd("delete", sweep)) == f"{sweep} deleted\n"


def test_predict_reads_a_picture(api: Api, epochd: Any, good: str, tmp_path: Path) -> None:
    pixels = np.zeros((28, 28), dtype=np.uint8)
    pixels[4:24, 12:16] = 255
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    answer = json.loads(told(epochd("predict", "digit.png", "--json")))
    label, confidence = answer["predictions"][0]["label"], answer["predictions"][0]["confidence"]
    assert told(epochd("predict", "digit.png")) == f"{label}, confidence {confidence:.4f}, by experiment {good}\n"
    table = told(epochd("predict", "digit.png", "--model", f"best,{good}")).splitlines()
    assert [line.split()[:2] for line in table[1:]] == [["best", label], [good, label]]
    both = json.loads(told(epochd("predict", "digit.png", "--model", f"best, {good}", "--json")))
    assert [one["experiment_id"] for one in both["answers"]] == [good, good]
    assert "no such file" in fails(epochd("predict", "nothing.png")).lower()
    (tmp_path / "text.png").write_text("no picture")
    assert "text.png" not in fails(epochd("predict", "text.png"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "019304a2-7b1c-7d3e-8f00-0123456789ab"], "there is no experiment"),
        (["cancel", "019304a2-7b1c-7d3e-8f00-0123456789ab"], "no experiment and no sweep"),
        (["compare", "00000000"], "begins with 00000000"),
        (["list", "--url", "nonsense"], "no address of a service"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(epochd: Any, arguments: list[str], said: str) -> None:
    assert said in fails(epochd(*arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["train", "--activation", "rleu", "--depth", "1"],
        ["train", "--activation", "relu", "--depth", "0"],
        ["train", "--activation", "relu", "--depth", "1", "--local", "--detach"],
        ["train", "--activation", "relu", "--depth", "1", "--data-dir", "x"],
        ["sweep", "--activation", "rleu", "--depth", "1"],
        ["list", "--limit", "0"],
        ["nonsense"],
        ["show"],
    ],
)
def test_a_command_that_is_not_written_so_is_exit_code_2(epochd: Any, arguments: list[str]) -> None:
    assert told(epochd(*arguments), 2) == ""


def test_a_shell_completes_commands(tmp_path: Path) -> None:
    done = run(cwd=tmp_path, _EPOCHD_COMPLETE="complete_bash", COMP_WORDS="epochd tr", COMP_CWORD="1")
    assert done.stdout.split() == ["train"]


# In a terminal.


class Terminal:
    """A command whose standard error is a terminal."""

    def __init__(self, *arguments: str, cwd: Path, **environment: str) -> None:
        self._terminal, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [EPOCHD, *arguments],
            cwd=cwd,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "120"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def until(self, text: str) -> None:
        """Read until this has appeared."""
        while text not in self.seen:
            more = self._more()
            assert more, self.seen
            self.seen += more

    def end(self) -> int:
        """Read to the end; returns the exit code."""
        while more := self._more():
            self.seen += more
        return self.process.wait(60)

    def _more(self) -> str:
        try:
            return os.read(self._terminal, 65536).decode(errors="replace")
        except OSError:  # Linux's way to say that nobody writes any more
            return ""

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        os.close(self._terminal)


@pytest.fixture
def terminal(api: Api, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def start(*arguments: str, **environment: str) -> Terminal:
        made.append(Terminal(*arguments, cwd=tmp_path, EPOCHD_URL=str(api.base_url), **environment))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_a_bar_follows_the_training(api: Api, terminal: Callable[..., Terminal], tiny_onnx: bytes) -> None:
    claimed = claim(api)
    shown = terminal("show", claimed.experiment_id, "--watch", COLUMNS="80")
    shown.until("0/10")
    record(api, claimed, 1)
    shown.until("loss 1.0000, accuracy 0.5000, test 0.2500")
    shown.until("1/10")
    finish(api, claimed, tiny_onnx)
    assert shown.end() == 0
    assert shown.process.stdout is not None
    assert "succeeded: test accuracy 0.7500" in shown.process.stdout.read()


def test_a_narrow_terminal_cuts_nothing_off(good: str, terminal: Callable[..., Terminal]) -> None:
    listed = terminal("list", COLUMNS="80")
    assert listed.end() == 0
    assert listed.process.stdout is not None
    assert f"{good}  succeeded  sigmoid" in listed.process.stdout.read()


def test_ctrl_c_leaves_it_running_and_says_how_to_go_on(api: Api, terminal: Callable[..., Terminal]) -> None:
    shown = terminal("train", "--activation", "relu", "--depth", "1")
    shown.until("queued")
    shown.process.send_signal(signal.SIGINT)
    assert shown.end() == 130
    (made,) = api.get("/experiments").json()["data"]
    assert made["status"] == "queued"
    assert f"epochd show {made['id']} --watch" in shown.seen
    assert f"epochd cancel {made['id']}" in shown.seen
    assert "Traceback" not in shown.seen


def test_ctrl_c_leaves_a_sweep_running(api: Api, terminal: Callable[..., Terminal]) -> None:
    shown = terminal("sweep", "--activation", "relu", "--depth", "1,2", "--watch")
    shown.until("0/2")
    shown.process.send_signal(signal.SIGINT)
    assert shown.end() == 130
    (made,) = api.get("/sweeps").json()["data"]
    assert f"epochd compare {made['id']} --watch" in shown.seen


# With training.


def test_train_and_sweep_end_with_the_result(data_dir: Path, tmp_path: Path) -> None:
    with serving(data_dir) as service:
        options = ("--url", service.url, "--epochs", "2")
        done = run("train", "--activation", "relu", "--depth", "1", *options, "--json", cwd=tmp_path)
        made = json.loads(told(done))
        assert made["status"] == "succeeded"
        assert made == service.get(made["id"])
        assert "2/2" in done.stderr
        text = told(run("sweep", "--activation", "relu", "--depth", "1,2", "--watch", *options, cwd=tmp_path))
        assert "1 of 1" in text


def test_train_needs_no_service_of_its_own(data_dir: Path, tmp_path: Path) -> None:
    options = ("--epochs", "2", "--local", "--data-dir", str(data_dir))
    first = told(run("train", "--activation", "relu", "--depth", "1", *options, cwd=tmp_path))
    assert " succeeded: test accuracy 0." in first
    assert (data_dir / "epochd.sqlite3").is_file()


def test_ctrl_c_gives_a_local_training_back_for_the_next_service(data_dir: Path, tmp_path: Path) -> None:
    options = ("--epochs", "1000", "--local", "--data-dir", str(data_dir))
    local = Terminal("train", "--activation", "relu", "--depth", "1", *options, cwd=tmp_path)
    try:
        local.until("1/1000")
        below = psutil.Process(local.process.pid).children(recursive=True)
        os.killpg(local.process.pid, signal.SIGINT)  # as a terminal does
        assert local.end() == 130
        assert "epochd serve" in local.seen
        assert "Traceback" not in local.seen
        assert not any(one.is_running() for one in below)
    finally:
        local.close()
    with open_ports(Settings(data_dir=data_dir)) as ports, ports.database.read() as session:
        (left,) = listing.page(session, Filter(), sort="created_at", cursor=None, limit=2).experiments
    assert (left.status, left.progress.epoch > 0) == ("queued", True)


def test_the_command_starts_without_what_only_some_commands_need() -> None:
    heavy = "('tensorflow', 'plotille', 'httpx', 'uvicorn', 'fastapi', 'sqlalchemy', 'PIL')"
    code = f"import sys, service.commands.application; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
