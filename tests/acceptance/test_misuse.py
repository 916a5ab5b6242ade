"""What the command says to what is written so that it cannot be meant, and how it completes what can."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import fails
from tests.acceptance.forks import call
from tests.integration.conftest import Api


@pytest.fixture
def shell(api: Api, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `epochd` with words as a shell understands them. It knows where the service is."""

    def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
        split = f"for word in {line}; do printf '%s\\0' \"$word\"; done"
        words = subprocess.run(["bash", "-c", split], capture_output=True, check=True).stdout.split(b"\0")[:-1]
        return call(*map(os.fsdecode, words), cwd=tmp_path, **{"EPOCHD_URL": str(api.base_url), **environment})

    return shell


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("show $'\\xff'", "is no id of an experiment"),
        ("show $'\\xff'$(printf 'x%.0s' {1..35})", "is no text"),
        ("cancel $'\\xff'", "no experiment and no sweep"),
        ("show ''", "'' is no id of an experiment"),
        ("list --sweep ''", "'' is no id of a sweep"),
        ("export --to csv -o nowhere --sweep ''", "'' is no id of a sweep"),
        ("show 0123456", "at least its first eight characters"),
        ("delete ''", "no experiment and no sweep ''"),
        ("delete $(printf 'x%.0s' {1..100000})", "no experiment and no sweep"),
        ("compare $(printf 'x%.0s' {1..100000})", "is no id of a sweep"),
        ("predict $'\\xff.png'", "cannot be read"),
        ("list --tag $'\\xff'", "cannot be asked"),
        ("list --cursor $(printf 'x%.0s' {1..100000})", "cannot be asked"),
        ("list --api-key clé", "the API key cannot be sent"),
        ("list --api-key 'a b'", "the API key cannot be sent"),
        ("list --api-key $'a\\nb'", "the API key cannot be sent"),
        ("list --url http://a..b", "no address of a service"),
        ("list --url http://", "no address of a service"),
        ("db check --data-dir nowhere", "there is no data folder"),
        ("db gc --data-dir nowhere", "there is no data folder"),
        ("keys list --data-dir nowhere", "there is no data folder"),
        ("keys revoke a --database-url sqlite:///nowhere", "there is no database nowhere"),
        ("data fetch mnist --path /nonexist", "no such file"),
    ],
)
def test_what_cannot_be_meant_is_told_in_one_line(shell: Any, tmp_path: Path, line: str, said: str) -> None:
    told = fails(shell(line))
    assert said in told
    assert len(told) < 600
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train --activation relu --depth 1 --learning-rate nan", "epochd: --learning-rate: nan is no number"),
        ("train --activation relu --depth 1 --learning-rate=-inf", "epochd: --learning-rate: -inf is no number"),
        ("sweep --activation relu --depth 1 --learning-rate 0.1,inf", "epochd: --learning-rate: inf is no number"),
        ("sweep --activation relu --depth 1 --learning-rate nan", "epochd: --learning-rate: nan is no number"),
        ("train --activation relu --depth 1 --name $'\\xff'", "epochd: --name: "),
        (
            "train --activation relu --depth 0 --units 0",
            "epochd: --depth: input should be greater than or equal to 1; --u",
        ),
        ("train --activation relu --depth 1 --tag ''", "epochd: --tag: "),
        ("sweep --activation relu --depth 0,1", "epochd: --depth: "),
        ("sweep --activation relu --depth 1,1", "epochd: --depth: "),
        ("sweep --activation relu --depth 1 --dry-run --watch", "--dry-run"),
        ("train --activation relu --depth 1 --local --url http://127.0.0.1:9", "--local"),
        ("train --activation relu --depth 1 --local --api-key k", "--local"),
        ("train --activation relu --depth 1 --local --detach", "--local"),
        ("train --activation relu --depth 1 --data-dir x", "--data-dir"),
        ("figure 00000000 gallery -o x.txt", "x.txt ends in none of"),
    ],
)
def test_what_is_not_written_so_is_told_by_its_option(shell: Any, line: str, said: str) -> None:
    assert said in fails(shell(line), 2)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train --activation rleu --depth 1", "'rleu' is not known; did you mean relu?"),
        ("sweep --activation relu,sigmid --depth 1", "'sigmid' is not known; did you mean sigmoid?"),
        ("sweep --activation relu --depth 1-3,5", "'1-3' is no whole number: give 3, or 1,2,5, or 1-8, or 1-9:2"),
        ("sweep --activation relu --depth ''", "'' is no whole number"),
        ("sweep --activation relu --depth 1_0", "'1_0' is no whole number"),
        ("train --activation relu --depth 1_0", "'1_0' is no whole number"),
        ("train --activation relu --depth 1 --learning-rate 1_0", "'1_0' is no number"),
        ("delete 01a20f00 --url ''", "Invalid value for '--url' (env var: 'EPOCHD_URL'): it is empty"),
        ("delete 01a20f00 --url=", "Invalid value for '--url' (env var: 'EPOCHD_URL'): it is empty"),
        ("list --api-key ''", "Invalid value for '--api-key' (env var: 'EPOCHD_API_KEY'): it is empty"),
        ("db gc --database-url ''", "Invalid value for '--database-url': it is empty"),
        ("export --to mlflow --tracking-uri ''", "Invalid value for '--tracking-uri': it is empty"),
        ("export --to mlflow --mlflow-experiment ''", "Invalid value for '--mlflow-experiment': it is empty"),
    ],
)
def test_a_value_that_is_none_is_refused_before_anybody_is_asked(shell: Any, line: str, said: str) -> None:
    done = shell(line, EPOCHD_URL="http://127.0.0.1:9", COLUMNS="200")
    assert done.returncode == 2
    assert said in done.stderr


