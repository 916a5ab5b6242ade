"""A typed client of the HTTP API, for people and programs.

::

    from service.client import Client

    with Client("http://127.0.0.1:8000") as api:
        experiment = api.train("relu", 3).wait(progress=True)
        print(experiment.result.test_accuracy)
"""

from service.client.carriers import Async, Sync, make_methods
from service.client.clients import AsyncClient, Client
from service.client.errors import *  # noqa: F403 - all of them are for users
from service.client.errors import __all__ as _errors
from service.client.flow import Retries
from service.client.handles import ExperimentHandle, SweepHandle
from service.client.values import Alias, Figure, Page, Plan, Prediction

__all__ = [
    "Alias",
    "Async",
    "AsyncClient",
    "Client",
    "ExperimentHandle",
    "Figure",
    "Page",
    "Plan",
    "Prediction",
    "Retries",
    "SweepHandle",
    "Sync",
    *_errors,
]

make_methods()
