"""The API never loads TensorFlow: it starts in about a second and stays small."""

import subprocess
import sys
from pathlib import Path

from service.settings import Settings
from service.store import schema
from service.store.blobs import Blobs
from service.store.session import Database
from tests.conftest import succeed

CHECK = """
import sys
heavy = {"tensorflow", "keras", "onnx", "tf2onnx", "h5py"}
def check(when):
    loaded = heavy & set(sys.modules)
    assert not loaded, f"{loaded} loaded after {when}"
"""

IMPORT = CHECK + 'import service.main, service.commands.application, service.demo\ncheck("import")\n'

PREDICT = (
    CHECK
    + """
import asyncio, httpx
from service.main import create

async def main():
    app = create()
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.post("/predict", json={"image": [0.5] * 784})
            assert answer.status_code == 200, answer.text
            assert len(answer.json()["predictions"][0]["probabilities"]) == 10
            assert (await client.get("/openapi.json")).status_code == 200

asyncio.run(main())
check("a prediction")
"""
)


def run(program: str, data_dir: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"EPOCHD_DATA_DIR": str(data_dir), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_service_loads_no_tensorflow(tmp_path: Path) -> None:
    run(IMPORT, tmp_path)


def test_a_served_prediction_loads_no_tensorflow(tmp_path: Path, tiny_onnx: bytes) -> None:
    settings = Settings(data_dir=tmp_path)
    database = Database(settings.resolved_database_url)
    schema.upgrade(database)
    succeed(database, Blobs(settings.resolved_blob_url), tiny_onnx)
    database.close()
    run(PREDICT, tmp_path)
