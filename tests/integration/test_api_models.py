"""Models over HTTP: files whole and in parts, and the aliases that name them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.domain.experiment import Experiment, Spec
from service.store import queue
from tests.conftest import succeed
from tests.integration.conftest import Api, problem

NOBODY = "019304a2-7b1c-7d3e-8f00-0123456789ab"


def made(api: Api, onnx: bytes, accuracy: float = 0.9, dataset: str = "mnist") -> Experiment:
    spec = Spec.model_validate({"activation": "relu", "depth": 1, "priority": 1000, "dataset": dataset})
    return succeed(api.ports.database, api.ports.blobs, onnx, accuracy=accuracy, spec=spec)


def files(api: Api, experiment_id: str) -> list[Path]:
    return sorted((api.ports.settings.data_dir / "blobs" / experiment_id).glob("*"))


def test_both_files_are_given_whole_with_their_sha256(api: Api, tiny_onnx: bytes) -> None:
    experiment = made(api, tiny_onnx)
    assert experiment.model is not None
    read = api.get(f"/experiments/{experiment.id}").json()
    for format_, data in (("keras", b"keras " + experiment.id.encode()), ("onnx", tiny_onnx)):
        response = api.get(read["links"]["model"], params={"format": format_})
        assert (response.status_code, response.content) == (200, data)
        assert response.headers["etag"] == f'"{read["model"]["formats"][format_]["sha256"]}"'
        assert response.headers["content-length"] == str(read["model"]["formats"][format_]["bytes"]) == str(len(data))
        assert response.headers["accept-ranges"] == "bytes"
        assert response.headers["content-type"] == "application/octet-stream"
        assert f'{experiment.id}.{format_}"' in response.headers["content-disposition"]
    assert api.get(read["links"]["model"]).content.startswith(b"keras")


@pytest.fixture
def download(sqlite_api: Api, tiny_onnx: bytes) -> Any:
    """Asks for a file of 42 bytes, with headers."""
    path = f"/experiments/{made(sqlite_api, tiny_onnx).id}/model"

    def ask(**headers: str) -> httpx.Response:
        return sqlite_api.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return ask


def test_parts_are_given_as_asked(download: Any, subtests: pytest.Subtests) -> None:
    whole = download().content
    assert len(whole) == 42
    for asked, first, stop in (
        ("bytes=0-0", 0, 1), ("bytes=0-4", 0, 5), ("bytes=5-", 5, 42), ("bytes=41-41", 41, 42), ("bytes=-1", 41, 42),
        ("bytes=-42", 0, 42), ("bytes=-100", 0, 42), ("bytes=40-1000", 40, 42), ("bytes=0-41", 0, 42),
    ):  # fmt: skip
        with subtests.test(asked):
            response = download(range=asked)
            assert (response.status_code, response.content) == (206, whole[first:stop])
            assert response.headers["content-range"] == f"bytes {first}-{stop - 1}/42"
            assert response.headers["content-length"] == str(stop - first)
            assert response.headers["etag"] == download().headers["etag"]


def test_parts_put_together_are_the_whole(download: Any) -> None:
    parts = [download(range=f"bytes={start}-{start + 9}").content for start in range(0, 42, 10)]
    assert b"".join(parts) == download().content


def test_a_part_outside_the_file_is_told_its_length(download: Any) -> None:
    for asked in ("bytes=42-", "bytes=42-43", "bytes=1000-2000", "bytes=-0", "bytes=999999999999999999-"):
        response = download(range=asked)
        problem(response, 416, "range-not-satisfiable")
        assert response.headers["content-range"] == "bytes */42"


def test_a_range_that_is_not_understood_gives_the_whole(download: Any) -> None:
    for asked in ("", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=4-2", "bytes=0-1,5-6", "items=0-1", "0-1",
                  "bytes=--5", "bytes=" + "9" * 5000 + "-"):  # fmt: skip
        response = download(range=asked)
        assert (response.status_code, len(response.content)) == (200, 42)


def test_a_file_that_the_client_has_is_not_sent_again(download: Any) -> None:
    etag = download().headers["etag"]
    for has in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        response = download(if_none_match=has)
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", etag)
        assert download(if_none_match=has, range="bytes=0-1").status_code == 304
    for has in ('"other"', etag.strip('"'), ""):
        assert download(if_none_match=has).status_code == 200


def test_a_part_is_only_given_of_the_same_file(download: Any) -> None:
    etag = download().headers["etag"]
    assert download(range="bytes=0-4", if_range=etag).status_code == 206
    for other in ('"other"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        response = download(range="bytes=0-4", if_range=other)
        assert (response.status_code, len(response.content)) == (200, 42)
    assert download(range="bytes=99-", if_range='"other"').status_code == 200


def test_an_experiment_without_a_model_has_no_file(api: Api) -> None:
    created = api.post("/experiments", json={"activation": "relu", "depth": 1}).json()
    assert created["links"]["model"] is None
    path = f"/experiments/{created['id']}/model"
    problem(api.get(path), 409, "experiment-not-finished")
    with api.ports.database.write() as session:
        claimed = queue.claim(session, owner="test", lease_seconds=60)
        assert claimed is not None
        queue.fail(session, claimed, "out_of_memory", "too large")
    problem(api.get(path), 404, "model-not-found")


def test_a_damaged_or_lost_file_is_not_given(api: Api, tiny_onnx: bytes) -> None:
    experiment = made(api, tiny_onnx)
    for file in files(api, experiment.id):
        file.write_bytes(b"keras, or nearly")
    for format_ in ("keras", "onnx"):
        problem(api.get(f"/experiments/{experiment.id}/model?format={format_}"), 503, "blob-corrupt")
    for file in files(api, experiment.id):
        file.unlink()
    for format_ in ("keras", "onnx"):
        problem(api.get(f"/experiments/{experiment.id}/model?format={format_}"), 410, "blob-missing")


def test_aliases_are_set_moved_listed_and_deleted(api: Api, tiny_onnx: bytes) -> None:
    assert api.get("/models").json() == {"data": []}
    one, other = made(api, tiny_onnx, 0.5), made(api, tiny_onnx, 0.7)
    first = api.put("/models/mine", json={"experiment_id": one.id})
    assert first.status_code == 201
    assert first.json().items() >= {"alias": "mine", "experiment_id": one.id, "computed": False}.items()
    again = api.put("/models/mine", json={"experiment_id": one.id})
    assert again.status_code == 200
    moved = api.put("/models/mine", json={"experiment_id": other.id})
    assert (moved.status_code, moved.json()["experiment_id"]) == (200, other.id)
    assert moved.json()["updated_at"] >= first.json()["updated_at"]
    assert [alias["alias"] for alias in api.get("/models").json()["data"]] == ["best", "mine"]
    deleted = api.delete("/models/mine")
    assert (deleted.status_code, deleted.content) == (204, b"")
    problem(api.delete("/models/mine"), 404, "alias-not-found")
    assert api.get(f"/experiments/{other.id}/model").status_code == 200


def test_the_computed_aliases_are_listed_first_and_cannot_be_set(api: Api, tiny_onnx: bytes) -> None:
    low, high = made(api, tiny_onnx, 0.5), made(api, tiny_onnx, 0.7)
    clothes = made(api, tiny_onnx, 0.9, "fashion_mnist")
    api.put("/models/another", json={"experiment_id": low.id}).raise_for_status()
    found = api.get("/models").json()["data"]
    assert [(alias["alias"], alias["experiment_id"], alias["computed"]) for alias in found] == [
        ("best", high.id, True),
        ("best-fashion_mnist", clothes.id, True),
        ("another", low.id, False),
    ]
    assert [alias["test_accuracy"] for alias in found] == [0.7, 0.9, 0.5]
    assert found[0]["updated_at"] is None
    problem(api.put(f"/models/{high.id}", json={"experiment_id": low.id}), 409, "reserved-alias")
    for name in ("best", "best-fashion_mnist", "best-anything"):
        problem(api.put(f"/models/{name}", json={"experiment_id": low.id}), 409, "reserved-alias")
        problem(api.delete(f"/models/{name}"), 409, "reserved-alias")
    assert api.get("/models").json()["data"] == found


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "9", "a" * 64, "best2", "bests"])
def test_names_are_letters_digits_and_three_signs(sqlite_api: Api, tiny_onnx: bytes, name: str) -> None:
    target = {"experiment_id": made(sqlite_api, tiny_onnx).id}
    assert sqlite_api.put(f"/models/{name}", json=target).status_code == 201
    assert sqlite_api.delete(f"/models/{name}").status_code == 204


@pytest.mark.parametrize("name", ["-", ".a", "_a", "a%20b", "a" * 65, "%00", "%C3%A4", "a%0A", "'", "%FF"])
def test_other_names_are_refused(empty_api: Api, name: str) -> None:
    found = problem(empty_api.put(f"/models/{name}", json={"experiment_id": NOBODY}), 422, "invalid-request")
    assert found["errors"][0]["location"] == "path"


@pytest.mark.parametrize("body", [{}, {"experiment_id": None}, {"experiment_id": "x"}, {"experiment_id": 7},
                                  {"experiment_id": NOBODY, "more": 1}, [], {"experiment_id": ""}])  # fmt: skip
def test_a_target_that_cannot_be_meant_is_refused(empty_api: Api, body: object) -> None:
    assert problem(empty_api.put("/models/mine", json=body), 422)["errors"][0]["location"] == "body"


def test_an_alias_needs_a_model(api: Api) -> None:
    queued = api.post("/experiments", json={"activation": "relu", "depth": 1}).json()["id"]
    problem(api.put("/models/mine", json={"experiment_id": NOBODY}), 404, "experiment-not-found")
    problem(api.put("/models/mine", json={"experiment_id": queued}), 409, "experiment-not-finished")
    api.post(f"/experiments/{queued}/cancel").raise_for_status()
    problem(api.put("/models/mine", json={"experiment_id": queued}), 404, "model-not-found")
    assert api.get("/models").json() == {"data": []}


def test_an_experiment_with_an_alias_is_kept_and_without_one_goes_with_its_files(api: Api, tiny_onnx: bytes) -> None:
    experiment, neighbour = made(api, tiny_onnx), made(api, tiny_onnx)
    path = f"/experiments/{experiment.id}"
    for name in ("one", "two"):
        api.put(f"/models/{name}", json={"experiment_id": experiment.id}).raise_for_status()
    assert "one, two" in problem(api.delete(path), 409, "experiment-has-alias")["detail"]
    assert len(files(api, experiment.id)) == 2
    api.delete("/models/one").raise_for_status()
    problem(api.delete(path), 409, "experiment-has-alias")
    api.put("/models/two", json={"experiment_id": neighbour.id}).raise_for_status()
    deleted = api.delete(path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert files(api, experiment.id) == []
    assert len(files(api, neighbour.id)) == 2
    for below in ("", "/metrics", "/model", "/events"):
        problem(api.get(path + below), 404, "experiment-not-found")
    problem(api.delete(path), 404, "experiment-not-found")


def test_of_an_alias_and_a_deletion_at_once_one_wins(api: Api, tiny_onnx: bytes) -> None:
    for _ in range(5):
        identity = made(api, tiny_onnx).id
        with ThreadPoolExecutor(2) as pool:
            put = pool.submit(api.put, "/models/mine", json={"experiment_id": identity})
            deleted = pool.submit(api.delete, f"/experiments/{identity}")
            outcome = put.result().status_code, deleted.result().status_code
        assert outcome in {(201, 409), (200, 409), (404, 204)}
        if outcome[1] == 409:
            assert len(files(api, identity)) == 2
            api.delete("/models/mine").raise_for_status()


def test_one_alias_set_by_many_at_once_is_new_once(api: Api, tiny_onnx: bytes) -> None:
    targets = [made(api, tiny_onnx).id for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        put = list(pool.map(lambda target: api.put("/models/mine", json={"experiment_id": target}), targets))
    assert sorted(response.status_code for response in put) == [200] * 7 + [201]
