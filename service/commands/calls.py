"""How commands reach the service."""

import contextlib
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from service.commands.console import err, fail, misused, stopped
from service.commands.data import fetch_shown
from service.commands.environment import settings_of
from service.domain.experiment import Spec

if TYPE_CHECKING:  # `epochd serve` needs no client
    from service.client import Client, ExperimentHandle, SweepHandle, Sync

__all__ = ["connect", "either", "local_service", "named", "submitting"]

LONGEST = 40
"""Characters of what is no id that are worth repeating."""
POINTER = re.compile(r"(?:/base|/grid)?/(\w+)(?:/.*)?")
"""Where a field of a spec is in what a service is sent."""
OPTIONS = {name: f"--{name.replace('_', '-')}" for name in (*Spec.model_fields, "seeds")} | {"tags": "--tag"}


def named(url: str | None) -> str:
    """What a further command needs to reach the service of this one; nothing where the environment names it."""
    return "" if url is None or url == os.environ.get("EPOCHD_URL") else f" --url {shlex.quote(url)}"


@contextlib.contextmanager
def connect(url: str | None, api_key: str | None) -> "Iterator[Client]":
    """A client of the service that the options or the environment name."""
    from service.client import NoAnswer
    from service.commands.patience import PatientClient

    try:
        with _by_options(), PatientClient(url, api_key=api_key) as api:
            yield api
    except NoAnswer as error:
        if error.arrived:
            raise
        hint = "epochd serve starts a service here, epochd train --local trains without one, --url names another"
        fail(f"{error}; {hint}")


@contextlib.contextmanager
def local_service(dataset: str, data_dir: Path | None) -> "Iterator[Client]":
    """A service of the command's own, with its dataset, that stops with it."""
    from service.background import running_service

    settings = settings_of(data_dir=data_dir, port=0)
    fetch_shown(dataset, settings, err)
    with running_service(settings, log_name="local.log") as (api, _), _by_options():
        yield api


@contextlib.contextmanager
def _by_options() -> Iterator[None]:
    """What cannot be meant is told by the options that it was given as: a service has fields."""
    from service.client import InvalidRequest

    try:
        yield
    except InvalidRequest as error:
        names = [found and OPTIONS.get(found[1]) for found in (POINTER.fullmatch(one.pointer) for one in error.errors)]
        if type(error) is not InvalidRequest or not names or not all(names):
            raise  # an operator's limit, or no field
        told = [f"{name}: {one.message}" for name, one in zip(names, error.errors, strict=True)]
        misused("; ".join(dict.fromkeys(told)))


@contextlib.contextmanager
def submitting(url: str | None = None, *, find: str = "") -> Iterator[None]:
    """Whoever queues something may never hear of it: by Ctrl-C before the answer, by a broken connection, or by a
    gateway that heard nothing. `find` says how to find out, where that is not to ask the service at `url`.
    """
    from service.client import ApiError, InvalidRequest

    find = find or f"epochd list{named(url)} shows the newest"
    try:
        yield
    except KeyboardInterrupt:
        stopped(f"stopped before the service answered. It may have been queued all the same: {find}")
    except ApiError as error:
        if not error.arrived or isinstance(error, InvalidRequest):  # whatever arrived was refused for the same
            raise
        fail(f"{error}. It may have been queued all the same: {find}")


def either(api: "Client", identity: str) -> "ExperimentHandle[Sync] | SweepHandle[Sync]":
    """The experiment or the sweep with this id or beginning of an id. One that both have is refused: what is asked of
    it may be to delete it.
    """
    from service.client import NotFound

    found: list[ExperimentHandle[Sync] | SweepHandle[Sync]] = []
    for read in (api.get_experiment, api.get_sweep):
        with contextlib.suppress(NotFound):
            found.append(read(identity))
    if len(found) > 1:
        one, other = found
        fail(f"experiment {one.id} and sweep {other.id} both begin with {identity}: give more of the id")
    if not found:
        shown = identity if len(identity) <= LONGEST else f"{identity[:LONGEST]}..."
        fail(
            f"there is no experiment and no sweep {shown!r}: give a whole id, or at least its first eight characters; "
            "epochd list lists experiments"
        )
    return found[0]
