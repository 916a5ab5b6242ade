"""Where a client looks for a service, and which way its requests take."""

import re
from typing import Any

import httpx
import numpy as np
import pytest

from service.client import ApiError, Client, InvalidRequest
from service.client.addresses import options


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://x", "begins with http"),
        ("nonsense", "begins with http"),
        ("127.0.0.1:8000", ""),
        ("http://[::1", ""),
        ("http://", "names no host"),
        ("http:///x", "names no host"),
        ("http://.", "names no host"),
        ("http://a..b", "label"),
        ("http://" + "a" * 70, "label"),
        ("http://a?x=1", "nothing follows the path"),
        ("http://a/#f", "nothing follows the path"),
        ("http://a//", "// in its path"),
        ("http://a" + "/b" * 50_000, "too long"),
        ("http://a:0", "a number from 1 to 65535"),
        ("http://a:65536", "a number from 1 to 65535"),
        (8000, "give a text such as"),
        (b"http://me:hunter2@a", "give a text such as"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(url: Any, why: str) -> None:
    with pytest.raises(ApiError, match=f"no address of a service: .*{re.escape(why)}") as raised:
        Client(url)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["http://a", "https://a.b.", "http://ünï.de/epochd/", "http://[::1]:9/", "http://a/@b", "http://a:65535"]
)
def test_an_address_may_have_a_path_and_any_letters(url: str) -> None:
    assert options(url, None, 1)["base_url"] == httpx.URL(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://me:hunter2@a",
        "http://me:hun/ter2@a",
        "http://me:hun#ter2@a",
        "http://me:hun@ter2@a/?x=1",
        "http://me:hun\nter2@a",
        "http://:hunter2@",
        "me:hunter2@a",
        "ftp://me:hunter2@a",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_told(url: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Client(url)
    assert "ter2" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    if url.startswith("http://"):
        assert "leave out what stands before @" in str(raised.value)


@pytest.mark.parametrize("key", [b"key", 7])
def test_a_key_that_is_no_text_is_refused(key: Any) -> None:
    with pytest.raises(InvalidRequest, match="the API key is a text, not"):
        Client("http://a", api_key=key)


@pytest.mark.parametrize("seconds", [1, 0.5, np.int64(3), np.float32(2)])
def test_a_time_is_any_number(seconds: Any) -> None:
    assert options("http://a", None, seconds)["timeout"] == float(seconds)


@pytest.mark.parametrize("seconds", [-1, 0, float("nan"), float("inf"), "3", None, True])
def test_a_time_that_is_none_is_refused(seconds: Any) -> None:
    with pytest.raises(InvalidRequest, match="timeout_seconds is a number above 0"):
        Client("http://a", timeout_seconds=seconds)


@pytest.mark.parametrize("key", ["clé", "a\nb", "a b", " ", "a\0b", "end\n"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_told(key: str) -> None:
    with pytest.raises(ApiError, match="the API key cannot be sent") as raised:
        Client("http://a", api_key=key)
    assert key not in str(raised.value).removeprefix("the API key cannot be sent: ") or key == " "


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST", "a.localhost", "[::1]"])
def test_no_proxy_is_asked_about_this_machine(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:1")  # nor is anything missed that a proxy would need
    for scheme in ("http", "https"):
        with Client(f"{scheme}://{host}:8000") as client:
            assert not client._carrier.http._mounts


def test_a_proxy_is_asked_about_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with Client("http://elsewhere") as client:
        assert client._carrier.http._mounts


@pytest.mark.parametrize(
    ("name", "value"),
    [("all_proxy", "socks5://127.0.0.1:1"), ("all_proxy", "ftp://x"), ("SSL_CERT_FILE", "/nonexist")],
)
def test_an_environment_that_cannot_be_used_is_an_error_of_the_client(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ApiError, match="in the environment cannot be used"):
        Client("https://elsewhere")
