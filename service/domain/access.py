"""Who asks, and what they may do."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

__all__ = ["EVERYTHING", "Actor", "ApiKey", "Caller", "Scope"]


class Scope(StrEnum):
    """What a key allows."""

    READ = "read"
    """See experiments, sweeps, figures, models and workers."""
    PREDICT = "predict"
    """Ask models."""
    WRITE = "write"
    """Queue, cancel, repeat and delete experiments, and move aliases; and all of `read`."""
    ADMIN = "admin"
    """See who did what; and everything else."""

    @property
    def includes(self) -> frozenset["Scope"]:
        """The scopes that come with this one, itself among them."""
        return {Scope.WRITE: frozenset({Scope.WRITE, Scope.READ}), Scope.ADMIN: EVERYTHING}.get(self, frozenset({self}))


EVERYTHING = frozenset(Scope)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Whoever sent a request."""

    key_id: str | None
    """The public part of their API key; None where no key is asked for."""
    name: str
    """The key's name, for people; `anonymous` without one."""
    scopes: frozenset[Scope]
    address: str | None
    """Where the request came from, as far as is known."""


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Whoever did something, as the audit trail tells of them."""

    name: str
    """The key's name, `anonymous` where no key is asked for, or the user who gave a command."""
    key_id: str | None = None
    address: str | None = None
    request_id: str | None = None
    """Names the request in the log."""


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """An API key, without its secret."""

    id: str
    """Its public part, which stands in its token."""
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None
    """None for a key that does not expire."""
    revoked_at: datetime | None
    last_used_at: datetime | None
    """To the minute; None for a key that was never used."""

    def refusal(self, now: datetime) -> Literal["revoked", "expired"] | None:
        """Why the key is no good at a moment; None while it is good."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else None

    @property
    def allows(self) -> frozenset[Scope]:
        """Its scopes, and those that come with them."""
        return frozenset().union(*(scope.includes for scope in self.scopes))
