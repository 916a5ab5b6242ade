"""How operations look to whoever asks: `help`, `inspect`, editors, and mocks that keep to a specification."""

import functools
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any, Unpack

from service.client.flow import Emit

__all__ = ["dressed", "seen_as"]


class _LeftOut:
    """The default of an option that the service has a default for."""

    def __repr__(self) -> str:
        return "..."


_LEFT_OUT = _LeftOut()


def seen_as(flow: Callable[..., Any], carrier: type | None, returns: Callable[[Any], Any]) -> inspect.Signature:
    """The signature of a method whose text is a flow: with the options of a `TypedDict` one by one, and with what
    `returns` makes of the type that the flow gives. `carrier` stands in for the type variable; without one it stays.
    """
    hints = typing.get_type_hints(flow)
    parameters = [
        one
        for parameter in inspect.signature(flow).parameters.values()
        for one in _spelled_out(parameter, hints.get(parameter.name, parameter.annotation))
    ]
    value = _of(_given(flow), carrier)
    return inspect.Signature(parameters, return_annotation=returns(None if value is type(None) else value))


def dressed(function: Any, flow: Callable[..., Any], seen: inspect.Signature) -> Callable[..., Any]:  # noqa: ANN401
    """The function, with a flow's name and words and with this signature. It does not lead to the flow by
    `__wrapped__`: Sphinx would look for the defaults of the options there.
    """
    functools.update_wrapper(function, flow)
    del function.__wrapped__
    told = {name: parameter.annotation for name, parameter in seen.parameters.items() if name != "self"}
    function.__annotations__ = told | {"return": seen.return_annotation}
    function.__signature__ = seen
    as_seen: Callable[..., Any] = function
    return as_seen


def _given(flow: Callable[..., Any]) -> Any:  # noqa: ANN401 - a type of any kind
    """The type of what a flow gives at its end, or of what a stream gives one after the other."""
    steps, _, value = typing.get_args(typing.get_type_hints(flow)["return"])
    emitted = [one for one in typing.get_args(steps) if typing.get_origin(one) is Emit]
    return typing.get_args(emitted[0])[0] if emitted else value


def _spelled_out(parameter: inspect.Parameter, hint: Any) -> Iterator[inspect.Parameter]:  # noqa: ANN401 - see above
    if typing.get_origin(hint) is not Unpack:
        yield parameter.replace(annotation=hint)
        return
    (options,) = typing.get_args(hint)
    for name, kind in typing.get_type_hints(options).items():
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_LEFT_OUT, annotation=kind)


def _of(value: Any, carrier: type | None) -> Any:  # noqa: ANN401 - see above
    """A type with a carrier for its variable."""
    return value if carrier is None or not getattr(value, "__parameters__", ()) else value[carrier]
