"""API keys: made, found, listed, revoked."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import inspect, select, update
from sqlalchemy.orm import Session

from service.domain.access import ApiKey, Scope
from service.errors import InvalidInput, KeyNameTaken, KeyNotFound
from service.store.session import Database
from service.store.tables import KeyRow, database_now

__all__ = [
    "Kept",
    "Token",
    "any_exist",
    "asked_for",
    "create",
    "every",
    "find",
    "kept",
    "matches",
    "revoke",
    "token",
    "touch",
]

ID_CHARACTERS = "abcdefghijkmnpqrstuvwxyz23456789"
ID_LENGTH = 10
SECRET_BYTES = 32
NAME_LENGTH = 100
TOKEN = re.compile(r"epochd_([a-z0-9]{1,16})_([A-Za-z0-9_-]{20,100})")
TOUCH_SECONDS = 60.0
"""How exactly it is known when a key was last used."""
NOBODY = hashlib.sha256(secrets.token_bytes(SECRET_BYTES)).hexdigest()
"""What no secret has: an id that is unknown is compared with it, and takes as long as one that is known."""


@dataclass(frozen=True)
class Token:
    """What a client sends, taken apart."""

    id: str
    secret: str


@dataclass(frozen=True)
class Kept:
    """A key with what its secret is known by."""

    key: ApiKey
    secret_sha256: str


def token(text: str) -> Token | None:
    """A token taken apart, or None where it is none of epochd's."""
    found = TOKEN.fullmatch(text)
    return Token(*found.groups()) if found else None


def matches(given: Token, kept: Kept | None) -> bool:
    """Whether a token is that of a key; takes as long for a key that does not exist."""
    sha256 = hashlib.sha256(given.secret.encode()).hexdigest()
    return hmac.compare_digest(sha256, kept.secret_sha256 if kept else NOBODY) and kept is not None


def create(
    session: Session, *, name: str, scopes: Collection[Scope], expires_at: datetime | None
) -> tuple[ApiKey, str]:
    """Make a key. Its token is returned this once, and kept nowhere.

    Raises:
        InvalidInput: the name is empty, too long or has a control character, no scope is given, or it would have
            expired already.
        KeyNameTaken: another key that is not revoked has the name, or a key has it for its id.
    """
    if not 1 <= len(name) <= NAME_LENGTH or not name.isprintable() or name != name.strip():
        raise InvalidInput(f"a key's name has 1 to {NAME_LENGTH} printable characters", "/name")
    if not scopes:
        raise InvalidInput("a key has at least one scope: read, predict, write or admin", "/scopes")
    now = session.scalars(select(database_now())).one()
    if expires_at is not None and expires_at <= now:
        raise InvalidInput("the key would have expired already", "/expires_at")
    # One statement more would not do on PostgreSQL for two commands at once; whoever revokes by name is told then.
    if session.scalars(select(KeyRow.id).where(KeyRow.name == name, KeyRow.revoked_at.is_(None))).first() is not None:
        raise KeyNameTaken(f"there is a key {name!r} already: revoke it first, or take another name")
    if (other := session.get(KeyRow, name)) is not None:
        raise KeyNameTaken(f"{name!r} is the id of the key {other.name!r}: take another name")
    identity = "".join(secrets.choice(ID_CHARACTERS) for _ in range(ID_LENGTH))
    secret = secrets.token_urlsafe(SECRET_BYTES)
    row = KeyRow(
        id=identity,
        name=name,
        secret_sha256=hashlib.sha256(secret.encode()).hexdigest(),
        scopes=[scope.value for scope in Scope if scope in scopes],
        created_at=now,
        expires_at=expires_at and expires_at.astimezone(UTC),
    )
    session.add(row)
    session.flush()
    return _key(row), f"epochd_{identity}_{secret}"


def find(session: Session, identity: str) -> ApiKey:
    """The key with this id, or the one with this name: of several with the name, that which is not revoked.

    Raises:
        KeyNotFound: there is none.
        InvalidInput: several have the name, or it is the id of one and the name of another.
    """
    row = session.get(KeyRow, identity)
    rows = session.scalars(select(KeyRow).where(KeyRow.name == identity).order_by(KeyRow.created_at)).all()
    if row is not None:
        named = [one for one in rows if one is not row]
        if named and any(one.revoked_at is None for one in (row, *named)):
            ids = ", ".join(one.id for one in named)
            raise InvalidInput(
                f"{identity!r} is the id of the key {row.name!r} and the name of the key {ids}: give "
                f"{row.name!r} for the first, {ids} for the second"
            )
    else:
        rows = [one for one in rows if one.revoked_at is None] or rows[-1:]
        if not rows:
            raise KeyNotFound(f"there is no key {identity!r}: epochd keys list lists them")
        if len(rows) > 1:
            ids = ", ".join(one.id for one in rows)
            raise InvalidInput(f"{len(rows)} keys have the name {identity!r}: give an id, {ids}")
        row = rows[0]
    return _key(row)


def every(session: Session) -> list[ApiKey]:
    """Every key that was ever made, the oldest first."""
    return [one.key for one in kept(session)]


def kept(session: Session) -> list[Kept]:
    """The same, with what their secrets are known by."""
    rows = session.scalars(select(KeyRow).order_by(KeyRow.created_at, KeyRow.id))
    return [Kept(_key(row), row.secret_sha256) for row in rows]


def any_exist(session: Session) -> bool:
    """Whether a key was ever made. From then on keys are asked for, also when all are revoked."""
    return session.scalars(select(KeyRow.id).limit(1)).first() is not None


def asked_for(database: Database) -> bool:
    """The same of a database that may not have been made yet, or not been brought up to date.

    Raises:
        Unavailable: it cannot be reached.
    """
    if database.is_missing:
        return False
    with database.read() as session:
        return inspect(session.connection()).has_table(KeyRow.__tablename__) and any_exist(session)


def revoke(session: Session, identity: str) -> tuple[ApiKey, bool]:
    """Revoke the key with this id or name; also says whether it was good to revoke: asking again is no error.

    Raises: as `find`.
    """
    found = find(session, identity)
    this = update(KeyRow).where(KeyRow.id == found.id, KeyRow.revoked_at.is_(None)).values(revoked_at=database_now())
    revoked = session.execute(this.returning(KeyRow.id)).first() is not None
    session.expire_all()
    return _key(session.get_one(KeyRow, found.id)), revoked


def touch(session: Session, identities: Collection[str]) -> None:
    """Say that keys are used now. What was said less than a minute ago is not said again."""
    used = KeyRow.last_used_at.is_(None) | (KeyRow.last_used_at < database_now(-TOUCH_SECONDS))
    session.execute(update(KeyRow).where(KeyRow.id.in_(identities), used).values(last_used_at=database_now()))


def _key(row: KeyRow) -> ApiKey:
    known = {scope.value for scope in Scope}
    return ApiKey(
        id=row.id,
        name=row.name,
        scopes=frozenset(Scope(scope) for scope in row.scopes if scope in known),  # a later version may know more
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
