"""Connections to PostgreSQL that wait for an answer only so long.

The kernel of a server that is frozen (stopped, out of memory, its disk hung) goes on acknowledging what it gets: no
keepalive notices, and no limit that the server itself would have to keep.
"""

from typing import Any

import psycopg

__all__ = ["ImpatientConnection"]


class ImpatientConnection(psycopg.Connection[Any]):
    """Gives up a server that leaves a statement unanswered, and the connection with it."""

    answer_seconds: float | None = None
    """For so long it waits for each answer; None is without end."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:  # noqa: ANN401 - the driver's
        """Run a step of the driver's protocol; every statement goes through here.

        Raises:
            psycopg.OperationalError: there was no answer in time.
        """
        if timeout is not None or self.answer_seconds is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_seconds)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status != psycopg.pq.TransactionStatus.ACTIVE:
                raise  # it answered: with an error
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer for {self.answer_seconds:g} s") from None
