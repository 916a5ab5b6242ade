"""What an API key may have waiting, and what its training of a day may cost: in the transaction that queues."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import select, update

from service.domain.experiment import Spec
from service.errors import KeyQueueFull, QuotaReached, TrainingTooCostly
from service.store import experiments, quotas
from service.store.session import Database
from service.store.tables import ExperimentRow, UsageRow

SPEC = Spec(activation="relu", depth=1)


def used(database: Database) -> dict[tuple[str, date], int]:
    with database.read() as session:
        return {(row.key_id, row.day): row.parameter_steps for row in session.scalars(select(UsageRow))}


def charge(database: Database, key: str, cost: int, quota: int) -> None:
    with database.write() as session:
        quotas.charge(session, key, cost, quota=quota)


def test_costs_of_a_day_add_up_to_the_quota_and_no_further(database: Database) -> None:
    for cost in (60, 40):
        charge(database, "a", cost, quota=100)
    with pytest.raises(QuotaReached, match=r"would cost 1 parameter-steps.* has cost 100 of the 100 ") as caught:
        charge(database, "a", 1, quota=100)
    midnight = datetime.combine(datetime.now(UTC).date() + timedelta(days=1), datetime.min.time(), UTC)
    assert f"begins anew at {midnight:%Y-%m-%d}T00:00:00Z" in str(caught.value)
    assert 0 < caught.value.retry_after <= 24 * 3600
    assert list(used(database).values()) == [100]


def test_each_key_and_each_day_has_a_count_of_its_own(database: Database) -> None:
    charge(database, "a", 100, quota=100)
    charge(database, "b", 100, quota=100)
    with database.write() as session:
        session.execute(update(UsageRow).values(day=UsageRow.day).where(UsageRow.key_id == "b"))
        row = session.scalars(select(UsageRow).where(UsageRow.key_id == "a")).one()
        row.day -= timedelta(days=1)
    charge(database, "a", 100, quota=100)
    assert [cost for (key, _), cost in used(database).items() if key == "a"] == [100, 100]
    with pytest.raises(QuotaReached):
        charge(database, "b", 1, quota=100)


def test_what_a_whole_day_could_not_pay_is_not_told_to_wait(database: Database) -> None:
    with pytest.raises(TrainingTooCostly, match=r"would cost 101 .* at most 100 "):
        charge(database, "a", 101, quota=100)
    assert used(database) == {}


def test_without_a_quota_the_use_is_counted_for_one_that_comes_later(database: Database) -> None:
    charge(database, "a", 10**19, quota=0)
    charge(database, "a", 10**19, quota=0)
    with pytest.raises(QuotaReached):
        charge(database, "a", 1, quota=100)


def test_what_is_undone_has_cost_nothing(database: Database) -> None:
    with database.write() as session:
        quotas.charge(session, "a", 50, quota=100)
        session.rollback()
    assert used(database) == {}
    charge(database, "a", 100, quota=100)


def test_many_at_once_cannot_pass_the_quota_together(database: Database) -> None:
    together = threading.Barrier(8)

    def try_it(_: int) -> bool:
        together.wait()
        try:
            charge(database, "a", 10, quota=55)
        except QuotaReached:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(try_it, range(8))) == 5
    assert list(used(database).values()) == [50]


def test_a_key_may_have_so_many_waiting_and_others_are_not_in_its_way(database: Database) -> None:
    with database.write() as session:
        made = experiments.create_many(session, [SPEC] * 4)
        session.execute(update(ExperimentRow).values(created_by="a"))
        session.execute(update(ExperimentRow).where(ExperimentRow.id == made[0]).values(created_by="b"))
        quotas.require_room(session, "a", 2, most=5)
        quotas.require_room(session, "a", 10**6, most=0)
        with pytest.raises(KeyQueueFull, match=r"3 experiments of this API key wait already, and at most 5 .* 3 more"):
            quotas.require_room(session, "a", 3, most=5)
        experiments.cancel(session, made[1])
        quotas.require_room(session, "a", 3, most=5)
