"""Bodies that clients send compressed (RFC 9110, 8.4)."""

import zlib

from starlette.exceptions import HTTPException
from starlette.requests import Request

from service.api.deps import ports_of
from service.errors import InvalidInput, UnsupportedMediaType

__all__ = ["read_body"]

GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The request's body as it was before the client compressed it, if it did: by `gzip` or `deflate`.

    Raises:
        UnsupportedMediaType: it is compressed in another way.
        InvalidInput: it cannot be unpacked.
        HTTPException: 413, it is larger than `max_bytes` when unpacked.
    """
    body = await request.body()
    encoding = request.headers.get("content-encoding")
    if encoding is None or encoding.lower() == "identity":
        return body
    if encoding.lower() not in {"gzip", "x-gzip", "deflate"}:
        raise UnsupportedMediaType("a compressed body is read if its Content-Encoding is gzip or deflate")
    return await ports_of(request).turns.run(_unpacked, body, max_bytes)


def _unpacked(body: bytes, max_bytes: int) -> bytes:
    unpacking = zlib.decompressobj(GZIP_OR_ZLIB)
    try:
        unpacked = unpacking.decompress(body, max_bytes + 1)
    except zlib.error:
        raise InvalidInput("the body cannot be unpacked as its Content-Encoding says") from None
    if len(unpacked) > max_bytes:
        raise HTTPException(413, f"the body is larger than {max_bytes:,} bytes when unpacked, the most that is read")
    if not unpacking.eof or unpacking.unused_data:
        raise InvalidInput("the packed body is cut short, or goes on behind its end")
    return unpacked
