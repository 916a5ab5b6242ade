"""Files of pictures that a client reads: open ones, endless ones, and ones that are too large to be any."""

import io
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from service.client import TooLarge
from service.client.pictures import MOST_BYTES, body, read_file


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.mark.parametrize("kind", ["str", "Path", "open", "raw", "BytesIO"])
def test_a_file_is_read_whole(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "digit.png"
    path.write_bytes(os.urandom(3_000_000))
    with path.open("rb") as opened, path.open("rb", buffering=0) as raw:
        sources: dict[str, Any] = {
            "str": str(path), "Path": path, "open": opened, "raw": raw, "BytesIO": io.BytesIO(path.read_bytes()),
        }  # fmt: skip
        assert body(sources[kind])["content"] == path.read_bytes()


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"x" * 300_000,))
    writer.start()
    assert read_file(path) == b"x" * 300_000
    writer.join()


def test_a_file_that_is_open_for_text_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "digit.png").write_text("x")
    with (tmp_path / "digit.png").open() as file, pytest.raises(TypeError, match="open it in mode 'rb'"):
        body(file)  # type: ignore[arg-type]


def test_the_largest_that_is_read(tmp_path: Path) -> None:
    assert len(read_file(sparse(tmp_path / "most", MOST_BYTES))) == MOST_BYTES
    with pytest.raises(TooLarge, match=f"more is no picture to send: it has more than {MOST_BYTES:,} bytes"):
        read_file(sparse(tmp_path / "more", MOST_BYTES + 1))


@pytest.mark.parametrize("source", ["/dev/zero", "huge"])
@pytest.mark.parametrize("opened", [False, True])
def test_of_what_has_no_end_little_is_read(tmp_path: Path, source: str, opened: bool) -> None:
    """In a process that may not have the memory for all of it."""
    path = sparse(tmp_path / "huge", 2**40) if source == "huge" else source
    program = textwrap.dedent(f"""
        import resource
        from service.client import Client, TooLarge

        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
        api = Client("http://127.0.0.1:9")
        for predict in (api.predict, lambda one: api.predict_many([one])):
            try:
                predict(open({str(path)!r}, "rb") if {opened} else {str(path)!r})
            except TooLarge as error:
                print(error)
        """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.count("is no picture to send") == 2, done.stderr
