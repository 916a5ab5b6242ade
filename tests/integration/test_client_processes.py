"""One client in several processes and event loops: everybody gets the answers to what they asked."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from service.client import AsyncClient, Client, Retries
from tests.integration.conftest import Api, claim, finish, record

pytestmark = [
    pytest.mark.slow,
    # On purpose: there are threads here, as there are in people's programs.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]
CHILDREN = 4
ROUNDS = 25


@pytest.fixture
def api(sqlite_api: Api) -> Api:
    return sqlite_api


def in_children(act: Callable[[int], None], children: int = CHILDREN, meanwhile: Callable[[], object] = int) -> None:
    """Do something in processes that `fork` makes, each with its number, and something else here meanwhile."""
    started = []
    for number in range(children):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                act(number)
                code = 0
            except BaseException:  # noqa: BLE001 - the exit code tells
                traceback.print_exc()
            finally:
                os._exit(code)
        started.append(child)
    try:
        meanwhile()
    finally:
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in started]
    assert codes == [0] * children


def test_processes_that_fork_made_get_the_answers_to_what_they_asked(api: Api) -> None:
    with Client(str(api.base_url), retries=Retries(times=0)) as client:
        ids = [client.train("relu", depth).id for depth in range(1, CHILDREN + 2)]

        def ask(number: int) -> None:
            assert [client.get_experiment(ids[number]).id for _ in range(ROUNDS)] == [ids[number]] * ROUNDS

        in_children(ask, meanwhile=lambda: ask(CHILDREN))
        ask(0)


def test_a_handle_goes_along(api: Api) -> None:
    with Client(str(api.base_url), retries=Retries(times=0)) as client:
        handles = [client.train("relu", depth) for depth in range(1, CHILDREN + 1)]

        def ask(number: int) -> None:
            for _ in range(ROUNDS):
                assert handles[number].refresh().spec.depth == number + 1

        in_children(ask)


def test_what_a_child_closes_stays_open_here(api: Api) -> None:
    with Client(str(api.base_url), retries=Retries(times=0)) as client:
        assert client.ready()
        before = connections(client)

        def use_and_close(number: int) -> None:
            if number % 2:
                assert client.ready()
            client.close()

        in_children(use_and_close)
        assert client.ready()
        assert connections(client) == before


def connections(client: Client) -> list[int]:
    """The file descriptors of a client's connections."""
    pool: Any = client._carrier.http._transport._pool  # type: ignore[attr-defined]
    return [one._connection._network_stream.get_extra_info("socket").fileno() for one in pool.connections]


def test_epochs_go_on_in_either_process_from_where_they_were(api: Api, tiny_onnx: bytes) -> None:
    with Client(str(api.base_url), retries=Retries(times=4, first_seconds=0.01)) as client:
        claimed = claim(api)
        for number in (1, 2):
            record(api, claimed, number)
        epochs = client.get_experiment(claimed.experiment_id).epochs()
        assert next(epochs).epoch == 1
        read, write = os.pipe()

        def go_on(_: int) -> None:
            os.read(read, 1)
            assert [one.epoch for one in epochs] == [2, 3]

        def end() -> None:
            record(api, claimed, 3)
            finish(api, claimed, tiny_onnx)
            os.write(write, b"..")
            assert [one.epoch for one in epochs] == [2, 3]

        in_children(go_on, 2, meanwhile=end)
        os.close(read)
        os.close(write)


def test_a_child_that_leaves_an_iteration_breaks_nothing_here(api: Api, tiny_onnx: bytes) -> None:
    with Client(str(api.base_url), retries=Retries(times=0)) as client:
        claimed = claim(api)
        record(api, claimed, 1)
        epochs = client.get_experiment(claimed.experiment_id).epochs()
        assert next(epochs).epoch == 1
        in_children(lambda _: epochs.close())  # type: ignore[attr-defined]
        record(api, claimed, 2)
        finish(api, claimed, tiny_onnx)
        assert [one.epoch for one in epochs] == [2]


# Event loops.


def test_an_asynchronous_client_outlives_its_event_loop(api: Api) -> None:
    """A program, since Python says of every loop that is left that its connections were not closed."""
    program = textwrap.dedent(f"""
        import asyncio
        from service.client import AsyncClient, Retries

        client = AsyncClient({str(api.base_url)!r}, retries=Retries(times=0))

        async def train():
            return (await client.train("relu", 1)).id

        async def listed():
            found = [one.id async for one in client.experiments()]
            await client.close()
            return found

        first, second = asyncio.run(train()), asyncio.run(train())
        assert asyncio.run(listed()) == [second, first]
        """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_event_loops_of_several_threads_share_a_client(api: Api) -> None:
    client = AsyncClient(str(api.base_url), retries=Retries(times=0))
    with Client(str(api.base_url)) as waiting:
        ids = [waiting.train("relu", depth).id for depth in range(1, CHILDREN + 1)]
    got: dict[str, list[str]] = {}

    async def ask(identity: str) -> None:
        got[identity] = [(await client.get_experiment(identity)).id for _ in range(ROUNDS)]
        http = client._carrier.let_go()
        client._carrier.closed = False  # the others go on
        assert http is not None
        await http.aclose()

    threads = [threading.Thread(target=asyncio.run, args=(ask(identity),)) for identity in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {identity: [identity] * ROUNDS for identity in ids}


def test_an_asynchronous_client_in_a_child_gets_its_own_answers(api: Api) -> None:
    client = AsyncClient(str(api.base_url), retries=Retries(times=0))
    with Client(str(api.base_url)) as waiting:
        ids = [waiting.train("relu", depth).id for depth in range(1, CHILDREN + 1)]

    async def ask(identity: str) -> list[str]:
        return [(await client.get_experiment(identity)).id for _ in range(ROUNDS)]

    async def parent() -> None:
        assert await ask(ids[0]) == [ids[0]] * ROUNDS

        def act(number: int) -> None:
            # What runs here is the parent's; a thread has none.
            found: list[str] = []
            thread = threading.Thread(target=lambda: found.extend(asyncio.run(ask(ids[number]))))
            thread.start()
            thread.join()
            assert found == [ids[number]] * ROUNDS

        in_children(act)
        assert await ask(ids[0]) == [ids[0]] * ROUNDS
        await client.close()

    asyncio.run(parent())
