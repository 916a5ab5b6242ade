"""The page's files: what a browser may do with them, and what is answered where Plotly is not installed."""

import importlib.util

import pytest

from tests.integration.conftest import Api, problem


def test_the_policy_lets_nothing_in_from_elsewhere(api: Api) -> None:
    headers = api.get("/").headers
    rules = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert rules["default-src"] == rules["frame-ancestors"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert "http" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_the_page_and_its_modules_are_asked_for_again_and_not_sent_again(api: Api) -> None:
    for path in ("/", "/assets/web/app.js", "/assets/web/views/draw.js", "/assets/plotly.min.js"):
        answer = api.get(path)
        assert answer.headers["cache-control"] == "no-cache", path
    again = api.get("/assets/web/app.js", headers={"If-None-Match": api.get("/assets/web/app.js").headers["etag"]})
    assert again.status_code == 304


def test_plotly_comes_from_its_wheel(api: Api) -> None:
    answer = api.get("/assets/plotly.min.js")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert b"plotly.js v" in answer.content[:200]


def test_without_plotly_the_page_is_served_and_the_answer_says_how_to_install_it(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = problem(api.get("/assets/plotly.min.js"), 501)
    assert "pip install 'epochd[page]'" in found["detail"]
    assert api.get("/").status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/assets/web/app.js", "/assets/docs/redoc.standalone.js", "/assets/plotly.min.js"]
)
@pytest.mark.parametrize("wanted", ["", "bytes", "bytes=9-1", "bytes=a-b", f"bytes={10**9}-", "bytes=0-1,2-3"])
def test_files_of_pages_are_sent_whole_whatever_part_is_asked_for(empty_api: Api, path: str, wanted: str) -> None:
    whole = empty_api.get(path)
    part = empty_api.get(path, headers={"Range": wanted})
    assert part.status_code == 200, part.text
    assert part.content == whole.content
    assert whole.headers["accept-ranges"] == "none"
