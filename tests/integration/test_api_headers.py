"""What every answer tells browsers, whatever it is."""

import base64
import hashlib
import re

import pytest

from service.settings import Settings
from tests.integration.conftest import Api, problem

ANSWERS = [
    ("GET", "/health/live", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/experiments", 200),
    ("HEAD", "/experiments", 200),
    ("GET", "/nope", 404),
    ("PUT", "/experiments", 405),
    ("POST", "/experiments", 422),
    ("POST", "/predict", 404),
    ("GET", "/assets/web/app.js", 200),
    ("GET", "/assets/nope", 404),
]


def rules(policy: str) -> dict[str, list[str]]:
    return {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_every_answer_lets_a_browser_do_nothing_with_it(empty_api: Api, method: str, path: str, status: int) -> None:
    answer = empty_api.request(method, path)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "strict-transport-security" not in answer.headers
    assert (answer.headers.get("cache-control") == "no-store") != path.startswith("/assets/")


def test_a_body_too_large_and_an_unexpected_error_have_them_too(
    sqlite_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = sqlite_api.post("/experiments", content=b" " * (Settings.model_fields["max_body_bytes"].default + 1))
    problem(large, 413)
    monkeypatch.setattr("service.store.experiments.get", lambda *_: 1 / 0)
    broken = sqlite_api.get("/experiments/01a20f00-0000-7000-8000-000000000000")
    problem(broken, 500)
    for answer in (large, broken):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc"])
def test_a_page_runs_what_the_service_wrote_and_nothing_else(empty_api: Api, path: str) -> None:
    answer = empty_api.get(path)
    found = rules(answer.headers["content-security-policy"])
    assert found["default-src"] == found["frame-ancestors"] == found["base-uri"] == ["'none'"]
    assert found["connect-src"] == ["'self'"]
    inline = [
        hashlib.sha256(text.encode()).digest() for text in re.findall(r"<script>(.*?)</script>", answer.text, re.S)
    ]
    hashes = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in inline]
    assert found["script-src"] == ["'self'", *hashes]
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert "camera=()" in answer.headers["permissions-policy"]
    for name in ("content-security-policy", "x-content-type-options", "referrer-policy"):
        assert len(answer.headers.get_list(name)) == 1


def test_encryption_that_a_trusted_proxy_ends_is_kept_to(empty_api: Api) -> None:
    encrypted = empty_api.get("/health/live", headers={"X-Forwarded-Proto": "https"})
    assert encrypted.headers["strict-transport-security"].startswith("max-age=31536000")
    assert "content-security-policy" in empty_api.get("/", headers={"X-Forwarded-Proto": "https"}).headers
