"""SQLite under fire: many clients write at once while two workers train, and nobody is ever told that it is locked."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.acceptance.test_outages import DEADLINE_SECONDS, Site, eventually, started

CLIENTS = 24
ROUNDS = 5
"""Of each client; in each it queues an experiment, and does some of what can be done with one."""
TRAINED = 6
"""So many clients let their last experiment be trained; all others are cancelled, most of them while queued."""


class Client:
    """One of the many. It remembers what it was promised."""

    def __init__(self, number: int, base_url: httpx.URL, model: str) -> None:
        self._rng = random.Random(number)
        self._number = number
        self._model = model
        self._http = httpx.Client(base_url=base_url, timeout=DEADLINE_SECONDS)
        self.accepted: set[str] = set()
        self.shared: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.writes = 0

    def run(self) -> None:
        with self._http:
            for round_ in range(ROUNDS):
                experiment_id = self._queue(round_)
                self._share(round_)
                self._read(experiment_id)
                if round_ == ROUNDS - 1 and self._number < TRAINED:
                    return
                self._ask("POST", f"/experiments/{experiment_id}/cancel", 202, 409)  # 409: it was trained already
                again = self._rng.choice([self._retry, self._name, self._delete])
                again(experiment_id)

    def _ask(self, method: str, path: str, *allowed: int, **values: Any) -> httpx.Response:
        response = self._http.request(method, path, **values)
        assert response.status_code in allowed, (method, path, response.status_code, response.text)
        assert "locked" not in response.text
        self.writes += method != "GET"
        return response

    def _queue(self, round_: int) -> str:
        spec = {"activation": "relu", "depth": 1, "epochs": self._rng.randint(1, 3), "tags": [f"client-{self._number}"]}
        headers = {}
        if keyed := self._rng.random() < 0.5:
            headers["Idempotency-Key"] = f"{self._number}-{round_}"
        answer = self._ask("POST", "/experiments", 202, json=spec, headers=headers).json()
        if keyed:
            repeated = self._ask("POST", "/experiments", 202, json=spec, headers=headers).json()
            assert repeated["id"] == answer["id"]
        return self._accept(answer)

    def _share(self, round_: int) -> None:
        """Queue what all clients of this round queue, under one key: only one of them does, and all get its answer."""
        spec = {"activation": "relu", "depth": 1, "epochs": 1, "priority": -1000}
        key = f"shared-{round_}"
        answer = self._ask("POST", "/experiments", 202, json=spec, headers={"Idempotency-Key": key})
        self.shared[key] = answer.json()["id"]
        self._ask("POST", f"/experiments/{self.shared[key]}/cancel", 202, 409)

    def _accept(self, answer: dict[str, Any]) -> str:
        experiment_id: str = answer["id"]
        assert experiment_id not in self.accepted
        self.accepted.add(experiment_id)
        return experiment_id

    def _read(self, experiment_id: str) -> None:
        path = self._rng.choice([
            f"/experiments/{experiment_id}",
            f"/experiments/{experiment_id}/metrics",
            f"/experiments?tag=client-{self._number}",
            "/experiments?sort=-test_accuracy&limit=10",
            "/models",
            "/health/ready",
        ])  # fmt: skip
        self._ask("GET", path, 200)

    def _retry(self, experiment_id: str) -> None:
        answer = self._ask("POST", f"/experiments/{experiment_id}/retry", 202, 409)  # 409: it is cancelling yet
        if answer.status_code == 202:
            again = self._accept(answer.json())
            self._ask("POST", f"/experiments/{again}/cancel", 202, 409)

    def _name(self, _experiment_id: str) -> None:
        alias = self._rng.choice([f"client-{self._number}", "everybodys"])
        self._ask("PUT", f"/models/{alias}", 200, 201, json={"experiment_id": self._model})

    def _delete(self, experiment_id: str) -> None:
        if self._ask("DELETE", f"/experiments/{experiment_id}", 204, 409).status_code == 204:
            self._ask("GET", f"/experiments/{experiment_id}", 404)
            self.deleted.add(experiment_id)


def everything(site: Site, **wanted: Any) -> list[dict[str, Any]]:
    """Every experiment, page by page."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = site.http.get("/experiments", params={"limit": 200} | wanted | cursor).raise_for_status().json()
        found += page["data"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def test_nobody_is_ever_told_that_the_database_is_locked_and_every_experiment_ends_once(data_dir: Path) -> None:
    settings = {
        "EPOCHD_LOG_LEVEL": "info",
        "EPOCHD_ACCESS_LOG": "true",
        "EPOCHD_LEASE_SECONDS": "600",  # nothing dies here, but a busy machine may be slow
    }
    with started(data_dir, f"sqlite:///{data_dir / 'epochd.sqlite3'}", **settings) as site:
        workers = [site.work(), site.work()]
        for worker in workers:
            worker.says("trains 1 at once")
        model = site.succeeded(site.create({"activation": "relu", "depth": 1, "epochs": 1}))["id"]
        clients = [Client(number, site.http.base_url, model) for number in range(CLIENTS)]
        with ThreadPoolExecutor(CLIENTS) as pool:
            for run in [pool.submit(client.run) for client in clients]:
                run.result(DEADLINE_SECONDS)

        accepted = set.union(*(client.accepted for client in clients))
        shared = set.union(*(set(client.shared.items()) for client in clients))
        deleted = set.union(*(client.deleted for client in clients))
        assert len(accepted) == sum(len(client.accepted) for client in clients) >= CLIENTS * ROUNDS
        assert len(shared) == ROUNDS  # one experiment for each key, whoever asked
        assert deleted
        assert sum(client.writes for client in clients) > 400
        open_ = {"status": ["queued", "running", "cancelling"]}
        eventually(lambda: not everything(site, **open_), "the end of all")
        left = everything(site)
        assert {one["id"] for one in left} == accepted - deleted | {model} | {one for _, one in shared}
        assert len(left) == len(accepted) - len(deleted) + 1 + ROUNDS
        for experiment in left:
            check_ended_once(site, experiment)
        ends = [one["status"] for one in left]
        assert ends.count("succeeded") >= TRAINED + 1
        assert ends.count("cancelled") > ends.count("succeeded")
        assert all(any("begins" in line for line in worker.lines) for worker in workers)
    said = [line for part in site.parts for line in part.lines]
    assert any("POST /experiments" in line for line in said)  # so the logs have been read
    assert [line for line in said if "locked" in line or " ERROR " in line or '" 500' in line] == []


def check_ended_once(site: Site, experiment: dict[str, Any]) -> None:
    events = site.events(experiment["id"])
    assert [number for number, _, _ in events] == list(range(1, len(events) + 1))
    kinds = [kind for _, kind, _ in events]
    assert kinds.count("done") == 1
    assert kinds[-1] == "done"
    statuses = [data["status"] for _, kind, data in events if kind == "status"]
    assert statuses in (
        ["queued", "running", "succeeded"],
        ["queued", "cancelled"],
        ["queued", "running", "cancelling", "cancelled"],
    )
    assert statuses[-1] == experiment["status"]
