"""What every request passes first: is it meant for this host, does a page from elsewhere send it, and who is it?"""

import contextlib
import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.addresses import is_address
from service.api.keyring import Keyring
from service.api.problems import answer
from service.api.security import COOKIE, NOBODY
from service.domain.access import Caller
from service.errors import CrossOrigin, EpochdError, NotAuthenticated, SeveralHosts, UnknownHost
from service.settings import Settings

__all__ = ["Admission", "is_loopback"]

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
COOKIE_START = f"{COOKIE}=".encode()

Headers = dict[bytes, bytes]


class Admission:
    """Refuses what must not come in, and puts `caller` into the state of the ASGI scope: a `Caller`, always. Where a
    key is asked for and none was given that is good, it has no scopes, and `refusal` beside it says why. Routes refuse
    it: what is open stays open to everybody.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hosts = _hosts(settings)
        self._origins = frozenset(origin.encode() for origin in settings.cors_origins)
        self._good_hosts: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: Headers = dict(scope["headers"])
        try:
            self._admit(scope, headers)
        except EpochdError as error:
            response = answer(Request(scope), error)
            await response(scope, receive, send)
            return
        keyring: Keyring = scope["app"].state.keyring
        state = scope.setdefault("state", {})
        if scope.get("client") and not is_address(scope["client"][0]):
            scope["client"] = None  # a proxy that is believed passed on what a client made up
        address = scope["client"][0] if scope.get("client") else None
        try:
            if keyring.stale:
                await keyring.refresh()
            asks = keyring.asks
            state["caller"] = await keyring.meet(_key(headers), address) if asks else keyring.anonymous(address)
        except EpochdError as error:
            state["caller"] = Caller(key_id=None, name=NOBODY.name, scopes=NOBODY.scopes, address=address)
            state["refusal"] = error
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope, headers: Headers) -> None:
        # The dictionary has each name once: only where there are fewer is it worth while to count.
        if len(headers) < len(scope["headers"]) and sum(name == b"host" for name, _ in scope["headers"]) > 1:
            raise SeveralHosts("a request has one Host header, and this one has several")
        host = headers.get(b"host", b"")
        # Probes ask by whatever address they know, and are told nothing that matters.
        if host not in self._good_hosts and not scope["path"].startswith("/health/"):
            self._require_host(host)
        if scope["method"] not in SAFE and (b"sec-fetch-site" in headers or b"origin" in headers):
            self._require_same_origin(host, headers.get(b"origin", b""), headers.get(b"sec-fetch-site", b""))

    def _require_host(self, host: bytes) -> None:
        """Refuse a name that is not ours: a page elsewhere may have its own name lead to this machine, to read what
        its visitors may (https://en.wikipedia.org/wiki/DNS_rebinding).

        Raises:
            UnknownHost: it is none of ours.
        """
        if not host or self._hosts is None or _is_named(_name(host), self._hosts):
            if len(self._good_hosts) < 1000:
                self._good_hosts.add(host)
            return
        raise UnknownHost(
            f"this service is not {host.decode('latin-1')!r}: its operator may allow the name by EPOCHD_ALLOWED_HOSTS"
        )

    def _require_same_origin(self, host: bytes, origin: bytes, site: bytes) -> None:
        """Refuse what a page from elsewhere has a browser send. Browsers say where a request comes from; what says
        nothing is no browser (https://pkg.go.dev/net/http#CrossOriginProtection). `site` is `Sec-Fetch-Site`.

        Raises:
            CrossOrigin: it comes from elsewhere.
        """
        if site in {b"same-origin", b"none"} or origin in self._origins:
            return
        with contextlib.suppress(ValueError):
            if not site and host and urlsplit(origin).netloc == host:
                return
        raise CrossOrigin(
            "a page from elsewhere asks: whoever runs the service may allow its origin by EPOCHD_CORS_ORIGINS"
        )


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine itself."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        name = host.lower().removesuffix(".")
        return name == "localhost" or name.endswith(".localhost")


def _key(headers: Headers) -> str:
    """The API key that a request has with it, good or not.

    Raises:
        NotAuthenticated: there is none.
    """
    authorization = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, credentials = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise NotAuthenticated("an API key is sent as Authorization: Bearer KEY")
        return credentials.strip().decode("latin-1")
    for part in headers.get(b"cookie", b"").split(b";"):
        part = part.strip()
        if part.startswith(COOKIE_START):
            return part[len(COOKIE_START) :].decode("latin-1")
    raise NotAuthenticated(
        "an API key is asked for: send it as Authorization: Bearer KEY (epochd's client and commands take it from "
        "EPOCHD_API_KEY), or sign in on the page"
    )


def _hosts(settings: Settings) -> Sequence[str] | None:
    """The names that are ours; None where any is."""
    if settings.allowed_hosts:
        names = [name.lower() for name in settings.allowed_hosts]
        return None if "*" in names else names
    return () if is_loopback(settings.host) else None


def _is_named(host: str, names: Sequence[str]) -> bool:
    """Whether a host has one of these names. This machine's own always do: nobody else can be reached by them."""
    return is_loopback(host) or any(
        host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in names
    )


def _name(host: bytes) -> str:
    """A `Host` header without its port."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.partition(":")[0].removesuffix(".")
