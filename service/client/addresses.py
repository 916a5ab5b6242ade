"""Where a service is, who asks, and which way a request takes there."""

import ipaddress
import os
import re
from numbers import Real
from typing import Any

import httpx

from service.client.errors import InvalidRequest

__all__ = ["SERVICE", "TIMEOUT_SECONDS", "options"]

SERVICE = "http://127.0.0.1:8000"
"""Where a service listens that was started without a word about it."""
TIMEOUT_SECONDS = 30.0
LONGEST_SECONDS = 1_000_000
"""About what operating systems can wait for."""
MOST_PORT = 65_535

USER = re.compile(r"(?<=//).*@|^(?!\w+://).*@", re.DOTALL)
"""What stands before a host: a user and a password."""
HAS_USER = (
    "leave out what stands before @. A service asks for an API key (`api_key`, EPOCHD_API_KEY), and no password can be "
    "sent beside it: a proxy in front that wants one has to let requests with a key pass"
)

KEY = re.compile(r"[!-~]+")
"""What a header can carry of a key, without a space."""


def options(url: str | None, api_key: str | None, timeout_seconds: float) -> dict[str, Any]:
    """What httpx takes for a client of a service. `EPOCHD_URL` and `EPOCHD_API_KEY` stand in for what is None.

    Raises:
        InvalidRequest: the address is none, the key cannot be sent, or the time is none.
    """
    base = _address(url or os.environ.get("EPOCHD_URL") or SERVICE)
    key = _key(api_key or os.environ.get("EPOCHD_API_KEY"))
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {"base_url": base, "headers": headers, "timeout": _seconds(timeout_seconds), **_way(base)}


def _key(key: object) -> str | None:
    # The key itself is not told: what is told ends up in logs.
    if not isinstance(key, str | None):
        raise InvalidRequest(f"the API key is a text, not {type(key).__name__}")
    if key and not KEY.fullmatch(key):
        raise InvalidRequest("the API key cannot be sent: it has a space, a line end, or a character that is not ASCII")
    return key


def _seconds(seconds: object) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, Real) or not 0 < float(seconds) <= LONGEST_SECONDS:
        raise InvalidRequest(f"timeout_seconds is a number above 0, up to {LONGEST_SECONDS:,}, not {seconds!r}")
    return float(seconds)


def _address(url: object) -> httpx.URL:
    if not isinstance(url, str | httpx.URL):
        raise InvalidRequest(f"{type(url).__name__} is no address of a service: give a text such as {SERVICE}")
    url = str(url)
    try:
        base = httpx.URL(url)
        host = base.raw_host.decode()
        host.removesuffix(".").encode("idna")  # else it is told only when the host is looked up, as no error of ours
    except (httpx.InvalidURL, UnicodeError) as error:
        # Where a password has a / the error repeats a part of it.
        raise _refused(url, HAS_USER if "@" in url else error) from (None if "@" in url else error)
    if fault := _fault(base):
        raise _refused(url, fault)
    return base


def _fault(base: httpx.URL) -> str | None:
    """What is wrong with an address that can be read."""
    if base.scheme not in {"http", "https"}:
        return "it begins with http:// or https://"
    if base.userinfo:
        return HAS_USER
    if not base.host.strip("."):
        return "it names no host"
    if base.port is not None and not 0 < base.port <= MOST_PORT:
        return f"its port is a number from 1 to {MOST_PORT}"
    if base.query or base.fragment:
        return "nothing follows the path, no ? and no #"
    return "there is // in its path" if "//" in base.path else None


def _refused(url: str, why: object) -> InvalidRequest:
    """The error, without a user and a password."""
    return InvalidRequest(f"{USER.sub('...@', url)!r} is no address of a service: {why}")


def _way(base: httpx.URL) -> dict[str, Any]:
    """A proxy is elsewhere, and this machine's own addresses mean another machine there."""
    if not _of_this_machine(base.host):
        return {}
    way: dict[str, Any] = {"trust_env": False}
    return way | ({"verify": httpx.create_ssl_context()} if base.scheme == "https" else {})


def _of_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.removesuffix(".") == "localhost" or host.removesuffix(".").endswith(".localhost")
