"""Opens the store that a URL names, with limits to the wait for it, and says in plain words what it refuses."""

import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, ObjectStore, from_url

if TYPE_CHECKING:  # obstore has it for type checkers only
    from obstore.store import ClientConfig

__all__ = ["container_is_missing", "is_refused", "open_store", "why"]

CONNECT_SECONDS = 3
SILENT_SECONDS = 10
"""How long a server may send nothing. What is sent to it has this long too, a part of a file at a time."""
WHOLE_SECONDS = 600
"""How long one request may take that makes progress."""
RETRY_SECONDS = 10
"""How long a request is begun anew. The last of them may then be silent for `SILENT_SECONDS`."""

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
NO_CONTAINER = re.compile(r"NoSuchBucket|ContainerNotFound|The specified bucket does not exist")
CODE = re.compile(r"<Code>(\w{1,64})</Code>")
STATUS = re.compile(r"status code: (\d{3})")
SYSTEM = re.compile(r"([A-Z][\w ]{1,80}) \(os error \d+\)")
SIGNS = {
    "InvalidCertificate": "its certificate is not trusted",
    "dns error": "there is no such host",
    "TimedOut": "it does not answer",
    "Connect": "it does not answer",
}
METADATA = "/latest/api/token"
"""In the path of the request with which credentials are looked for last of all: those of a machine at AWS."""


def open_store(url: str) -> ObjectStore:
    """The store of a `file:`, `s3:`, `gs:` or `az:` URL. Credentials come from the environment, as obstore takes them.

    Raises:
        BaseError, ValueError, OSError: the URL is not understood.
    """
    if url.startswith("file:"):
        return LocalStore.from_url(url, mkdir=True)
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=SILENT_SECONDS),
        "timeout": timedelta(seconds=WHOLE_SECONDS),
    }
    endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), "")
    if endpoint.startswith("http://"):  # whoever writes this means it
        client["allow_http"] = True
    return from_url(
        url,
        client_options=client,
        retry_config={
            "max_retries": 1000,  # the time is the limit
            "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
            "retry_timeout": timedelta(seconds=RETRY_SECONDS),
        },
    )


def container_is_missing(error: Exception) -> bool:
    """Whether the bucket itself is not there, which obstore tells like a file that is not."""
    return NO_CONTAINER.search(str(error)) is not None


def is_refused(error: Exception) -> bool:
    """Whether the same request would be refused again, for what we are or where we look."""
    return (
        isinstance(error, PermissionDeniedError | UnauthenticatedError)
        or container_is_missing(error)
        or STATUS.findall(str(error)) in (["401"], ["403"])
        or METADATA in str(error)
    )


def why(error: BaseError | OSError) -> str:
    """In plain words, without a URL: those of some requests carry a token."""
    text = str(error)
    code = CODE.search(text)
    status = STATUS.search(text)
    if container_is_missing(error):
        return "there is no such bucket"
    if METADATA in text:
        return "there are no credentials, for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if code or status:
        return f"it answered {' '.join(found[1] for found in (status, code) if found)}"
    if system := SYSTEM.search(text):
        return system[1]
    return next((said for sign, said in SIGNS.items() if sign in text), type(error).__name__)
