"""How commands reach the service."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from service.commands.console import err, fail
from service.commands.data import fetch_shown
from service.commands.environment import settings_of

if TYPE_CHECKING:  # `epochd serve` needs no client
    from service.client import Client, ExperimentHandle, SweepHandle, Sync

__all__ = ["connect", "either", "local_service"]


def connect(url: str | None, api_key: str | None) -> "Client":
    """A client of the service that the options or the environment name."""
    from service.client import Client

    return Client(url, api_key=api_key)


@contextlib.contextmanager
def local_service(dataset: str, data_dir: Path | None) -> "Iterator[Client]":
    """A service of the command's own, with its dataset, that stops with it."""
    from service.background import running_service

    settings = settings_of(data_dir=data_dir, port=0)
    fetch_shown(dataset, settings, err)
    with running_service(settings, log_name="local.log") as (api, _):
        yield api


def either(api: "Client", identity: str) -> "ExperimentHandle[Sync] | SweepHandle[Sync]":
    """The experiment, or else the sweep, with this id or beginning of an id."""
    from service.client import NotFound

    with contextlib.suppress(NotFound):
        return api.get_experiment(identity)
    try:
        return api.get_sweep(identity)
    except NotFound:
        fail(f"there is no experiment and no sweep {identity}: epochd list lists experiments")
