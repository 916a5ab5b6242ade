"""HEAD answers as GET does, without the body; a path with one slash too many is no other path."""

import pytest

from tests.conftest import succeed
from tests.integration.conftest import Api


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/experiments", "/openapi.json", "/docs", "/"])
def test_head_answers_as_get_without_the_body(sqlite_api: Api, path: str) -> None:
    head, get = sqlite_api.head(path), sqlite_api.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]
    assert head.headers["content-type"] == get.headers["content-type"]


def test_head_of_a_model_tells_its_size_and_hash(sqlite_api: Api, tiny_onnx: bytes) -> None:
    made = succeed(sqlite_api.ports.database, sqlite_api.ports.blobs, tiny_onnx)
    assert made.model is not None
    head = sqlite_api.head(f"/experiments/{made.id}/model", params={"format": "onnx"})
    assert head.headers["content-length"] == str(len(tiny_onnx))
    assert head.headers["etag"] == f'"{made.model.formats["onnx"].sha256}"'


def test_head_of_nothing_is_404(sqlite_api: Api) -> None:
    assert sqlite_api.head("/nothing").status_code == 404


def test_a_slash_too_many_is_a_problem_and_no_redirect(sqlite_api: Api) -> None:
    answer = sqlite_api.get("/experiments/")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_one_alias_is_read_alone(sqlite_api: Api, tiny_onnx: bytes) -> None:
    assert sqlite_api.get("/models/best").status_code == 404
    made = succeed(sqlite_api.ports.database, sqlite_api.ports.blobs, tiny_onnx)
    assert sqlite_api.get("/models/best").json()["experiment_id"] == made.id
    assert sqlite_api.get("/models/other").status_code == 404
