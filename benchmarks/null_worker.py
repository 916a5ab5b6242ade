"""A real worker with a trainer that trains nothing: `python -m benchmarks.null_worker DATABASE_URL DATA_DIR`."""

import signal
import sys
import threading
from pathlib import Path

from service.engines.local import LocalEngine
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.session import Database
from service.worker import Worker

__all__: list[str] = []


def main(database_url: str, data_dir: str) -> None:
    """Work until SIGTERM."""
    settings = Settings(database_url=database_url, data_dir=Path(data_dir), slots=1, max_stack=1)
    engine = LocalEngine(data_dir=Path(data_dir), stall_seconds=60, trainer="benchmarks.null_trainer")
    worker = Worker(
        database=Database(database_url), blobs=Blobs(settings.resolved_blob_url), engine=engine, settings=settings
    )
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=worker.drain).start())
    worker.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
