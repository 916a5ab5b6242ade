"""API keys as an operator makes them, and commands that need one."""

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import Service, fails, run, serving


def epochd(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(*arguments, cwd=folder, EPOCHD_DATA_DIR=str(folder), **environment)


def told(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_key_is_made_listed_and_revoked(tmp_path: Path) -> None:
    assert epochd(tmp_path, "db", "upgrade").returncode == 0
    assert "There is no key" in epochd(tmp_path, "keys", "list").stdout
    done = epochd(tmp_path, "keys", "create", "--name", "Ada Lovelace", "--scope", "write", "--scope", "predict")
    assert done.returncode == 0, done.stderr
    token = done.stdout.strip()
    assert token.startswith("epochd_")
    assert token not in done.stderr
    assert "only time" in done.stderr
    (one,) = told(epochd(tmp_path, "keys", "list", "--json"))
    assert (one["id"], one["name"], one["scopes"]) == (token.split("_")[1], "Ada Lovelace", ["predict", "write"])
    left = datetime.fromisoformat(one["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89) < left <= timedelta(days=90)
    assert "Ada Lovelace" in epochd(tmp_path, "keys", "list").stdout
    assert (
        "is revoked; services that run refuse it within 5 s\n"
        in epochd(tmp_path, "keys", "revoke", "Ada Lovelace").stdout
    )
    assert "is revoked already" in epochd(tmp_path, "keys", "revoke", one["id"]).stdout
    assert "revoked" in epochd(tmp_path, "keys", "list").stdout
    assert (
        told(epochd(tmp_path, "db", "prune", "--audit-older-than", "0h", "--dry-run", "--json"))["audit_entries"] == 2
    )


def test_what_cannot_be_done_is_told_in_one_line(tmp_path: Path) -> None:
    assert "there is no database" in fails(epochd(tmp_path, "keys", "revoke", "nobody"))
    assert list(tmp_path.iterdir()) == []
    assert epochd(tmp_path, "db", "upgrade").returncode == 0
    assert "there is no key 'nobody'" in fails(epochd(tmp_path, "keys", "revoke", "nobody"))


def test_no_other_machine_is_served_before_a_key_was_made(tmp_path: Path) -> None:
    line = fails(epochd(tmp_path, "serve", "--no-worker", "--host", "0.0.0.0"))
    assert "epochd keys create" in line
    assert "--insecure" in line
    with serving(tmp_path, "--no-worker", "--host", "0.0.0.0", EPOCHD_INSECURE="true") as service:
        port = httpx.URL(service.url).port
        assert httpx.get(f"http://127.0.0.1:{port}/experiments", trust_env=False).status_code == 200
    told(epochd(tmp_path, "keys", "create", "--name", "a", "--scope", "read", "--json"))
    with serving(tmp_path, "--no-worker", "--host", "0.0.0.0") as service:
        port = httpx.URL(service.url).port
        assert httpx.get(f"http://127.0.0.1:{port}/experiments", trust_env=False).status_code == 401


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("guarded")
    made = {
        scope: told(epochd(folder, "keys", "create", "--name", f"may {scope}", "--scope", scope, "--json"))["key"]
        for scope in ("read", "write", "admin")
    }
    with serving(folder, "--no-worker") as service:
        yield service, folder, made


def test_commands_take_a_key_and_say_when_it_does_not_suffice(
    guarded: tuple[Service, Path, dict[str, str]],
) -> None:
    service, folder, made = guarded
    where = {"EPOCHD_URL": service.url}
    assert "EPOCHD_API_KEY" in fails(epochd(folder, "list", **where))
    assert "not known" in fails(epochd(folder, "list", "--api-key", "epochd_x_" + "y" * 43, **where))
    train = ("train", "--activation", "relu", "--depth", "1", "--detach")
    assert "needs the scope write" in fails(epochd(folder, *train, EPOCHD_API_KEY=made["read"], **where))
    done = epochd(folder, *train, EPOCHD_API_KEY=made["write"], **where)
    assert done.returncode == 0, done.stderr
    assert "needs the scope admin" in fails(epochd(folder, "audit", EPOCHD_API_KEY=made["write"], **where))
    shown = epochd(folder, "audit", "--target", done.stdout.strip(), EPOCHD_API_KEY=made["admin"], **where)
    assert "may write" in shown.stdout
    assert "experiment.create" in shown.stdout
    page = told(epochd(folder, "audit", "--limit", "1", "--json", EPOCHD_API_KEY=made["admin"], **where))
    assert len(page["data"]) == 1
    assert page["next_cursor"] is not None


def test_a_service_of_a_commands_own_has_a_key_of_its_own(data_dir: Path) -> None:
    told(epochd(data_dir, "keys", "create", "--name", "somebody", "--scope", "read", "--json"))
    done = epochd(data_dir, "train", "--activation", "relu", "--depth", "1", "--epochs", "1", "--local")
    assert done.returncode == 0, done.stderr
    own = [one for one in told(epochd(data_dir, "keys", "list", "--json")) if one["name"] != "somebody"]
    assert len(own) == 1
    assert own[0]["revoked_at"] is not None
