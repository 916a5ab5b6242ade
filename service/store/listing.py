"""Lists of experiments: filters, orders and the places to go on from."""

import base64
import binascii
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product
from typing import Any, Literal

import orjson
from sqlalchemy import ColumnElement, Select, exists, func, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from service.domain.experiment import Experiment, Status
from service.errors import InvalidCursor
from service.store.experiments import to_experiment
from service.store.tables import ExperimentRow, TagRow

__all__ = ["Filter", "Page", "Sort", "cursor_after", "page"]

MERGED = 12
"""Statements that a page is merged from, at most."""
MANY = 1_000
"""Tags with so many experiments are alike."""

Place = tuple[datetime | float | None, str]
"""Value and id of the last experiment before a page."""
Listed = Select[ExperimentRow]

Sort = Literal["created_at", "-created_at", "test_accuracy", "-test_accuracy"]


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which experiments to list. Values of one field are alternatives; fields narrow each other."""

    status: list[Status] = field(default_factory=list)
    activation: list[str] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)
    dataset: list[str] = field(default_factory=list)
    sweep_id: str | None = None
    tag: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """Some experiments, and the cursor of those that follow."""

    experiments: list[Experiment]
    next_cursor: str | None


def page(session: Session, wanted: Filter, *, sort: Sort, cursor: str | None, limit: int) -> Page:
    """List experiments, `limit` at a time. A page stays right while experiments are added: it goes on from a
    place in the order (keyset), not from a number of rows.

    Raises:
        InvalidCursor: the cursor was not made here for this sort order.
    """
    place = None if cursor is None else _decode(cursor, sort)
    rows: list[ExperimentRow] = []
    for merged in _statements(session, wanted, sort, place):
        missing = limit + 1 - len(rows)
        some = [row for statement in merged for row in session.scalars(statement.limit(missing))]
        if len(merged) > 1:
            some.sort(key=lambda row: (getattr(row, sort.removeprefix("-")), row.id), reverse=sort.startswith("-"))
        rows += some[:missing]
        if len(rows) > limit:
            break
    found = [to_experiment(row) for row in rows[:limit]]
    return Page(found, cursor_after(sort, found[-1]) if len(rows) > limit else None)


def cursor_after(sort: Sort, experiment: Experiment) -> str:
    """The cursor of what follows an experiment in an order."""
    if sort.endswith("created_at"):
        value: str | float | None = experiment.created_at.isoformat()
    else:
        value = experiment.result.test_accuracy if experiment.result else None
    return base64.urlsafe_b64encode(orjson.dumps([sort, value, experiment.id])).decode().rstrip("=")


def _statements(session: Session, wanted: Filter, sort: Sort, place: Place | None) -> Iterator[list[Listed]]:
    """What gives the page, one after another until it is full, each as statements whose rows are merged. Each walks an
    index in the order of the list: no rows are sorted but those of a page.
    """
    # A tag's rows repeat what experiments are sorted by, so that a tag has its experiments in every order.
    table, identity = (TagRow, TagRow.experiment_id) if wanted.tag else (ExperimentRow, ExperimentRow.id)
    column = table.created_at if sort.endswith("created_at") else table.test_accuracy
    descending = sort.startswith("-")
    order = (column.desc(), identity.desc()) if descending else (column.asc(), identity.asc())
    statement = select(ExperimentRow).order_by(*order)
    if wanted.tag:
        statement = _tagged(session, statement, wanted.tag)
    if wanted.sweep_id is not None:
        statement = statement.where(ExperimentRow.sweep_id == wanted.sweep_id)
    if sort.endswith("created_at"):
        statement = statement.where(*_after((column, identity), descending, place))
        yield [statement.where(*one) for one in _alternatives(wanted, wanted.status)]
        return
    # Those without a value come last. No index has them there in both directions, so they are a statement of their
    # own. Only what has succeeded has a value.
    others = [status for status in wanted.status if status is not Status.SUCCEEDED]
    if (place is None or place[0] is not None) and (not wanted.status or Status.SUCCEEDED in wanted.status):
        rated = statement.where(column.is_not(None), *_after((column, identity), descending, place))
        yield [rated.where(*one) for one in _alternatives(wanted, [])]
    if not wanted.status or others:
        behind = _after((identity,), descending, place[1:]) if place is not None and place[0] is None else ()
        unrated = statement.where(column.is_(None), *behind)
        yield [unrated.where(*one) for one in _alternatives(wanted, others)]


def _tagged(session: Session, statement: Listed, tags: Collection[str]) -> Listed:
    """Only what has all the tags. The rarest leads: its rows are walked, and the others looked up."""
    first = min(set(tags), key=lambda tag: (_count(session, tag), tag)) if len(set(tags)) > 1 else next(iter(tags))
    statement = statement.join(TagRow, TagRow.experiment_id == ExperimentRow.id).where(TagRow.tag == first)
    for tag in sorted({*tags} - {first}):
        other = aliased(TagRow)
        statement = statement.where(exists().where(other.experiment_id == TagRow.experiment_id, other.tag == tag))
    return statement


def _count(session: Session, tag: str) -> int:
    some = select(TagRow.tag).where(TagRow.tag == tag).order_by(TagRow.created_at).limit(MANY).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0


def _alternatives(wanted: Filter, statuses: Sequence[Status]) -> list[list[ColumnElement[bool]]]:
    """The conditions of each combination of the wanted values: behind equal values an index is in order, behind one of
    several it is not. More combinations than a few are left to the database.
    """
    axes = (
        (ExperimentRow.status, [status.value for status in statuses]),
        (ExperimentRow.activation, wanted.activation),
        (ExperimentRow.depth, wanted.depth),
        (ExperimentRow.dataset, wanted.dataset),
    )
    given = [(column, list(dict.fromkeys(values))) for column, values in axes if values]
    if math.prod(len(values) for _, values in given) > MERGED:
        return [[column.in_(values) for column, values in given]]
    return [list(one) for one in product(*([column == value for value in values] for column, values in given))]


def _after(
    columns: Sequence[InstrumentedAttribute[Any]], descending: bool, place: Sequence[Any] | None
) -> list[ColumnElement[bool]]:
    """What comes behind a place in the order."""
    if place is None:
        return []
    here, there = tuple_(*columns), tuple_(*place)
    return [here < there if descending else here > there]


def _decode(cursor: str, sort: Sort) -> Place:
    wrong = InvalidCursor("the cursor is not one that this list gave: begin again without it", "/cursor")
    try:
        made_for, value, experiment_id = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if sort.endswith("created_at"):
            value = datetime.fromisoformat(value)
            if value.tzinfo is None:
                raise wrong
        elif value is not None and not isinstance(value, float):
            raise wrong
    except (ValueError, TypeError, binascii.Error):
        raise wrong from None
    if made_for != sort or not isinstance(experiment_id, str) or "\0" in experiment_id:
        raise wrong
    return value, experiment_id
