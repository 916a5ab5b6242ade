"""Rounds of chaos: work, a fault at a random moment, and the checks that nothing was lost and nothing doubled."""

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from service.domain.experiment import TRANSITIONS, Status
from tests.chaos.system import System

SPECS: tuple[dict[str, Any], ...] = (
    {"activation": "relu", "depth": 1, "epochs": 8},
    {"activation": "sigmoid", "depth": 2, "epochs": 7, "seed": 3},
    {"activation": "tanh", "depth": 1, "epochs": 9, "optimizer": "sgd"},
)
FAULTS: dict[str, Callable[[System, random.Random], None]] = {
    "trainer": System.kill_trainer,
    "worker": System.kill_worker,
    "drain": System.drain_worker,
    "freeze": System.freeze_worker,
    "api": System.kill_api,
    "service": System.kill_service,
    "database": System.strike_database,
    "connections": System.cut_connections,
}
OF_THE_DATABASE = ("database", "connections", "freeze", "worker")
"""Faults that a server may take otherwise than a file."""
RAY_FAULTS: dict[str, Callable[[System, random.Random], None]] = {
    "task": System.kill_task,
    "driver": System.kill_trainer,
    "node": System.kill_node,
    "frozen node": System.freeze_node,
    "cluster": System.kill_cluster,
}
"""What else may happen to a system that trains on a Ray cluster."""


@dataclass
class Tally:
    """What happened."""

    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    experiments: int = 0
    interrupted: int = 0
    lost: int = 0
    doubled: int = 0

    def add(self, other: "Tally") -> None:
        """Count what happened elsewhere too."""
        for name in ("rounds", "experiments", "interrupted", "lost", "doubled"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults += other.faults

    def line(self) -> str:
        """All of it in one line."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        return (
            f"{self.rounds} rounds ({kinds}); {self.experiments} experiments, {self.interrupted} interrupted, "
            f"{self.lost} lost, {self.doubled} doubled"
        )


class Faults:
    """Which comes next: each once, in random order, before any comes again. Else a rare one may never be drawn."""

    def __init__(self, seed: int, *, ray: bool = False) -> None:
        self.known = {k: v for k, v in FAULTS.items() if k != "trainer"} | RAY_FAULTS if ray else FAULTS
        self._rng = random.Random(seed)
        self._to_come: list[str] = []

    def next(self) -> str:
        """What a server may take otherwise than a file comes last: in a short run, files first, a server has it."""
        if not self._to_come:
            drawn = self._rng.sample(list(self.known), len(self.known))
            self._to_come = sorted(drawn, key=OF_THE_DATABASE.__contains__, reverse=True)
        return self._to_come.pop()


class Rounds:
    """Chaos on one system. What undisturbed runs give, every run must give: those come first, where nobody tells."""

    def __init__(
        self, system: System, seed: int, faults: Faults, expected: Sequence[dict[str, Any]] | None = None
    ) -> None:
        self._system = system
        self._rng = random.Random(seed)
        self._faults = faults
        self.tally = Tally()
        self.expected = expected or self._undisturbed()

    def _undisturbed(self) -> list[dict[str, Any]]:
        queued = [self._queue(spec) for spec in SPECS]
        return [self._outcome(self._end(experiment_id)) for experiment_id in queued]

    def run(self) -> None:
        """One round: queue work, strike, wait for the end, check everything."""
        fault = self._faults.next()
        picks = [self._rng.randrange(len(SPECS)) for _ in range(self._rng.randint(2, 4))]
        queued = [(pick, self._queue(SPECS[pick])) for pick in picks]
        threading.Event().wait(self._rng.uniform(0, 2.5))
        self._faults.known[fault](self._system, self._rng)
        for pick, experiment_id in queued:
            self._check(pick, self._end(experiment_id))
        self.tally.rounds += 1
        self.tally.faults[fault] += 1

    def _queue(self, spec: dict[str, Any]) -> str:
        key = f"chaos-{self._rng.getrandbits(64):x}"
        answer = self._system.request("POST", "/experiments", json=spec, headers={"Idempotency-Key": key})
        experiment_id: str = answer.json()["id"]
        return experiment_id

    def _end(self, experiment_id: str) -> dict[str, Any]:
        for _ in range(6000):
            found: dict[str, Any] = self._system.request("GET", f"/experiments/{experiment_id}").json()
            if found["finished_at"] is not None:
                return found
            threading.Event().wait(0.05)
        raise AssertionError(f"never ended: {found}")

    def _outcome(self, found: dict[str, Any]) -> dict[str, Any]:
        """What must be the same in every run of a spec: all but the clock."""
        metrics = self._system.request("GET", f"/experiments/{found['id']}/metrics").json()
        return {
            "status": found["status"],
            "weights": found["model"] and found["model"]["weights_sha256"],
            "result": found["result"] and {k: v for k, v in found["result"].items() if k != "computation_seconds"},
            "epochs": [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in metrics["epochs"]],
        }

    def _check(self, pick: int, found: dict[str, Any]) -> None:
        self.tally.experiments += 1
        self.tally.interrupted += found["attempt"] > 1
        outcome, expected = self._outcome(found), self.expected[pick]
        events = self._events(found["id"])
        recorded = [epoch["epoch"] for epoch in outcome["epochs"]]
        told = [event["epoch"] for kind, event in events if kind == "epoch"]
        if len(set(recorded)) < len(recorded) or len(set(told)) < len(told):
            self.tally.doubled += 1
        wanted = set(range(1, SPECS[pick]["epochs"] + 1))
        if outcome["status"] != "succeeded" or not set(recorded) == set(told) == wanted:
            self.tally.lost += 1
        assert outcome == expected, (found, outcome, expected)
        assert told == recorded
        self._check_transitions([event["status"] for kind, event in events if kind == "status"])
        assert [kind for kind, _ in events].count("done") == 1
        assert events[-1][0] == "done"

    def _events(self, experiment_id: str) -> list[tuple[str, dict[str, Any]]]:
        text = self._system.request("GET", f"/experiments/{experiment_id}/events").text
        events = []
        numbers = []
        for block in text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != ":")
            if "event" in fields:
                events.append((fields["event"], json.loads(fields["data"])))
                numbers.append(int(fields["id"]))
        assert numbers == list(range(1, len(numbers) + 1))
        return events

    @staticmethod
    def _check_transitions(statuses: list[str]) -> None:
        assert statuses[0] == Status.QUEUED
        for before, after in pairwise(statuses):
            assert Status(after) in TRANSITIONS[Status(before)], statuses
