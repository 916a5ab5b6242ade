"""Jobs for `tests.trainers`, which behaves as an experiment's name says."""

from pathlib import Path

from service.domain.events import Alive, Event, Job, Member
from service.domain.experiment import Spec


def job(name: str, *, epochs: int = 2, attempt: int = 1, resume: bytes | None = None) -> Job:
    return stacked([name], epochs=epochs, attempt=attempt, resume=() if resume is None else (resume,))


def stacked(
    names: list[str],
    *,
    epochs: int = 2,
    attempt: int = 1,
    resume: tuple[bytes, ...] = (),
    data_dir: Path = Path("/dev/null/nowhere"),
) -> Job:
    """One job of these, which differ by their seeds. By default there is no data, and none can be put there."""
    return Job(
        members=tuple(
            Member(
                experiment_id=name,
                attempt=attempt,
                spec=Spec(activation="relu", depth=1, epochs=epochs, name=name, seed=seed),
            )
            for seed, name in enumerate(names)
        ),
        data_dir=str(data_dir),
        checkpoint_seconds=5,
        resume=resume,
    )


def kinds(events: list[Event]) -> list[type]:
    """What was said, but for signs of life: an engine may add some of its own."""
    return [type(event) for event in events if not isinstance(event, Alive)]
