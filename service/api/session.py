"""/session: how a browser says who uses it. The cookie is the API key itself, which no script of a page can read."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from service.api.failures import FailedKeys
from service.api.keyring import Keyring
from service.api.problems import responses
from service.api.security import COOKIE, caller_of
from service.domain.access import Caller, Scope
from service.errors import EpochdError, NotAuthenticated

__all__ = ["router"]

router = APIRouter(tags=["access"])

LONGEST_SECONDS = 7 * 24 * 3600
"""For so long a browser remembers who uses it, unless the key expires before."""


class Credentials(BaseModel):
    """What one signs in with."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(min_length=1, max_length=200, description="An API key.")


class SessionAnswer(BaseModel):
    """Who one is."""

    name: str | None = Field(description="The key's name, or `anonymous` where no key is asked for; null when neither.")
    scopes: list[Scope] = Field(description="What one may do.")
    asks_for_key: bool = Field(description="Whether an API key is asked for.")
    refusal: str | None = Field(description="Why one may do nothing; null when one may.")


async def _keyring(request: Request) -> Keyring:
    keyring: Keyring = request.app.state.keyring
    return keyring


KeyringOf = Annotated[Keyring, Depends(_keyring)]


@router.get("/session", summary="Read who one is", responses=responses())
async def read(request: Request, keyring: KeyringOf) -> SessionAnswer:
    """Whose key the request has, by its header or its cookie, and what that allows. Asks for no key itself."""
    refusal: EpochdError | None = request.scope["state"].get("refusal")
    if refusal is not None and not isinstance(refusal, NotAuthenticated):
        raise refusal
    if refusal is not None and refusal.key_id is not None:  # else keys could be guessed here without a limit
        failed: FailedKeys = request.app.state.failed_keys
        limited = await run_in_threadpool(failed.count, request, refusal)
        if limited is not None:
            raise limited
    return _answer(caller_of(request), asks=keyring.asks, refusal=refusal)


@router.post("/session", summary="Sign in", responses=responses(401, 413, 415))
async def sign_in(request: Request, response: Response, keyring: KeyringOf, given: Credentials) -> SessionAnswer:
    """Keep an API key in a cookie that no script can read, for a week at most. The page signs in by it; programs send
    `Authorization: Bearer KEY` with each request instead.
    """
    await keyring.refresh()
    caller = await keyring.meet(given.key.strip(), caller_of(request).address)
    expires_at = keyring.key(given.key.strip()).expires_at
    left = LONGEST_SECONDS if expires_at is None else int((expires_at - datetime.now(UTC)).total_seconds())
    response.set_cookie(
        COOKIE,
        given.key.strip(),
        max_age=max(1, min(left, LONGEST_SECONDS)),
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return _answer(caller, asks=True, refusal=None)


@router.delete("/session", status_code=204, summary="Sign out", responses=responses())
async def sign_out(response: Response) -> None:
    """Forget the cookie. The key stays good."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


def _answer(caller: Caller, *, asks: bool, refusal: EpochdError | None) -> SessionAnswer:
    return SessionAnswer(
        name=None if refusal else caller.name,
        scopes=[scope for scope in Scope if scope in caller.scopes],
        asks_for_key=asks,
        refusal=str(refusal) if refusal else None,
    )
