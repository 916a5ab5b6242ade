"""How the installed command ends when something goes wrong around it: signals, closed streams, lost answers."""

import contextlib
import fcntl
import http.server
import itertools
import json
import os
import pty
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.client import Client
from service.commands.experiments import _earlier as earlier
from service.main import open_ports
from service.settings import Settings
from service.store import listing
from service.store.listing import Filter
from tests.acceptance.conftest import EPOCHD, fails, run
from tests.http_servers import answering
from tests.integration.conftest import Api, claim, finish, record

TRAIN = ("train", "--activation", "relu", "--depth", "1")
SWEEP = ("sweep", "--activation", "relu", "--depth", "1,2")
GC = "db gc --data-dir data"


@pytest.fixture
def good(api: Api, tiny_onnx: bytes) -> str:
    claimed = claim(api)
    record(api, claimed, 1)
    finish(api, claimed, tiny_onnx)
    return claimed.experiment_id


@pytest.fixture
def shell(api: Api, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a line of a shell in which `epochd` knows where the service is."""

    def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", f'epochd() {{ {shlex.quote(EPOCHD)} "$@"; }}; {line}'],
            cwd=tmp_path,
            env=os.environ | {"EPOCHD_URL": str(api.base_url), "NO_COLOR": "1", "TERM": "dumb"} | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            timeout=120,
        )

    return shell


class Started:
    """A command whose standard error is read while it runs."""

    def __init__(self, *arguments: str, cwd: Path, **environment: str) -> None:
        self.process = subprocess.Popen(
            [EPOCHD, *arguments],
            cwd=cwd,
            env=os.environ | {"NO_COLOR": "1", "TERM": "dumb"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def line(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def interrupted(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """The exit code and what is left on standard error, after a signal."""
        self.process.send_signal(number)
        _, told = self.process.communicate(timeout=60)
        return self.process.returncode, told


# Ctrl-C.


class Silent(http.server.ThreadingHTTPServer):
    """Answers only those that read. What would change something is kept waiting, or is done and then not answered."""

    daemon_threads = True

    def __init__(self, to: Api) -> None:
        super().__init__(("127.0.0.1", 0), SilentHandler)
        self.to = to
        self.taken = threading.Event()
        self.does = False
        self.gateway = False
        """Whether it then says, as a gateway does, that no answer came."""


class SilentHandler(http.server.BaseHTTPRequestHandler):
    server: Silent

    def do_GET(self) -> None:
        answer = self.server.to.get(self.path)
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def do_POST(self) -> None:
        self.server.taken.set()
        if self.server.does:
            self.server.to.post(self.path).raise_for_status()
            if self.server.gateway:
                self.send_error(504)
        else:
            self.rfile.read()  # until the other end is gone

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def silent(api: Api) -> Iterator[Silent]:
    with answering(Silent(api)) as server:
        yield server


@pytest.mark.parametrize("words", ["train", "sweep", "retry"])
def test_ctrl_c_before_the_answer_says_that_it_may_be_queued(
    silent: Silent, good: str, tmp_path: Path, words: str
) -> None:
    command = {"train": TRAIN, "sweep": SWEEP, "retry": ("retry", good)}[words]
    url = f"http://127.0.0.1:{silent.server_port}"
    started = Started(*command, "--url", url, cwd=tmp_path)
    assert silent.taken.wait(60)
    code, told = started.interrupted()
    assert code == 130
    assert told.startswith("epochd: stopped before the service answered. It may have been queued")
    assert f"epochd list --url {url} shows the newest" in told
    assert told.count("\n") == 1


def test_ctrl_c_at_any_other_moment_says_that_it_stopped(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        started = Started("list", cwd=tmp_path, EPOCHD_URL=url)
        connection, _ = listener.accept()
        with connection:
            assert started.interrupted() == (130, "epochd: stopped\n")


def test_ctrl_c_while_the_command_is_imported_is_no_traceback(tmp_path: Path) -> None:
    # What is imported first says that the import has begun, and stays in it.
    (tmp_path / "typer.py").write_text("import sys, threading\nprint('begun', file=sys.stderr, flush=True)\n"
                                       "threading.Event().wait()\n")  # fmt: skip
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    started = Started("list", cwd=tmp_path, PYTHONPATH=path)
    assert started.line() == "begun\n"
    assert started.interrupted() == (130, "epochd: stopped\n")


@pytest.mark.parametrize("command", [TRAIN, (*SWEEP, "--watch")])
def test_an_id_is_told_as_soon_as_there_is_one(api: Api, tmp_path: Path, command: tuple[str, ...]) -> None:
    started = Started(*command, cwd=tmp_path, EPOCHD_URL=str(api.base_url))
    told = started.line()
    noun = "sweeps" if "sweep" in command else "experiments"
    (made,) = api.get(f"/{noun}").json()["data"]
    assert told == f"{noun[:-1]} {made['id']} is queued\n"
    code, told = started.interrupted()
    assert code == 130
    assert f"{noun[:-1]} {made['id']} goes on" in told
    assert "--url" not in told


@pytest.mark.parametrize("words", ["train", "show", "compare"])
def test_what_can_be_done_with_what_goes_on_is_told_with_the_service_that_was_named(
    api: Api, tmp_path: Path, words: str
) -> None:
    url, one = str(api.base_url), {"activation": "relu", "depth": 1}
    queued = api.post("/experiments", json=one).json()["id"]
    sweep = api.post("/sweeps", json={"base": one}).json()["id"]
    command = {"train": TRAIN, "show": ("show", queued, "--watch"), "compare": ("compare", sweep, "--watch")}[words]
    started = Started(*command, "--url", url, cwd=tmp_path, EPOCHD_URL="http://127.0.0.1:9")
    assert started.line()
    code, told = started.interrupted()
    assert code == 130
    hints = [line for line in told.splitlines() if line.startswith("  ")]
    assert len(hints) == 2
    assert all(line.endswith(f" --url {url}") for line in hints)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("command", [TRAIN, (*SWEEP, "--watch")])
def test_other_signals_leave_what_was_queued_as_ctrl_c_does(
    api: Api, tmp_path: Path, command: tuple[str, ...], number: int, code: int
) -> None:
    started = Started(*command, cwd=tmp_path, EPOCHD_URL=str(api.base_url))
    assert " is queued" in started.line()
    ended, told = started.interrupted(number)
    assert ended == code
    assert " goes on\n" in told
    assert "  cancel it: epochd cancel " in told


def test_a_signal_gives_the_terminal_its_cursor_back(terminal: Any) -> None:
    told, code = terminal(*TRAIN, until="\x1b[?25l", number=signal.SIGTERM)
    assert code == 143
    assert told.rindex("\x1b[?25h") > told.rindex("\x1b[?25l")
    assert "goes on" in told


# Answers that are lost, and services that are not there.


@pytest.mark.parametrize("gateway", [False, True])
def test_a_lost_answer_of_a_retry_says_how_to_find_it(
    api: Api, silent: Silent, good: str, tmp_path: Path, gateway: bool
) -> None:
    silent.does, silent.gateway = True, gateway
    line = fails(run("retry", good, "--detach", cwd=tmp_path, EPOCHD_URL=f"http://127.0.0.1:{silent.server_port}"))
    assert "It may have been queued all the same: epochd list" in line
    assert len(api.get("/experiments").json()["data"]) == 2


def test_what_surely_was_not_queued_is_not_said_to_be(tmp_path: Path) -> None:
    done = run(*TRAIN, cwd=tmp_path, EPOCHD_URL="http://127.0.0.1:9")
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    assert first == "epochd: no answer from http://127.0.0.1:9 yet; trying again"
    assert last.startswith("epochd: no answer from http://127.0.0.1:9")
    assert "epochd serve starts a service here, epochd train --local trains without one, --url names another" in last
    assert "queued" not in done.stderr


def test_a_service_that_hangs_is_told_after_some_seconds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        started = Started("list", cwd=tmp_path, EPOCHD_URL=url)
        assert started.line() == f"epochd: no answer from {url} yet; still waiting\n"
        assert started.interrupted() == (130, "epochd: stopped\n")


def test_the_time_to_wait_for_an_answer_can_be_chosen(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        done = run("list", cwd=tmp_path, EPOCHD_URL=url, EPOCHD_TIMEOUT_SECONDS="0.1")
    assert done.returncode == 1
    assert done.stderr.startswith(f"epochd: no answer from {url} yet; trying again\nepochd: no answer from {url}")
    for wrong in ("soon", "0", "-1", "nan", "inf"):
        line = fails(run("list", cwd=tmp_path, EPOCHD_TIMEOUT_SECONDS=wrong))
        assert line == f"epochd: EPOCHD_TIMEOUT_SECONDS is no number of seconds: {wrong!r}"


# Standard streams.


def test_an_answer_that_cannot_be_written_is_an_error(shell: Any, good: str) -> None:
    for command in (f"show {good}", f"show {good} --json", "list", "workers", "audit", GC, "--help", "list --help"):
        line = f"epochd {command} >/dev/full"
        assert fails(shell(line)) == "epochd: standard output cannot be written: No space left on device"
    assert fails(shell("epochd list >&-")) == "epochd: standard output cannot be written: Bad file descriptor"


@pytest.mark.parametrize("where", [">/dev/full", ">&-"])
@pytest.mark.parametrize("command", [(*TRAIN, "--detach"), (*TRAIN, "--detach", "--json"), SWEEP])
def test_the_id_of_what_was_queued_is_told_all_the_same(api: Api, shell: Any, where: str, command: Any) -> None:
    line = fails(shell(f"epochd {' '.join(command)} {where}"))
    noun = "sweeps" if "sweep" in command else "experiments"
    (made,) = api.get(f"/{noun}").json()["data"]
    assert line.endswith(f"; the {noun[:-1]} is {made['id']}")


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_a_command_goes_on_when_nobody_hears_what_it_says_besides(shell: Any, good: str, where: str) -> None:
    done = shell(f"epochd show {good} --watch {where}")
    assert (done.returncode, done.stderr) == (0, "")
    assert good in done.stdout
    assert shell(f"epochd show 00000000 {where}").returncode == 1
    assert shell(f"epochd list --nothing {where}").returncode == 2


def test_a_reader_that_leaves_is_no_error_to_talk_about(shell: Any, good: str) -> None:
    # The reader is gone before anything is written: the command begins when the other end of its pipe is closed.
    pipe = "mkfifo pipe gone; (exec <pipe; : >gone) & exec 9>pipe; : <gone"
    for command in (f"show {good}", "list --json", "--help", "list --help", "db", "--version"):
        done = shell(f"rm -f pipe gone; {pipe}; wait; epochd {command} >&9")
        assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_what_an_encoding_does_not_have_is_escaped(shell: Any, api: Api, good: str, encoding: str) -> None:
    assert shell(f"epochd show {good}", PYTHONIOENCODING=encoding).returncode == 0
    made = shell("epochd train --activation relu --depth 1 --name 数字 --detach").stdout.strip()
    done = shell(f"epochd show {made}", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u6570\\u5b57" in done.stdout


# Names that steer, and terminals of every width.


@pytest.fixture
def terminal(api: Api, tmp_path: Path) -> Callable[..., tuple[str, int]]:
    """What a command shows in a terminal of so many columns, and its exit code. It may get a signal when it has shown
    something.
    """

    def terminal(
        *arguments: str, columns: int = 80, until: str = "", number: int = 0, **environment: str
    ) -> tuple[str, int]:
        end, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        left = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
        with subprocess.Popen(
            [EPOCHD, *arguments],
            cwd=tmp_path,
            env=left | {"EPOCHD_URL": str(api.base_url), "TERM": "xterm", "NO_COLOR": "1"} | environment,
            stdin=its,
            stdout=its,
            stderr=its,
        ) as process:
            os.close(its)
            told = b""
            with contextlib.suppress(OSError):  # the other end is closed
                while read := os.read(end, 4096):
                    told += read
                    if number and until.encode() in told:
                        process.send_signal(number)
                        number = 0
            os.close(end)
        return told.decode().replace("\r\n", "\n"), process.returncode

    return terminal


def test_names_do_not_steer_the_terminal(api: Api, terminal: Any, shell: Any) -> None:
    spec = {"activation": "relu", "depth": 1, "name": "c1\x9b31m\u202egnol", "tags": ["\x9b\u2066"]}
    made = api.post("/experiments", json=spec).json()["id"]
    for told in (
        terminal("list")[0],
        terminal("show", made)[0],
        shell("epochd list").stdout,
        shell(f"epochd show {made}").stdout,
    ):
        assert r"c1\x9b31m\u202egnol" in told
        assert not set(told) & set("\x9b\u202e\u2066")
    answer = shell(f"epochd show {made} --json").stdout
    assert not set(answer) & set("\x9b\u202e\u2066")
    assert json.loads(answer)["spec"]["name"] == spec["name"]


@pytest.mark.parametrize("term", ["xterm", "dumb"])
@pytest.mark.parametrize("columns", [40, 80])
def test_a_terminal_breaks_no_plot_and_cuts_no_id(api: Api, good: str, terminal: Any, term: str, columns: int) -> None:
    api.post("/experiments", json={"activation": "relu", "depth": 1, "name": "n" * 200}).raise_for_status()

    def lines(*command: str) -> list[str]:
        return re.sub(r"\x1b\[\d*m", "", terminal(*command, columns=columns, TERM=term)[0]).splitlines()

    head, *rows = lines("list")
    assert any(row.startswith(good) for row in rows)
    assert all(len(row) < 140 and row == row.rstrip() for row in (head, *rows))
    assert any(row.endswith("n…") for row in rows)
    shown = lines("show", good)
    assert any(good in line for line in shown)
    assert all(len(line) <= columns for line in shown if "⡇" in line or "-|-" in line)


def test_a_pipe_has_whole_names_and_no_blanks_at_ends(api: Api, good: str, shell: Any) -> None:
    api.post("/experiments", json={"activation": "relu", "depth": 1, "name": "n" * 200}).raise_for_status()
    for command in ("list", f"show {good}", "audit", "workers"):
        lines = shell(f"epochd {command}").stdout.splitlines()
        assert lines == [line.rstrip() for line in lines]
    assert "n" * 200 in shell("epochd list").stdout


# Pictures and files.


def test_a_picture_is_read_from_standard_input_and_no_further_than_it_can_be_sent(
    shell: Any, good: str, tmp_path: Path
) -> None:
    draw(tmp_path / "digit.png")
    done = shell("epochd predict - --json <digit.png")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["experiment_id"] == good
    for line, name in (("predict - </dev/zero", "what is read"), ("predict /dev/zero", "/dev/zero")):
        assert fails(shell(f"ulimit -v 4000000; epochd {line}")) == (
            f"epochd: {name} is no picture to send: it has more than 67,108,864 bytes"
        )


def test_a_file_with_the_name_of_standard_input_is_read(shell: Any, good: str, tmp_path: Path) -> None:
    draw(tmp_path / "digit.png")
    (tmp_path / "digit.png").rename(tmp_path / "-")
    assert good in shell("epochd predict ./-").stdout


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("predict digit.png", {"predictions": []}),
        ("sweep --activation relu --depth 1 --dry-run", {"experiments": 1}),
    ],
)
def test_json_is_asked_for_as_often_as_what_is_for_people(
    shell: Any, tmp_path: Path, line: str, answer: dict[str, Any]
) -> None:
    class Reluctant(http.server.BaseHTTPRequestHandler):
        asked = 0

        def do_POST(self) -> None:
            type(self).asked += 1
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(answer).encode()
            self.send_response(200 if self.asked > 1 else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    draw(tmp_path / "digit.png")
    with answering(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Reluctant)) as server:
        done = shell(f"epochd {line} --json", EPOCHD_URL=f"http://127.0.0.1:{server.server_port}")
    assert (done.returncode, Reluctant.asked) == (0, 2), done.stderr
    assert json.loads(done.stdout) == answer


@pytest.mark.parametrize(("name", "value"), [("all_proxy", "socks5://127.0.0.1:1"), ("SSL_CERT_FILE", "/nonexist")])
def test_an_environment_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, name: str, value: str) -> None:
    assert "cannot be used" in fails(run("list", "--url", "https://elsewhere", cwd=tmp_path, **{name: value}))


def test_a_proxy_is_not_asked_about_this_machine(api: Api, tmp_path: Path) -> None:
    names = ("http_proxy", "https_proxy", "all_proxy")
    proxy = dict.fromkeys(names, "http://127.0.0.1:9")
    done = run("list", cwd=tmp_path, EPOCHD_URL=str(api.base_url), **proxy)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_that_nobody_thought_of_is_one_line_and_shows_where_it_was_when_asked(tmp_path: Path) -> None:
    code = "from service.commands.ending import ended\ndef app(): raise ZeroDivisionError('a\\nb')\nended(app)"

    def end(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
        )

    assert fails(end()).startswith("epochd: unexpected error: ZeroDivisionError: a b; with EPOCHD_DEBUG=1")
    assert "Traceback" in end(EPOCHD_DEBUG="1").stderr


# Which of two is meant, and files.


def draw(path: Path) -> None:
    from PIL import Image, ImageDraw

    picture = Image.new("L", (28, 28))
    ImageDraw.Draw(picture).line([(14, 4), (14, 24)], fill=255, width=3)
    picture.save(path)


def test_the_beginning_of_an_id_that_two_have_is_refused(api: Api, shell: Any) -> None:
    spec, grid = {"activation": "relu", "depth": 1}, {"base": {"activation": "relu"}, "grid": {"depth": [1, 2]}}
    # One after the other at once, for the beginning of an id is its time.
    made = [api.post(path, json=body).json()["id"] for path, body in (("/experiments", spec), ("/sweeps", grid))]
    assert shell(f"epochd cancel {made[1]}").stdout == f"{made[1]} finished\n"
    # The sweep's own experiments would have the same beginning, too.
    for one in api.get("/experiments", params={"sweep_id": made[1]}).json()["data"]:
        api.delete(f"/experiments/{one['id']}").raise_for_status()
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*made, strict=True))
    short = "".join(one for one, _ in same)[:13]
    for command in (f"cancel {short}", f"delete {short}", f"figure {short} learning-curves -o x.svg"):
        line = fails(shell(f"epochd {command}"))
        assert f"experiment {made[0]} and sweep {made[1]} both begin with {short}" in line
    assert api.get(f"/experiments/{made[0]}").json()["status"] == "queued"
    assert shell(f"epochd delete {made[1]}").stdout == f"{made[1]} deleted\n"


def test_a_figure_is_drawn_whole_or_not_at_all(shell: Any, good: str, tmp_path: Path) -> None:
    (tmp_path / "keep.svg").write_text("old")
    line = fails(shell(f"trap '' XFSZ; ulimit -f 4; epochd figure {good} learning-curves -o keep.svg"))
    assert line == "epochd: keep.svg cannot be written: File too large"
    assert (tmp_path / "keep.svg").read_text() == "old"
    assert list(tmp_path.glob(".*")) == []
    (tmp_path / "link.svg").symlink_to("target.svg")
    assert shell(f"epochd figure {good} learning-curves -o link.svg").returncode == 0
    assert (tmp_path / "link.svg").is_symlink()
    assert (tmp_path / "target.svg").read_text().lstrip().startswith("<")


def test_models_and_sweeps_are_named_by_the_beginning_of_their_ids(shell: Any, good: str, tmp_path: Path) -> None:
    draw(tmp_path / "digit.png")
    assert good in shell(f"epochd predict digit.png --model {good[:23]}").stdout
    assert good in shell(f"epochd predict digit.png --model {good[:23]} --json").stdout
    sweep = shell("epochd " + " ".join(SWEEP)).stdout.strip()
    done = shell(f"epochd export --to csv --sweep {sweep[:23]} -o out --json")
    assert (done.returncode, (tmp_path / "out").is_dir()) == (0, True), done.stderr
    assert json.loads(done.stdout)["output"] == "out"


def test_one_experiment_is_one(shell: Any) -> None:
    done = shell("epochd sweep --activation relu --depth 1 --dry-run")
    assert done.stdout == "1 experiment: 1 to compare, 1 of each\n"


# A service of the command's own.


def test_those_that_a_local_service_takes_up_first_are_told_of(api: Api) -> None:
    with Client(str(api.base_url)) as client:
        assert list(earlier(client, client.train("relu", 1))) == []
        told = list(earlier(client, client.train("relu", 2)))
    assert told[0] == "1 earlier experiment of this folder goes first"
    assert told[2] == f"  cancel one: epochd cancel ID --url {client.url}"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_a_local_service_ends_with_the_command_however_that_ends(data_dir: Path, number: int) -> None:
    options = ("--epochs", "40", "--local", "--data-dir", str(data_dir))
    started = Started(*TRAIN, *options, cwd=data_dir)
    try:
        while "loss" not in (line := started.line()):  # an epoch has ended
            assert line.strip()
        below = psutil.Process(started.process.pid).children(recursive=True)
        assert len(below) >= 2  # a service and its worker
        code, told = started.interrupted(number)
        if number != signal.SIGKILL:
            assert code == 130
            assert "goes on" in told
            assert f"epochd serve --data-dir {shlex.quote(str(data_dir))}\n  cancel it then: epochd cancel " in told
            assert not any(one.is_running() for one in below)
        _, alive = psutil.wait_procs(below, timeout=60)
        assert alive == []
    finally:
        started.process.kill()
    with open_ports(Settings(data_dir=data_dir)) as ports, ports.database.read() as session:
        (left,) = listing.page(session, Filter(), sort="created_at", cursor=None, limit=2).experiments
    assert left.status == "queued"


def test_a_local_service_is_reached_without_the_proxy(data_dir: Path) -> None:
    names = ("http_proxy", "https_proxy", "all_proxy")
    options = ("--epochs", "1", "--local", "--data-dir", str(data_dir))
    # Where a service is that is not asked is no reason to refuse.
    environment = dict.fromkeys(names, "http://127.0.0.1:9") | {"EPOCHD_URL": "http://127.0.0.1:9"}
    done = run(*TRAIN, *options, cwd=data_dir, **environment)
    assert done.returncode == 0, done.stderr
