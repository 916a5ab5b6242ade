"""Where a service is, who asks, and which way a request takes there."""

import ipaddress
import os
import re
from typing import Any

import httpx

from service.client.errors import ApiError

__all__ = ["SERVICE", "TIMEOUT_SECONDS", "options"]

SERVICE = "http://127.0.0.1:8000"
"""Where a service listens that was started without a word about it."""
TIMEOUT_SECONDS = 30.0

KEY = re.compile(r"[!-~]+")
"""What a header can carry of a key, without a space."""


def options(url: str | None, api_key: str | None, timeout_seconds: float) -> dict[str, Any]:
    """What httpx takes for a client of a service. `EPOCHD_URL` and `EPOCHD_API_KEY` stand in for what is None.

    Raises:
        ApiError: the address is none, or the key cannot be sent.
    """
    base = _address(url or os.environ.get("EPOCHD_URL") or SERVICE)
    key = api_key or os.environ.get("EPOCHD_API_KEY")
    if key and not KEY.fullmatch(key):
        # The key itself is not told: what is told ends up in logs.
        raise ApiError("the API key cannot be sent: it has a space, a line end, or a character that is not ASCII")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {"base_url": base, "headers": headers, "timeout": timeout_seconds, **_way(base)}


def _address(url: str) -> httpx.URL:
    def refused(why: object) -> ApiError:
        return ApiError(f"{url!r} is no address of a service: {why}")

    try:
        base = httpx.URL(url)
        host = base.raw_host.decode()
        host.removesuffix(".").encode("idna")  # else it is told only when the host is looked up, as no error of ours
    except (httpx.InvalidURL, UnicodeError) as error:
        raise refused(error) from error
    if base.scheme not in {"http", "https"}:
        raise refused("it begins with http:// or https://")
    if not host.strip("."):
        raise refused("it names no host")
    if base.query or base.fragment:
        raise refused("nothing follows the path, no ? and no #")
    if "//" in base.path:
        raise refused("there is // in its path")
    return base


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
