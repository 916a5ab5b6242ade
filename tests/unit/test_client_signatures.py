"""What a client looks like to whoever asks: `help`, `inspect`, and mocks that keep to a specification."""

import inspect
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, get_type_hints
from unittest.mock import AsyncMock, create_autospec

import pytest

from service.client import Async, AsyncClient, Client, ExperimentHandle, Prediction, SweepHandle, Sync
from service.client.carriers import iteration, operation
from service.client.values import Filters, RequestOptions, SpecOptions

KINDS = (Client, AsyncClient, ExperimentHandle, SweepHandle)
METHODS = [
    (kind, name)
    for kind in KINDS
    for name in dir(kind)
    if isinstance(inspect.getattr_static(kind, name), operation | iteration)
]


def test_a_method_is_seen_without_self_and_with_each_option() -> None:
    seen = inspect.signature(Client("http://x").train)
    assert list(seen.parameters) == ["activation", "depth", *SpecOptions.__annotations__]
    assert seen.parameters["units"].annotation is int
    assert seen.return_annotation == ExperimentHandle[Sync]
    assert "units: int = ..." in str(seen)
    listed = inspect.signature(AsyncClient("http://x").experiments)
    assert list(listed.parameters) == ["page_size", *Filters.__annotations__]
    asked = inspect.signature(Client("http://x").request)
    assert list(asked.parameters) == ["method", "path", "repeatable", *RequestOptions.__annotations__]


@pytest.mark.parametrize(
    ("method", "returned"),
    [
        (Client("http://x").predict, Prediction),
        (Client.predict, Prediction),
        (Client.delete_alias, None),
        (Client.experiments, Iterator[ExperimentHandle[Sync]]),
        (AsyncClient("http://x").predict, Coroutine[Any, Any, Prediction]),
        (AsyncClient.delete_alias, Coroutine[Any, Any, None]),
        (AsyncClient.experiments, AsyncIterator[ExperimentHandle[Async]]),
    ],
)
def test_what_is_returned_is_what_the_kind_of_client_gives(method: Any, returned: Any) -> None:
    assert inspect.signature(method).return_annotation == returned
    assert get_type_hints(method)["return"] == (type(None) if returned is None else returned)


@pytest.mark.parametrize(("kind", "name"), METHODS, ids=lambda one: getattr(one, "__name__", one))
def test_every_method_has_its_words_and_no_inner_ones(kind: type, name: str) -> None:
    method = getattr(kind, name)
    seen = inspect.signature(method)
    assert method.__doc__
    assert method.__name__ == name
    assert next(iter(seen.parameters)) == "self"
    assert not any(inner in str(seen) for inner in ("Generator", "Unpack", "Emit", "Flow"))


def test_a_mock_keeps_to_the_specification() -> None:
    client = create_autospec(Client, instance=True)
    client.train.return_value.id = "7"
    assert client.train("relu", 3, units=4).id == "7"
    client.predict(b"x", model="mine")
    for mistaken in (
        lambda: client.train("relu"),
        lambda: client.train("relu", 3, unts=4),
        lambda: client.predict(b"x", "mine"),
        lambda: client.experiments(page=3),
    ):
        with pytest.raises(TypeError):
            mistaken()
    create_autospec(ExperimentHandle, instance=True).wait(timeout=3)
    assert isinstance(create_autospec(AsyncClient, instance=True).train, AsyncMock)


def test_a_method_that_waits_is_known_as_one() -> None:
    assert inspect.iscoroutinefunction(AsyncClient.train)
    assert inspect.iscoroutinefunction(AsyncClient("http://x").train)
    assert not inspect.iscoroutinefunction(Client.train)
    for name in ("train", "experiments"):  # as Sphinx asks
        assert not inspect.iscoroutinefunction(inspect.getattr_static(Client, name))


def test_a_bound_method_knows_whose_it_is() -> None:
    client = Client("http://x")
    assert client.train.__self__ is client  # type: ignore[attr-defined]
    assert client.train == client.train


def test_nothing_is_left_to_make_when_a_method_is_called_first() -> None:
    # Python 3.11 crashes at a signal whose handler raises while it looks at the types of a method.
    program = (
        "import typing\n"
        "import service.client\n"
        "typing.get_type_hints = None\n"
        "service.client.Client('http://x').train, service.client.AsyncClient('http://x').train\n"
        "handle = service.client.ExperimentHandle.__new__(service.client.ExperimentHandle)\n"
        "handle._carrier = service.client.Client('http://x')._carrier\n"
        "handle.wait\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
