"""Work off the event loop: so much at once, a little that waits, and a refusal at once for the rest."""

import asyncio
import threading

import pytest

from service.api.turns import Turns
from service.errors import Overloaded


def test_what_is_too_much_is_refused_at_once_and_the_rest_is_done() -> None:
    async def act() -> None:
        turns, begun, go = Turns(at_once=2, waiting=1), threading.Semaphore(0), threading.Event()

        def work(number: int) -> int:
            begun.release()
            assert go.wait(30)
            return number

        tasks = [asyncio.create_task(turns.run(work, number)) for number in range(3)]
        await asyncio.to_thread(lambda: [begun.acquire(timeout=30) for _ in range(2)])
        for _ in range(2):
            with pytest.raises(Overloaded, match="3 predictions"):
                await turns.run(work, 9)
        go.set()
        assert await asyncio.gather(*tasks) == [0, 1, 2]
        assert await turns.run(work, 9) == 9

    asyncio.run(act())


def test_an_error_and_a_client_that_goes_give_the_place_back() -> None:
    async def act() -> None:
        turns, go = Turns(at_once=1, waiting=0), threading.Event()
        with pytest.raises(ZeroDivisionError):
            await turns.run(lambda: 1 // 0)
        gone = asyncio.create_task(turns.run(go.wait, 30))
        await asyncio.sleep(0)
        gone.cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert await turns.run(lambda: 7) == 7

    asyncio.run(act())
