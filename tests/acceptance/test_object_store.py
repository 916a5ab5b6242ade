"""The whole service with its models in an object store: a real server that speaks S3 over HTTP."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from service import datasets
from service.store.blobs import Blobs
from tests.acceptance.conftest import fails, run, serving
from tests.object_server import BUCKET, SECRET, ObjectServer


def test_an_experiment_is_trained_downloaded_and_predicted_with(
    data_dir: Path, postgres_url: str, s3_url: str, mnist: datasets.Arrays
) -> None:
    where = {"EPOCHD_BLOB_URL": s3_url, "EPOCHD_DATABASE_URL": postgres_url}
    with serving(data_dir, EPOCHD_CHECKPOINT_SECONDS="0", **where) as service:
        found = service.succeeded(service.create(activation="relu", depth=1, epochs=3)["id"])
        for kind, file in found["model"]["formats"].items():
            data = service.http.get(f"/experiments/{found['id']}/model", params={"format": kind}).raise_for_status()
            assert hashlib.sha256(data.content).hexdigest() == file["sha256"]
        named = {file["sha256"] for file in found["model"]["formats"].values()}
    with serving(data_dir, "--no-worker", **where) as service:  # which has no model in memory
        answer = service.http.post("/predict", json={"images": mnist.x_test[:500].tolist()}).raise_for_status().json()
        digits = np.array([prediction["digit"] for prediction in answer["predictions"]])
        assert (digits == mnist.y_test[:500]).mean() > 0.85
    assert not (data_dir / "blobs").exists()
    blobs = Blobs(s3_url)
    assert {blob.key for blob in blobs.list()} == {(found["id"], one) for one in named}  # checkpoints are gone

    garbage = blobs.put(found["id"], b"left behind")
    options = ("--data-dir", str(data_dir))
    told = run("db", "gc", *options, "--older-than", "0h", "--json", cwd=data_dir, **where)
    assert [one["sha256"] for one in json.loads(told.stdout)["garbage"]] == [garbage]
    told = run("db", "check", *options, cwd=data_dir, **where)
    assert told.stdout == "2 files checked: 0 missing, 0 damaged, 0 orphaned\n"


def test_training_survives_the_death_of_the_store(data_dir: Path, s3_url: str, object_server: ObjectServer) -> None:
    with serving(data_dir, EPOCHD_BLOB_URL=s3_url, EPOCHD_CHECKPOINT_SECONDS="0") as service:
        created = service.create(activation="relu", depth=1, epochs=8)
        service.until(created["id"], lambda body: body["progress"]["epoch"] >= 2)
        object_server.kill()
        assert service.http.get("/health/ready").status_code == 200
        assert service.get(created["id"])["status"] == "running"
        object_server.start()
        found = service.succeeded(created["id"])
        assert found["attempt"] == 1
        service.http.get(f"/experiments/{found['id']}/model").raise_for_status()


def test_a_model_in_a_store_that_is_away_is_told_from_one_that_is_gone(
    data_dir: Path, s3_url: str, object_server: ObjectServer
) -> None:
    with serving(data_dir, EPOCHD_BLOB_URL=s3_url) as service:
        found = service.succeeded(service.create(activation="relu", depth=1, epochs=1)["id"])
        path = f"/experiments/{found['id']}/model"
        object_server.kill()
        try:
            answer = service.http.get(path)
        finally:
            object_server.start()
        assert answer.status_code == 503
        assert "the blob store cannot be read: it does not answer" in answer.json()["detail"]
        service.http.get(path).raise_for_status()
        Blobs(s3_url).delete(found["id"], found["model"]["formats"]["keras"]["sha256"])
        assert service.http.get(path).status_code == 410


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_what_cannot_use_the_store_does_not_start_and_says_why(data_dir: Path, s3_url: str, command: str) -> None:
    options = (command, "--data-dir", str(data_dir))
    quiet = {"EPOCHD_LOG_LEVEL": "warning"}
    line = fails(run(*options, cwd=data_dir, EPOCHD_BLOB_URL="s3://nowhere/models", **quiet))
    assert line.endswith("the blob store s3://nowhere cannot be used: there is no such bucket")
    refused = {"EPOCHD_BLOB_URL": s3_url, "AWS_SECRET_ACCESS_KEY": f"not-{SECRET}"}
    line = fails(run(*options, cwd=data_dir, **refused, **quiet))
    assert line.endswith(f"the blob store s3://{BUCKET} cannot be used: it answered 403 SignatureDoesNotMatch")
