"""API keys in the database, on each kind of it."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from service.domain.access import EVERYTHING, Scope
from service.errors import InvalidInput, KeyNameTaken, KeyNotFound
from service.store import keys
from service.store.session import Database
from service.store.tables import KeyRow


def test_a_key_is_found_by_its_id_and_by_its_name(database: Database) -> None:
    with database.write() as session:
        made, _ = keys.create(session, name="lab", scopes=[Scope.READ], expires_at=None)
    with database.read() as session:
        assert keys.find(session, made.id) == keys.find(session, "lab") == made
        assert keys.every(session) == [made]
        assert keys.any_exist(session)
        with pytest.raises(KeyNotFound):
            keys.find(session, "lob")


def test_the_secret_is_stored_nowhere_and_matches_itself_alone(database: Database) -> None:
    with database.write() as session:
        keys.create(session, name="one", scopes=[Scope.READ], expires_at=None)
        _, text = keys.create(session, name="two", scopes=[Scope.READ], expires_at=None)
    given = keys.token(text)
    assert given is not None
    with database.read() as session:
        for row in session.scalars(select(KeyRow)):
            assert all(given.secret not in str(value) for value in vars(row).values())
        kept = {one.key.id: one for one in keys.kept(session)}
    other = next(one for one in kept.values() if one.key.id != given.id)
    assert keys.matches(given, kept[given.id])
    assert not keys.matches(given, other)
    assert not keys.matches(given, None)
    assert not keys.matches(keys.Token(given.id, given.secret[:-1] + "A" * (given.secret[-1] != "A")), kept[given.id])


@pytest.mark.parametrize("text", ["", "epochd", "epochd_abc", "epochd_abc_", "epochd_ABC_" + "x" * 43, "x" * 60])
def test_what_is_no_token_is_known_as_such(text: str) -> None:
    assert keys.token(text) is None


def test_two_keys_that_are_good_do_not_share_a_name(database: Database) -> None:
    with database.write() as session:
        first, _ = keys.create(session, name="lab", scopes=[Scope.READ], expires_at=None)
        with pytest.raises(KeyNameTaken):
            keys.create(session, name="lab", scopes=[Scope.READ], expires_at=None)
        keys.revoke(session, "lab")
        second, _ = keys.create(session, name="lab", scopes=[Scope.WRITE], expires_at=None)
        assert keys.find(session, "lab").id == second.id != first.id


def test_a_name_is_not_the_id_of_another_key(database: Database) -> None:
    with database.write() as session:
        first, _ = keys.create(session, name="lab", scopes=[Scope.READ], expires_at=None)
        with pytest.raises(KeyNameTaken, match="the id of the key 'lab'"):
            keys.create(session, name=first.id, scopes=[Scope.READ], expires_at=None)


@pytest.mark.parametrize("revoked", ["neither", "the id's", "the name's"])
def test_what_is_one_keys_id_and_anothers_name_revokes_neither(database: Database, revoked: str) -> None:
    """Keys of before may be so, and so may one whose id came to be a name that was there."""
    with database.write() as session:
        first, _ = keys.create(session, name="lab", scopes=[Scope.READ], expires_at=None)
        second, _ = keys.create(session, name="other", scopes=[Scope.READ], expires_at=None)
        session.execute(update(KeyRow).where(KeyRow.id == second.id).values(name=first.id))
    if revoked != "neither":
        with database.write() as session:
            keys.revoke(session, "lab" if revoked == "the id's" else second.id)
    with database.read() as session:
        before = keys.every(session)
    with database.write() as session, pytest.raises(InvalidInput) as told:
        keys.revoke(session, first.id)
    assert f"the id of the key 'lab' and the name of the key {second.id}" in str(told.value)
    with database.read() as session:
        assert keys.every(session) == before
    with database.write() as session:
        assert keys.revoke(session, second.id)[0].id == second.id
        assert keys.revoke(session, "lab")[0].id == first.id
        assert keys.revoke(session, first.id)[1] is False  # it makes no difference any more


def test_a_key_is_revoked_once_and_stays(database: Database) -> None:
    with database.write() as session:
        made, _ = keys.create(session, name="lab", scopes=[Scope.READ], expires_at=None)
        assert made.refusal(datetime.now(UTC)) is None
        revoked, first = keys.revoke(session, made.id)
        again, second = keys.revoke(session, made.id)
        assert (first, second) == (True, False)
        assert revoked.revoked_at == again.revoked_at is not None
        assert revoked.refusal(datetime.now(UTC)) == "revoked"
        assert keys.any_exist(session)


def test_a_key_expires(database: Database) -> None:
    moment = datetime.now(UTC) + timedelta(days=1)
    with database.write() as session:
        made, _ = keys.create(session, name="lab", scopes=[Scope.READ], expires_at=moment)
    assert made.refusal(moment - timedelta(seconds=1)) is None
    assert made.refusal(moment) == "expired"


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"name": "x" * 101}, "/name"),
        ({"scopes": []}, "/scopes"),
        ({"expires_at": datetime(2001, 1, 1, tzinfo=UTC)}, "/expires_at"),
    ],
)
def test_a_key_that_cannot_be_meant_is_refused(database: Database, wrong: dict[str, object], pointer: str) -> None:
    given: dict[str, object] = {"name": "lab", "scopes": [Scope.READ], "expires_at": None} | wrong
    with database.write() as session, pytest.raises(InvalidInput) as told:
        keys.create(session, **given)  # type: ignore[arg-type]
    assert told.value.pointer == pointer


def test_use_is_written_once_a_minute(database: Database) -> None:
    with database.write() as session:
        made, _ = keys.create(session, name="lab", scopes=[Scope.READ], expires_at=None)
        keys.touch(session, {made.id})
    with database.read() as session:
        first = keys.find(session, made.id).last_used_at
    assert first is not None
    with database.write() as session:
        keys.touch(session, {made.id})
    with database.read() as session:
        assert keys.find(session, made.id).last_used_at == first
    before = first - timedelta(minutes=2)
    with database.write() as session:
        session.execute(update(KeyRow).values(last_used_at=before))
        keys.touch(session, {made.id})
    with database.read() as session:
        last = keys.find(session, made.id).last_used_at
    assert last is not None
    assert last >= first


def test_scopes_bring_others_with_them(database: Database) -> None:
    with database.write() as session:
        write, _ = keys.create(session, name="write", scopes=[Scope.WRITE], expires_at=None)
        admin, _ = keys.create(session, name="admin", scopes=[Scope.ADMIN], expires_at=None)
    assert write.allows == {Scope.WRITE, Scope.READ}
    assert admin.allows == EVERYTHING
