"""Experiments, sweeps and predictions as people read them in a terminal."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from service.commands.console import columns, out
from service.domain.access import ApiKey
from service.domain.comparison import Comparison
from service.domain.experiment import EpochMetrics, Experiment, Metrics, Status
from service.domain.worker import Worker

if TYPE_CHECKING:
    from service.client import Prediction

__all__ = ["acts", "comparison", "curves", "experiment", "experiments", "keys", "outcome", "predictions", "workers"]

COLOURS = {Status.SUCCEEDED: "green", Status.FAILED: "red", Status.RUNNING: "cyan"}
PLOT = (60, 12)
"""Columns and lines of a plot, at most."""
LEAST = 20
"""Columns of a plot, and of a name, in the narrowest terminal."""
AXES = 16
"""Columns beside a plot."""
TICK = 10
"""Columns from one tick to the next."""
LABEL = ("> (epoch)\n           |", ">\n     epoch |")
"""Where plotille writes the label of the lower axis, and where there is room for it."""


def outcome(one: Experiment) -> str:
    """How an experiment ended, in a line."""
    if one.result is not None:
        measured = f"test accuracy {one.result.test_accuracy:.4f}, loss {one.result.test_loss:.4f}"
        return f"{one.id} {one.status}: {measured}, {one.result.computation_seconds:.1f} s"
    return f"{one.id} {one.status}" + (f": {one.error.message}" if one.error else "")


def experiments(found: Iterable[Experiment]) -> Table:
    """A list of experiments. In a terminal a long name is cut."""
    table = _table("id", "status", "activation", "depth", "seed", "epochs", "accuracy", "created", "name")
    for one in found:
        table.add_row(
            one.id,
            Text(one.status, style=COLOURS.get(one.status, "")),
            one.spec.activation,
            str(one.spec.depth),
            str(one.spec.seed),
            f"{one.progress.epoch}/{one.progress.epochs}",
            f"{one.result.test_accuracy:.4f}" if one.result else "-",
            f"{one.created_at:%Y-%m-%d %H:%M}",
            one.spec.name or "",
        )
    if out.is_terminal:
        name = table.columns[-1]
        name.overflow, name.max_width = "ellipsis", LEAST
        others = Measurement.get(out, out.options, table).maximum - LEAST
        name.max_width = max(columns() - others, LEAST)
    return table


def workers(found: Iterable[Worker]) -> Table:
    """Who trains."""
    table = _table("worker", "status", "engine", "running", "slots", "version", "last heard of", "trouble")
    for one in found:
        table.add_row(
            f"{one.host}, process {one.process}",
            Text(one.status, style="" if one.status == "active" else "red"),
            one.engine,
            str(one.running),
            str(one.slots),
            one.version,
            f"{one.heartbeat_at:%Y-%m-%d %H:%M:%S}",
            one.trouble or "",
        )
    return table


def keys(found: Iterable[ApiKey], now: datetime) -> Table:
    """Who may use the service."""
    table = _table("id", "name", "scopes", "state", "expires", "last used")
    for one in found:
        refusal = one.refusal(now)
        table.add_row(
            one.id,
            one.name,
            ", ".join(sorted(one.scopes)),
            Text(refusal or "good", style="red" if refusal else "green"),
            f"{one.expires_at:%Y-%m-%d %H:%M}" if one.expires_at else "never",
            f"{one.last_used_at:%Y-%m-%d %H:%M}" if one.last_used_at else "never",
        )
    return table


def acts(found: Iterable[Mapping[str, Any]]) -> Table:
    """Who did what, as the service tells it."""
    table = _table("at", "who", "key", "from", "did", "to")
    for one in found:
        at = datetime.fromisoformat(one["at"])
        cells = (one["actor"], one["key_id"], one["address"], one["action"], one["target"])
        table.add_row(f"{at:%Y-%m-%d %H:%M:%S}", *(cell or "-" for cell in cells))
    return table


def experiment(one: Experiment, metrics: Metrics) -> RenderableType:
    """One experiment: what it is, how far it is, its last epoch and its curves."""
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(one, metrics).items():
        facts.add_row(Text(name, style="bold"), value)
    drawn = ("", curves(metrics.epochs, columns() - AXES)) if metrics.epochs else ()
    return Group(facts, *drawn)


def _facts(one: Experiment, metrics: Metrics) -> dict[str, str]:
    told = {"name", "tags", *(name for name, field in type(one.spec).model_fields.items() if field.is_required())}
    changed = {
        name: value
        for name, field in type(one.spec).model_fields.items()
        if name not in told and (value := getattr(one.spec, name)) != field.default
    }
    facts = {
        "experiment": outcome(one),
        "network": f"{one.spec.activation}, depth {one.spec.depth}, {one.spec.parameters:,} parameters",
        "besides": ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in changed.items()),
        "name": one.spec.name or "",
        "tags": ", ".join(one.spec.tags),
        "sweep": one.sweep_id or "",
        "epochs": f"{one.progress.epoch} of {one.progress.epochs}",
        "gradients": str(metrics.epochs[-1].gradients or "") if metrics.epochs else "",
    }
    return {name: value for name, value in facts.items() if value}


def curves(epochs: Sequence[EpochMetrics], width: int = PLOT[0]) -> Text:
    """Loss and accuracy by epoch, drawn with characters: of so many columns, if that can be read."""
    import plotille  # only who looks at curves pays for it

    width = min(max(width // TICK * TICK, LEAST), PLOT[0])
    decimals = 0 if epochs[-1].epoch >= 2 * width // TICK else 1  # with fewer, ticks fall between them
    plots = []
    for name, ours, theirs in (("loss", "loss", "val_loss"), ("accuracy", "accuracy", "val_accuracy")):
        figure = plotille.Figure()
        figure.width, figure.height = width, PLOT[1]
        figure.color_mode = "names"
        figure.x_label, figure.y_label = "epoch", name
        figure.x_ticks_fkt = lambda least, _: f"{least:.{decimals}f}"
        figure.y_ticks_fkt = lambda least, _: f"{least:.4g}"
        figure.set_x_limits(min_=0, max_=epochs[-1].epoch)
        for label, field, colour, marker in (
            ("while training", ours, "cyan", "o"),
            ("on test images", theirs, "magenta", "x"),
        ):
            measured = [(one.epoch, value) for one in epochs if (value := getattr(one, field)) is not None]
            if measured:
                figure.plot(*zip(*measured, strict=True), label=label, lc=colour, marker=marker)
        plots.append(figure.show(legend=True).replace(*LABEL))
    return Text.from_ansi("\n\n".join(plots))


def comparison(found: Comparison) -> RenderableType:
    """A comparison: its sentence, its arms, and what to know before believing it."""
    table = _table("arm", "runs", "mean accuracy", "95% interval", "mean loss", "failed")
    for arm in found.arms:
        low, high = arm.accuracy.low, arm.accuracy.high
        table.add_row(
            arm.label,
            f"{arm.n} of {arm.planned}",
            _number(arm.accuracy.mean),
            "-" if low is None or high is None else f"{low:.4f} to {high:.4f}",
            _number(arm.loss.mean),
            str(arm.failed),
        )
    return Group(found.reading, "", table, *(f"Note: {note}" for note in found.notes))


def predictions(found: "Mapping[str, Prediction]") -> RenderableType:
    """What one model, or each of several, sees in a picture."""
    if len(found) == 1:
        (one,) = found.values()
        return f"{one.label}, confidence {one.confidence:.4f}, by experiment {one.experiment_id}"
    table = _table("model", "label", "confidence", "experiment")
    for model, one in found.items():
        table.add_row(model, one.label, f"{one.confidence:.4f}", one.experiment_id)
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
