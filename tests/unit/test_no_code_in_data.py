"""No bytes that come from outside are ever taken for code: no pickle, in none of its forms, and no eval."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "service"
MODULES = [*sorted(PACKAGE.rglob("*.py")), *sorted((PACKAGE.parent / "migrations").rglob("*.py"))]
PICKLING = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "pandas"}
CALLS = {"eval", "exec", "compile", "__import__"}
CONNECTION = {"send", "recv"}
"""What a multiprocessing connection pickles. Ours is only ever given bytes, by `send_bytes` and `recv_bytes`."""


def names(node: ast.AST) -> Iterator[str]:
    """The packages that a node imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module.split(".")[0]


def faults(source: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        found |= PICKLING & set(names(node))
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in CALLS:
            found.add(node.func.id)
        if not isinstance(node.func, ast.Attribute):
            continue
        owner = ast.unparse(node.func.value)
        if owner in {"np", "numpy"} and node.func.attr == "load":
            allowed = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if allowed.get("allow_pickle") != "False":
                found.add("np.load")
        if "connection" in owner.lower() and node.func.attr in CONNECTION:
            found.add(f"Connection.{node.func.attr}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_nothing_unpickles_or_evaluates(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("import pickle", "pickle"),
        ("from multiprocessing import x; from marshal import loads", "marshal"),
        ("np.load(file)", "np.load"),
        ("np.load(file, allow_pickle=True)", "np.load"),
        ("self._connection.send(message)", "Connection.send"),
        ("connection.recv()", "Connection.recv"),
        ("eval(text)", "eval"),
    ],
)
def test_each_of_them_would_be_found(source: str, fault: str) -> None:
    assert faults(source) == {fault}
