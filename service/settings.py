"""Everything an operator can set, by `EPOCHD_*` environment variables or the command line."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings", "cores"]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseSettings):
    """Frozen, made once at start-up and passed to whoever needs it."""

    model_config = SettingsConfigDict(env_prefix="EPOCHD_", frozen=True, extra="forbid", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address to listen on. There is no authentication yet: keep it on loopback."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    processes: int = Field(default=1, ge=1, le=64)
    """API processes that share the port, to answer predictions on as many cores."""
    data_dir: Path = Path("epochd-data")
    """Folder of the SQLite database, the blobs and the datasets."""
    database_url: str = ""
    """`sqlite:///path` or `postgresql://user:password@host/database`. Empty: `epochd.sqlite3` in the data folder."""
    blob_url: str = ""
    """Where models and checkpoints are kept: `file:///path`, `s3://`, `gs://` or `az://`.
    Empty: `blobs` in the data folder."""
    mnist_path: Path | None = None
    """A file (`.npz`) or folder (IDX, gzipped or not) to take MNIST from, instead of the network."""
    fashion_mnist_path: Path | None = None
    """The same for Fashion-MNIST."""
    engine: Literal["local"] = "local"
    """Where training runs: `local` is warm processes on the worker's machine."""
    slots: int = Field(default_factory=lambda: min(4, cores()), ge=1, le=64)
    """Experiments a worker trains at once, each on one core. Default: the number of cores, at most 4."""
    max_stack: int = Field(default=16, ge=1, le=256)
    """Most experiments that a trainer trains as one, when they differ only by their seed. 1 trains each alone."""
    stack_bytes: int = Field(default=512 * 2**20, ge=2**20)
    """About how much memory a trainer may use for experiments that it trains as one: more are split."""
    lease_seconds: float = Field(default=30.0, ge=1, le=3600)
    """How long a worker owns an experiment without a heartbeat. It sends one every third of this."""
    stall_seconds: float = Field(default=600.0, gt=0)
    """A trainer that says nothing for this long is killed and the experiment tried again."""
    max_attempts: int = Field(default=3, ge=1, le=100)
    """How often an experiment is started before it fails with `attempts_exhausted`. Drained work does not count."""
    max_queued: int = Field(default=10_000, ge=1)
    """Most experiments that wait. More are refused with 429 until some have begun."""
    max_sweep: int = Field(default=10_000, ge=1)
    """Most experiments of one sweep. No sweep is larger than `max_queued` either."""
    checkpoint_seconds: float = Field(default=5.0, ge=0)
    """Least time between two checkpoints of an experiment; 0 makes one after every epoch."""
    poll_seconds: float = Field(default=0.1, gt=0, le=60)
    """How often an idle worker looks for work, and how often an event stream looks for events."""
    cancel_grace_seconds: float = Field(default=2.0, ge=0)
    """How long a cancelled trainer may take to stop before it is killed."""
    drain_seconds: float = Field(default=8.0, ge=0)
    """How long a stopping worker waits for checkpoints before it kills its trainers."""
    max_body_bytes: int = Field(default=10 * 2**20, ge=1024)
    """Largest request body."""
    max_parameters: int = Field(default=20_000_000, ge=1)
    """Largest network that is accepted, in trainable parameters."""
    max_image_pixels: int = Field(default=40_000_000, ge=784)
    """Largest picture that is decoded, in pixels."""
    max_images: int = Field(default=1000, ge=1)
    """Most images in one prediction request."""
    max_waiting: int = Field(default=64, ge=0)
    """Most predictions of pictures or many images that wait for a core. More are refused with 503 at once."""
    max_connections: int = Field(default=1000, ge=1)
    """Most connections of an API process. Requests on more of them are refused with 503 at once."""
    body_seconds: float = Field(default=30.0, gt=0)
    """How long a client may take to send a request's body before it is refused with 408."""
    model_cache: int = Field(default=64, ge=1)
    """Models kept ready for predictions; the least recently used goes first."""
    idempotency_hours: float = Field(default=24.0, gt=0)
    """How long the answer to an `Idempotency-Key` is kept."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged."""

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, level: object) -> object:
        return level.lower() if isinstance(level, str) else level

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @property
    def datasets_dir(self) -> Path:
        """Folder of the verified datasets."""
        return self.data_dir / "datasets"

    @property
    def resolved_database_url(self) -> str:
        """The database's URL with its default filled in."""
        return self.database_url or f"sqlite:///{self.data_dir / 'epochd.sqlite3'}"

    @property
    def resolved_blob_url(self) -> str:
        """The blob store's URL with its default filled in."""
        return self.blob_url or (self.data_dir / "blobs").as_uri()

    def as_environment(self) -> dict[str, str]:
        """The same settings as environment variables, for a child process."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {f"EPOCHD_{name.upper()}": str(value) for name, value in values.items()}
