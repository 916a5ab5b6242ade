"""Where requests come from, and who is counted for them."""

import ipaddress
from functools import lru_cache

from starlette.types import Scope

from service.domain.access import Caller

__all__ = ["caller_key", "is_address", "network_of"]

LONGEST = 45
"""An address of IPv6 that ends in one of IPv4, all of it written out."""


def caller_key(scope: Scope) -> str:
    """Names whoever is counted for a request."""
    caller: Caller | None = scope.get("state", {}).get("caller")
    if caller is not None and caller.key_id is not None:
        return f"key {caller.key_id}"
    return network_of(scope["client"][0]) if scope.get("client") else "unknown"


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """An address of IPv4; of IPv6 its /64, for whoever has one of these addresses has all of them."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, 64), strict=False))


def is_address(text: str) -> bool:
    """Whether this is an address of IPv4 or IPv6, without a zone: in one, anything may be written."""
    return len(text) <= LONGEST and "%" not in text and _is_address(text)  # what is longer would fill the cache


@lru_cache(maxsize=4096)
def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
