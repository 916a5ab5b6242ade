"""/audit: who did what."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from service.api.deps import PortsOf, refuse_repeats
from service.api.problems import responses
from service.api.security import needs
from service.domain.access import Scope
from service.store import trail

__all__ = ["router"]

router = APIRouter(tags=["access"])

Printable = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]+$")]


class AuditEntry(BaseModel):
    """One act."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    at: datetime
    actor: str = Field(description="The key's name, `anonymous` where no key was asked for, or who gave a command.")
    key_id: str | None = Field(description="The key's id; null without one.")
    address: str | None = Field(description="Where the request came from; null for a command.")
    action: str = Field(description="Such as `experiment.create`, `alias.set` or `key.revoke`.")
    target: str | None = Field(description="The id of an experiment, a sweep or a key, or the name of an alias.")
    request_id: str | None = Field(description="Names the request in the service's log.")
    details: dict[str, Any] = Field(description="What else is known of the act.")


class AuditPage(BaseModel):
    """Some acts."""

    data: list[AuditEntry]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class AuditQuery(BaseModel):
    """Which acts to list."""

    model_config = ConfigDict(extra="forbid")

    target: Printable | None = Field(default=None, description="Only what was done to this.")
    key: Printable | None = Field(default=None, description="Only what was done with the key of this id.")
    cursor: Annotated[str, Field(max_length=500, pattern=r"^[\x21-\x7e]+$")] | None = Field(
        default=None, description="`next_cursor` of the page before."
    )
    limit: int = Field(default=50, ge=1, le=200)


@router.get(
    "/audit",
    summary="List who did what",
    responses=responses(),
    dependencies=[needs(Scope.ADMIN), Depends(refuse_repeats)],
)
def list_(ports: PortsOf, query: Annotated[AuditQuery, Query()]) -> AuditPage:
    """Who made, cancelled, repeated and deleted experiments and sweeps, moved aliases, and made and revoked keys: the
    newest first, `limit` at a time.

    Follow `next_cursor` for more: a page stays right while acts are added.
    """
    with ports.database.read() as session:
        page = trail.page(session, target=query.target, key_id=query.key, cursor=query.cursor, limit=query.limit)
    return AuditPage(data=[AuditEntry.model_validate(one) for one in page.entries], next_cursor=page.next_cursor)
