"""Why nobody answered, in words for people, and whether that can pass."""

import os
import socket
import ssl
from collections.abc import Iterator

import httpx

__all__ = ["lasts", "reason"]

UNKNOWN = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
"""What is said of a host name that nobody has, and not of one that cannot be looked up just now."""
NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL"}
"""OpenSSL's names for an answer that is none of TLS."""
CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""Connections that broke, and no words of TLS."""


def reason(error: Exception) -> str:
    """Why there was no answer."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and (words := _by_the_system(cause)):
            return words
    if isinstance(error, httpx.TimeoutException):
        return _too_late(error)
    if isinstance(error, httpx.RemoteProtocolError) and "disconnected" in str(error):
        return "the connection was closed without an answer"
    if isinstance(error, httpx.ProxyError):
        return f"the proxy of the environment says {error}"
    if isinstance(error, httpx.HTTPError):
        return str(error) or "the connection broke"
    return type(error).__name__


def lasts(error: Exception) -> bool:
    """Whether it would be the same again: there is no such host, or no TLS between the two."""
    return isinstance(error, httpx.ConnectError) and any(
        (isinstance(cause, socket.gaierror) and cause.errno in UNKNOWN)
        or (isinstance(cause, ssl.SSLError) and not isinstance(cause, CUT))
        for cause in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came of: a group of them where several addresses were tried."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for one in error.exceptions:
                yield from _causes(one)
        # httpcore hides its cause by `from None`. A context that is not hidden is what the user was at.
        error = error.__cause__ or (error.__context__ if error.__suppress_context__ else None)


def _by_the_system(error: OSError) -> str | None:
    """What the operating system or OpenSSL says; None when it says nothing."""
    match error:
        case ssl.SSLCertVerificationError():
            told = error.verify_message.rstrip(".")
            return f"the certificate is not trusted: {told}. SSL_CERT_FILE names the file of those that are"
        case ssl.SSLError() if getattr(error, "reason", None) in NO_TLS:
            return "that is no TLS: does the address begin with http:// and not https://?"
        case ssl.SSLError() if not isinstance(error, CUT):
            return f"TLS failed: {(getattr(error, 'reason', None) or str(error)).replace('_', ' ').lower()}"
        case ssl.SSLError():
            return "the connection was closed while TLS began"
        case socket.gaierror() if error.errno in UNKNOWN:
            return "the host name is not known"
        case socket.gaierror():
            return f"the host name cannot be looked up: {(error.strerror or str(error)).lower()}"
    # asyncio puts words of its own where the system's belong.
    return os.strerror(error.errno).lower() if error.errno else None


def _too_late(error: httpx.TimeoutException) -> str:
    seconds = error.request.extensions.get("timeout", {})
    match error:
        case httpx.ConnectTimeout():
            return f"no connection within {seconds.get('connect') or 0:.3g} s"
        case httpx.ReadTimeout():
            return f"nothing came for {seconds.get('read') or 0:.3g} s"
        case httpx.WriteTimeout():
            return f"nothing could be sent for {seconds.get('write') or 0:.3g} s"
    return "too many requests of this client at once"
