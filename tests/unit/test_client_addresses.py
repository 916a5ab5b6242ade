"""Where a client looks for a service, and which way its requests take."""

import re

import httpx
import pytest

from service.client import ApiError, Client
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
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(ApiError, match=f"no address of a service: .*{re.escape(why)}"):
        Client(url)


@pytest.mark.parametrize("url", ["http://a", "https://a.b.", "http://ünï.de/epochd/", "http://u:p@[::1]:9/"])
def test_an_address_may_have_a_path_and_any_letters(url: str) -> None:
    assert options(url, None, 1)["base_url"] == httpx.URL(url)


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
