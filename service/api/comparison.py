"""/sweeps/{id}/comparison: which arm is better, and how sure that is."""

import csv
import io
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service.analysis.comparison import columns, compare, to_rows
from service.api.deps import PortsOf, prefers_csv, refuse_repeats
from service.api.problems import responses
from service.api.security import needs
from service.api.sweeps import SweepId
from service.domain.access import Scope
from service.domain.comparison import Comparison, Run
from service.domain.experiment import Experiment
from service.domain.sweep import SweepSpec
from service.store import sweeps

__all__ = ["router"]

router = APIRouter(prefix="/sweeps", tags=["sweeps"])


class ComparisonQuery(BaseModel):
    """What to compare with."""

    model_config = ConfigDict(extra="forbid")

    reference: str | None = Field(
        default=None,
        max_length=500,
        description="Label of an arm chosen beforehand. Then the others are compared with it, and not with each other.",
    )


@router.get(
    "/{sweep_id}/comparison",
    summary="Compare the arms of a sweep",
    response_model=Comparison,
    responses=responses(404) | {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    dependencies=[needs(Scope.READ), Depends(refuse_repeats)],
)
def comparison(
    ports: PortsOf, request: Request, sweep_id: SweepId, query: Annotated[ComparisonQuery, Query()]
) -> Comparison | Response:
    """For each arm the mean over its seeds with its 95% interval; paired differences between arms over the same seeds,
    with p values adjusted for how many there are; and a sentence that says what came out.

    May be asked while the sweep runs: `complete` is false then. With `Accept: text/csv` the arms come as CSV.
    """
    with ports.database.read() as session:
        spec = sweeps.get(session, sweep_id).spec
        members = sweeps.members(session, sweep_id)
    found = compare([run_of(spec, one) for one in members], reference=query.reference)
    return _csv(found) if prefers_csv(request) else found


def run_of(spec: SweepSpec, experiment: Experiment) -> Run:
    """An experiment of a sweep as the comparison sees it."""
    result = experiment.result
    return Run(
        arm=spec.arm_of(experiment.spec),
        seed=experiment.spec.seed,
        shuffle_seed=experiment.spec.shuffle_seed,
        status=experiment.status,
        error=experiment.error.code if experiment.error else None,
        test_accuracy=result.test_accuracy if result else None,
        test_loss=result.test_loss if result else None,
        computation_seconds=result.computation_seconds if result else None,
    )


def _csv(found: Comparison) -> Response:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(found), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(to_rows(found))
    return Response(text.getvalue(), media_type="text/csv")
