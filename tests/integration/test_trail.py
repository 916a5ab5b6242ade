"""The audit trail in the database, on each kind of it."""

import contextlib
from datetime import timedelta

import pytest
from sqlalchemy import update

from service.domain.access import Actor
from service.errors import InvalidCursor
from service.store import trail
from service.store.session import Database
from service.store.tables import AuditRow, database_now

ACTOR = Actor(name="lab", key_id="k1", address="10.0.0.7", request_id="r1")


class UndoneError(Exception):
    """What ends a transaction."""


def fill(database: Database, count: int) -> None:
    with database.write() as session:
        for number in range(count):
            trail.record(session, ACTOR, "experiment.create", str(number))


def test_an_act_is_told_whole(database: Database) -> None:
    with database.write() as session:
        trail.record(session, ACTOR, "alias.set", "champion", experiment_id="e1")
    with database.read() as session:
        (entry,) = trail.page(session, limit=5).entries
    assert (entry.actor, entry.key_id, entry.address, entry.request_id) == ("lab", "k1", "10.0.0.7", "r1")
    assert (entry.action, entry.target, entry.details) == ("alias.set", "champion", {"experiment_id": "e1"})


def test_what_was_not_done_is_not_told(database: Database) -> None:
    with contextlib.suppress(UndoneError), database.write() as session:
        trail.record(session, ACTOR, "alias.delete", "champion")
        raise UndoneError
    with database.read() as session:
        assert trail.page(session, limit=5).entries == []


def test_pages_lead_through_all_of_it(database: Database) -> None:
    fill(database, 7)
    found: list[str | None] = []
    cursor = None
    with database.read() as session:
        while True:
            page = trail.page(session, cursor=cursor, limit=3)
            found += [one.target for one in page.entries]
            cursor = page.next_cursor
            if cursor is None:
                break
    assert found == [str(number) for number in reversed(range(7))]


def test_filters_narrow_each_other(database: Database) -> None:
    fill(database, 2)
    with database.write() as session:
        trail.record(session, Actor(name="other", key_id="k2"), "experiment.cancel", "1")
    with database.read() as session:
        of_target = trail.page(session, target="1", limit=5).entries
        of_key = trail.page(session, key_id="k1", limit=5).entries
        of_both = trail.page(session, target="1", key_id="k2", limit=5).entries
    assert [one.action for one in of_target] == ["experiment.cancel", "experiment.create"]
    assert {one.key_id for one in of_key} == {"k1"}
    assert len(of_key) == 2
    assert [one.actor for one in of_both] == ["other"]


def test_another_lists_cursor_is_refused(database: Database) -> None:
    with database.read() as session, pytest.raises(InvalidCursor):
        trail.page(session, cursor="nonsense", limit=5)


def test_only_what_is_old_is_pruned(database: Database) -> None:
    fill(database, 4)
    with database.write() as session:
        session.execute(update(AuditRow).where(AuditRow.target.in_(["0", "1"])).values(at=database_now(-7200)))
    age = timedelta(hours=1)
    assert list(trail.prune(database, age, dry_run=True)) == [2]
    assert sum(trail.prune(database, age)) == 2
    with database.read() as session:
        assert [one.target for one in trail.page(session, limit=5).entries] == ["3", "2"]
