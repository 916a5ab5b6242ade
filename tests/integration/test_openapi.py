"""The API describes itself: completely, with examples that are accepted, and without the internet."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.settings import Settings
from tests.conftest import succeed
from tests.integration.conftest import Api, problem, serving

PAGES = ["/", "/docs", "/redoc"]
NO_INPUT = {("GET", "/health/live")}


@pytest.fixture(scope="module")
def model_api(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: bytes) -> Iterator[Api]:
    """An API with a model, that a whole module may change."""
    with serving(Settings(data_dir=tmp_path_factory.mktemp("openapi"))) as api:
        succeed(api.ports.database, api.ports.blobs, tiny_onnx)
        yield api


@pytest.fixture(scope="module")
def described(model_api: Api) -> dict[str, Any]:
    found: dict[str, Any] = model_api.get("/openapi.json").raise_for_status().json()
    return found


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_operation_says_what_it_does(described: dict[str, Any]) -> None:
    tags = {tag["name"]: tag["description"] for tag in described["tags"]}
    names = [operation["operationId"] for _, _, operation in operations(described)]
    assert len(set(names)) == len(names) >= 15
    for method, path, operation in operations(described):
        assert 5 < len(operation["summary"]) < 60, (method, path)
        assert len(operation["description"]) > 20, (method, path)
        assert operation["tags"][0] in tags, (method, path)
        success = [status for status in operation["responses"] if status.startswith("2")]
        assert success, (method, path)


def test_every_error_is_a_problem(described: dict[str, Any]) -> None:
    assert {"type", "title", "status", "detail", "instance", "error", "request_id", "errors"} == set(
        described["components"]["schemas"]["Problem"]["properties"]
    )
    for method, path, operation in operations(described):
        errors = {status: answer for status, answer in operation["responses"].items() if status >= "4"}
        assert {"422", "503"} <= errors.keys() or (method, path) in NO_INPUT
        assert ("404" in errors) >= ("{" in path)
        assert ("413" in errors) >= ("requestBody" in operation)
        for status, answer in errors.items():
            reference = {"schema": {"$ref": "#/components/schemas/Problem"}}
            assert answer["content"] == {"application/problem+json": reference}, (method, path, status)
            assert answer["description"]


def test_nothing_is_described_that_is_not_used(described: dict[str, Any]) -> None:
    used = set(re.findall(r"#/components/schemas/(\w+)", str(described)))
    assert used == set(described["components"]["schemas"])


def test_every_parameter_and_field_of_a_spec_is_explained(described: dict[str, Any]) -> None:
    for name, field in described["components"]["schemas"]["Spec"]["properties"].items():
        assert field.get("description"), name


def examples(described: dict[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    """Method, path, media type and value of every example of a body."""
    for method, path, operation in operations(described):
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            schema = content.get("schema", {})
            if "$ref" in schema:
                schema = described["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
            values = [example["value"] for example in content.get("examples", {}).values()]
            for value in values + schema.get("examples", []):
                yield method, path, media_type, value


def test_every_example_of_a_body_is_accepted(model_api: Api, described: dict[str, Any]) -> None:
    model = model_api.get("/models").json()["data"][0]["experiment_id"]
    sent = set()
    for method, path, media_type, value in examples(described):
        assert media_type == "application/json"
        body = value | {"experiment_id": model} if "experiment_id" in value else value
        url = path.format(alias="example", model="best", version=model)
        response = model_api.request(method, url, json=body)
        assert response.is_success, (method, path, response.text)
        if body is not value:
            problem(model_api.request(method, url, json=value), 404)
        sent.add((method, path))
    with_json = {
        (method, path)
        for method, path, operation in operations(described)
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }
    assert sent == with_json - {("POST", "/session")}  # a key that is accepted is no example


def addresses(text: str) -> set[str]:
    """What a page asks for."""
    return set(re.findall(r"""(?:\b(?:src|href|url)\s*[=:]\s*|url\(\s*)["']([^"']+)["']""", text))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_and_all_it_asks_for_comes_from_here(model_api: Api, page: str) -> None:
    response = model_api.get(page)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<title>" in response.text
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", response.text) == []
    asked = addresses(response.text)
    assert len(asked) >= 3
    for address in asked:
        assert address.startswith("/")
        asset = model_api.get(urljoin(page, address))
        assert asset.status_code == 200, address
        assert asset.content
        if address.endswith(".css"):
            assert not [url for url in addresses(asset.text) if url.startswith(("http", "//"))]


def test_the_page_of_the_api_is_linked_from_the_front(model_api: Api) -> None:
    assert {"/docs", "/redoc"} <= addresses(model_api.get("/").text)


CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_whatever_is_sent_the_answer_is_one_that_was_described(
    model_api: Api, mode: GenerationMode, subtests: pytest.Subtests
) -> None:
    schema = schemathesis.openapi.from_url(f"{model_api.base_url}/openapi.json")
    known = model_api.get("/models").json()["data"][0]["experiment_id"]
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def send(case: Any) -> None:
            if case.method == "GET" and "experiment_id" in case.path_parameters:
                case.path_parameters["experiment_id"] = known  # else all that is ever seen is 404
            if case.method == "POST" and "model" in case.path_parameters:
                case.path_parameters |= {"model": "best"} | ({"version": known} if "{version}" in case.path else {})
            case.call_and_validate(checks=CHECKS)

        with subtests.test(operation.label), contextlib.suppress(Unsatisfiable):  # nothing can be wrong with no input
            send()