def test_a_variable_that_is_empty_is_one_that_is_not_set(api: Api, shell: Any) -> None:
    url = str(api.base_url)
    assert shell(f"list --url {url}", EPOCHD_URL="", EPOCHD_API_KEY="", EPOCHD_DATABASE_URL="").returncode == 0


def test_names_are_taken_in_any_case(api: Api, shell: Any) -> None:
    made = shell("train --activation ReLU --depth 1 --optimizer Adam --detach").stdout.strip()
    assert api.get(f"/experiments/{made}").json()["spec"]["activation"] == "relu"
    assert shell("sweep --activation ReLU,Leaky-ReLU --depth 1 --dry-run").returncode == 0


@pytest.mark.parametrize(
    "line",
    [
        r"predict $'miss\e[31m\nred.png'",
        r"figure 00000000 learning-curves -o $'/tmp/no\e[31m/x.sgv'",
        r"db check --data-dir $'/tmp/\e[31m'",
        r"$'no\e[31m\u202e'",
        r"list $'--no\e[31m\u202e'",
        r"list $'no\e[31m\u202e'",
        r"list --url $'http://\e[31m'",
    ],
)
def test_names_of_files_do_not_steer_the_terminal(shell: Any, line: str) -> None:
    done = shell(line)
    assert not set(done.stderr) & set("\x1b\u202e")
    assert r"\x1b" in done.stderr


def test_the_script_is_of_the_shell_that_was_named(shell: Any) -> None:
    assert shell("--show-completion zsh").stdout.startswith("#compdef epochd")
    assert "complete --command epochd" in shell("--show-completion fish").stdout
    assert shell("--show-completion nosh").returncode == 1


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("train --activation sig", "sigmoid"),
        ("sweep --activation relu,sig", "relu,sigmoid"),
        ("train --dataset fas", "fashion_mnist"),
        ("figure 01a20f00 gal", "gallery"),
    ],
)
def test_names_are_completed(shell: Any, words: str, found: str) -> None:
    count = len(words.split())
    done = shell("", COMP_WORDS=f"epochd {words}", COMP_CWORD=str(count), _EPOCHD_COMPLETE="complete_bash")
    assert done.stdout.split() == [found]
