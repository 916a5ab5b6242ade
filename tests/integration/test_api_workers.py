"""Who trains: the workers' own words, and what becomes of those that go without one."""

from service.store import workers
from service.store.session import Database
from tests.integration.conftest import Api, claim

OF_ONE = {"host": "desk", "process": 7, "engine": "local", "slots": 2, "version": "1.0", "draining": False}


def beat(
    database: Database, worker_id: str, *, lease: float = 60, trouble: str | None = None, **values: object
) -> None:
    with database.write() as session:
        workers.beat(session, worker_id, lease_seconds=lease, trouble=trouble, **(OF_ONE | values))


def listed(api: Api) -> list[dict[str, object]]:
    found: list[dict[str, object]] = api.get("/workers").raise_for_status().json()["data"]
    return found


def test_without_a_worker_the_list_is_empty(api: Api) -> None:
    assert listed(api) == []


def test_a_worker_is_listed_with_what_it_does(api: Api) -> None:
    beat(api.ports.database, "test", slots=3)
    claim(api)
    claim(api)
    (found,) = listed(api)
    assert str(found.pop("started_at"))[:10] == str(found.pop("heartbeat_at"))[:10]
    assert found == {
        "id": "test", "host": "desk", "process": 7, "engine": "local", "slots": 3, "running": 2, "status": "active",
        "trouble": None, "version": "1.0",
    }  # fmt: skip


def test_a_later_heartbeat_changes_what_is_told_and_not_when_it_began(api: Api) -> None:
    beat(api.ports.database, "one")
    (before,) = listed(api)
    beat(api.ports.database, "one", trouble="no trainer: " + "x" * 2000, draining=True)
    (after,) = listed(api)
    assert after["started_at"] == before["started_at"]
    assert str(after["heartbeat_at"]) > str(before["heartbeat_at"])
    assert (after["status"], len(str(after["trouble"]))) == ("draining", 1000)


def test_the_longest_there_comes_first(api: Api) -> None:
    for name in ("b", "a", "c"):
        beat(api.ports.database, name)
    beat(api.ports.database, "b")
    assert [one["id"] for one in listed(api)] == ["b", "a", "c"]


def test_one_without_a_heartbeat_is_lost_and_forgotten_a_day_later(api: Api) -> None:
    beat(api.ports.database, "gone", lease=-1)
    assert [one["status"] for one in listed(api)] == ["lost"]
    beat(api.ports.database, "gone", lease=-24 * 3600 + 60)
    beat(api.ports.database, "here")
    assert {one["id"]: one["status"] for one in listed(api)} == {"gone": "lost", "here": "active"}
    beat(api.ports.database, "gone", lease=-24 * 3600 - 1)
    assert [one["id"] for one in listed(api)] == ["here"]


def test_one_that_leaves_is_not_listed(api: Api) -> None:
    beat(api.ports.database, "one")
    with api.ports.database.write() as session:
        workers.leave(session, "one")
    assert listed(api) == []
