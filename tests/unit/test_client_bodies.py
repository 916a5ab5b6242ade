"""What a client writes as JSON, and what it refuses to."""

import json
import math
from collections import deque
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from service.client import InvalidRequest
from service.client.bodies import as_json


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.bool_(True), True),
        (np.arange(1, 3), [1, 2]),
        ([np.array([1, 2]), np.array([3, 4])], [[1, 2], [3, 4]]),
        (range(1, 4), [1, 2, 3]),
        ({"b", "a"}, ["a", "b"]),
        (frozenset({np.int64(1)}), [1]),
        ({10, 9, 1}, [1, 9, 10]),
        ({"a", 1}, ["a", 1]),
        ({"depth": {np.int64(2)}}, {"depth": [2]}),
        (MappingProxyType({"a": (1,)}), {"a": [1]}),
        ("数字 é", "数字 é"),
        (None, None),
    ],
)
def test_what_holds_numbers_and_words_is_written_as_them(value: Any, written: Any) -> None:
    assert json.loads(as_json(value)) == written


@pytest.mark.parametrize(
    ("value", "pointer", "why"),
    [
        ({"learning_rate": math.nan}, "/learning_rate", "nan is no number"),
        ({"grid": {"learning_rate": [0.1, math.inf]}}, "/grid/learning_rate/1", "inf is no number"),
        ({"images": np.full((1, 2), np.nan)}, "/images/0/0", "nan is no number"),
        ({"name": "\ud800"}, "/name", "half a character"),
        ({"tags": [object()]}, "/tags/0", "object is nothing that JSON can carry"),
        ({"depth": 1j}, "/depth", "complex is nothing"),
        ({"depth": {1j, 2j}}, "/depth/0", "complex is nothing"),
        ({"depth": np.complex64(1)}, "/depth", "complex is nothing"),
        ({"at": np.datetime64("2020-01-01", "s")}, "/at", "datetime is nothing"),
        ({"tags": deque()}, "/tags", "deque is nothing"),
    ],
)
def test_what_json_cannot_carry_is_refused_and_the_error_says_where(value: Any, pointer: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as raised:
        as_json(value)
    assert [(one.pointer, one.location) for one in raised.value.errors] == [(pointer, "body")]


def test_what_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        as_json(endless)
