"""Everything an operator can set, by `EPOCHD_*` environment variables or the command line."""

import json
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = ["Settings", "cores"]

RAYS_OWN = frozenset({"CPU", "GPU", "memory", "object_store_memory"})
RATE = r"^([1-9]\d{0,8}/(second|minute|hour|day))?$"


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseSettings):
    """Frozen, made once at start-up and passed to whoever needs it."""

    model_config = SettingsConfigDict(
        env_prefix="EPOCHD_", frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    host: str = "127.0.0.1"
    """Address to listen on. Other machines reach another than the loopback's: it needs an API key, or `insecure`."""
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
    engine: Literal["local", "ray"] = "local"
    """Where training runs: `local` is warm processes on the worker's machine; `ray` is the Ray cluster that
    `RAY_ADDRESS` names, or else the one that this machine is a node of."""
    ray_cpus: float = Field(default=1.0, ge=0)
    """CPUs that a training takes of its node of the Ray cluster."""
    ray_gpus: float = Field(default=0.0, ge=0)
    """GPUs that a training takes of its node of the Ray cluster; parts of one are allowed."""
    ray_resources: Annotated[dict[str, PositiveFloat], NoDecode] = {}
    """What else a training takes of its node of the Ray cluster, as JSON: `{"highmem": 1}`."""
    ray_autoscales: bool = False
    """Whether the Ray cluster starts nodes when work waits for them. Without, work that no node could do is refused."""
    slots: int = Field(default_factory=lambda: min(4, cores()), ge=1, le=64)
    """Experiments a worker trains at once, each on one core. Default: the number of cores, at most 4."""
    max_stack: int = Field(default=16, ge=1, le=256)
    """Most experiments that a trainer trains as one, when they differ only by their seed. 1 trains each alone."""
    stack_bytes: int = Field(default=512 * 2**20, ge=2**20)
    """About how much memory a trainer may use for experiments that it trains as one: more are split."""
    trainer_memory_bytes: int = Field(default=4 * 2**30, ge=0)
    """Most memory of a trainer process, TensorFlow's 0.7 GB among it. An experiment that needs more fails with
    `out_of_memory`. Not for the engine `ray`, which has limits of its own. 0: no limit."""
    training_cpu_seconds: float = Field(default=0.0, ge=0)
    """Most processor time of one attempt at an experiment, which then fails with `cpu_time_exceeded`. 0: no limit."""
    lease_seconds: float = Field(default=30.0, ge=1, le=3600)
    """How long a worker owns an experiment without a heartbeat. It sends one every third of this."""
    stall_seconds: float = Field(default=600.0, gt=0)
    """A trainer that says nothing for this long is killed and the experiment tried again."""
    max_attempts: int = Field(default=3, ge=1, le=100)
    """How often an experiment is started before it fails with `attempts_exhausted`. Drained work does not count.
    Whichever worker takes back the work of a dead one decides, so give all the same."""
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
    head_seconds: float = Field(default=10.0, gt=0)
    """How long a client may take to send a request's head, or to send anything on a new connection."""
    reader_seconds: float = Field(default=60.0, gt=0)
    """A client that takes nothing of an answer for this long is cut off."""
    keep_alive_seconds: int = Field(default=5, ge=1)
    """How long a connection is kept after an answer. More than the proxy in front keeps its own, where there is one."""
    model_cache: int = Field(default=64, ge=1)
    """Models kept ready for predictions; the least recently used goes first."""
    idempotency_hours: float = Field(default=24.0, gt=0)
    """How long the answer to an `Idempotency-Key` is kept."""
    # What one caller may take of it all.
    max_training_cost: int = Field(default=10**12, ge=0)
    """Most that one experiment may cost, in parameter-steps: trainable parameters times optimizer steps. A step of more
    than 1,000 images counts as one for every 1,000. The default is about a day of a core. 0: no limit."""
    max_sweep_cost: int = Field(default=10**13, ge=0)
    """Most that all experiments of one sweep may cost together, in parameter-steps. 0: no limit."""
    max_queued_per_key: int = Field(default=0, ge=0)
    """Most experiments of one API key that wait. More are refused with 429. 0: no limit."""
    training_quota: int = Field(default=0, ge=0, le=10**18)
    """What the training that one API key queues on one day (UTC) may cost, in parameter-steps. 0: no limit."""
    max_streams_per_caller: int = Field(default=100, ge=0)
    """Most event streams that one API key, or one address without a key, may have open at an API process. More are
    refused with 429. 0: no limit."""
    rate_limit: str = Field(default="", pattern=RATE)
    """Most requests of one API key, or of one address without a key, as `600/minute`: a number, and `second`, `minute`,
    `hour` or `day`. More are refused with 429. Each API process counts by itself. Empty: no limit."""
    prediction_rate_limit: str = Field(default="", pattern=RATE)
    """The same for predictions, which are then counted apart from other requests. Empty: they are requests like all
    others."""
    failed_key_rate_limit: str = Field(default="120/minute", pattern=RATE)
    """Most requests with a missing or wrong API key that one address may send, in the same form. Right keys still work
    from there. Empty: no limit."""
    trusted_proxies: str = "127.0.0.1,::1"
    """Addresses or networks of the proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed, separated by
    commas; `*` for all."""
    insecure: bool = False
    """Whether to listen for other machines before an API key was made: whoever reaches the port may do everything."""
    allowed_hosts: Annotated[list[str], NoDecode] = []
    """Names by which the service may be asked for, as JSON: `["epochd.example.org", "*.lab"]`. Empty: the loopback's
    names while it listens there, and any otherwise."""
    cors_origins: Annotated[list[str], NoDecode] = []
    """Origins of pages from elsewhere that may use the API in a browser, as JSON: `["https://lab.example.org"]`."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged."""
    log_format: Literal["text", "json"] = "text"
    """How the log is written: `text` is lines for people, `json` one object a line."""
    access_log: bool = False
    """Whether every request has a line in the log. Without, it has one at the level `debug`."""
    metrics_host: str = "127.0.0.1"
    """Address at which `epochd worker` shows its metrics."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port at which `epochd worker` shows its metrics; 0 shows none. Those of `epochd serve` are at its `/metrics`."""
    otel: bool = False
    """Whether traces are sent by OpenTelemetry, as the `OTEL_*` variables say. Needs the extra `otel`."""

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, level: object) -> object:
        return level.lower() if isinstance(level, str) else level

    @field_validator("ray_resources", "allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _json(cls, text: object, info: ValidationInfo) -> object:
        if not isinstance(text, str):
            return text
        try:
            return json.loads(text)
        except ValueError:
            form = '{"highmem": 1}' if info.field_name == "ray_resources" else '["digits.example.org"]'
            raise ValueError(f"it has to be JSON, like {form}") from None

    # Pydantic asks the validator that is written last first.
    @field_validator("*", mode="before")
    @classmethod
    def _empty(cls, value: object, info: ValidationInfo) -> object:
        """An empty variable, as a file of them may have, means the default; of text it may mean something."""
        assert info.field_name is not None  # noqa: S101 - it is a field's
        field = cls.model_fields[info.field_name]
        if field.annotation is str or not isinstance(value, str) or value.strip():
            return value
        return field.get_default(call_default_factory=True)

    @field_validator("ray_resources")
    @classmethod
    def _custom(cls, resources: dict[str, float]) -> dict[str, float]:
        for name, amount in resources.items():
            if name in RAYS_OWN or not name:
                raise ValueError(f"{name!r} is no name for it: CPUs and GPUs have EPOCHD_RAY_CPUS and EPOCHD_RAY_GPUS")
            if amount > 1 and not amount.is_integer():
                raise ValueError(f"{amount:g} of {name} is no amount: above 1 they are whole")
        return resources

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
        return {
            f"EPOCHD_{name.upper()}": json.dumps(value) if isinstance(value, dict | list) else str(value)
            for name, value in values.items()
        }
