"""Which model a path means, for the protocols that put its name there."""

import re
from typing import Annotated
from uuid import UUID

from fastapi import Path
from starlette.concurrency import run_in_threadpool

from service.api.deps import Ports
from service.errors import AliasNotFound, ModelNotFound
from service.serving.predictor import Servable, own_name
from service.store import models

__all__ = ["ALIAS", "LARGE_BODY", "MANY", "ModelName", "Version", "servable"]

ALIAS = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""How an alias is spelled, as a regular expression."""
LARGE_BODY = 64 * 1024
"""A body from this size on is decoded and answered off the event loop, so that it does not delay small ones."""
MANY = 32
"""More images than this are answered off the event loop."""

ModelName = Annotated[str, Path(description="An alias, or the id of a succeeded experiment.")]
Version = Annotated[str, Path(description="The id of the experiment that the model is of now.")]


async def servable(ports: Ports, name: str, version: str | None = None) -> Servable:
    """The model of this name, ready to answer. The only version it has is the experiment it comes from.

    Raises:
        AliasNotFound, ExperimentNotFound: nothing has this name.
        ExperimentNotFinished: it has no model yet.
        ModelNotFound: it has no model, or not this version.
        BlobMissing, BlobCorrupt, Unavailable: its file cannot be had.
    """
    model = ports.predictor.known(name)
    if model is None:
        model = await _unknown(ports, name)
    if version is not None and version.lower() != model.experiment_id:
        raise ModelNotFound(f"{name} has the version {model.experiment_id} and no other")
    return model


async def _unknown(ports: Ports, name: str) -> Servable:
    """What is not known as an alias: no alias is spelled like an experiment's id."""
    try:
        experiment_id = str(UUID(name))
    except ValueError:
        if re.fullmatch(ALIAS, name) is None:
            raise AliasNotFound("there is no such model: GET /models lists the aliases") from None
        return await run_in_threadpool(_learn_alias, ports, name)
    known = ports.predictor.known(own_name(experiment_id))
    return known if known is not None else await run_in_threadpool(_learn_experiment, ports, experiment_id)


def _learn_alias(ports: Ports, alias: str) -> Servable:
    with ports.database.read() as session:
        model = models.resolve_alias(session, alias)
    ports.predictor.learn(alias, model)
    return model


def _learn_experiment(ports: Ports, experiment_id: str) -> Servable:
    with ports.database.read() as session:
        model = models.resolve_experiment(session, experiment_id)
    ports.predictor.learn(own_name(experiment_id), model)
    return model
