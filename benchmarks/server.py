"""epochd's API with one more endpoint, which reads the body and returns a one-key dict: the most that the same
server can do.

Usage: python -m benchmarks.server PORT
"""

import sys

import uvicorn
from fastapi import FastAPI, Request

from service.main import create


def app() -> FastAPI:
    """The API and the empty endpoint."""
    api = create()

    @api.post("/empty")
    async def empty(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    # Routes are tried in their order: behind all of the API's, this one would be slower than it need be.
    api.router.routes.insert(0, api.router.routes.pop())
    return api


if __name__ == "__main__":
    uvicorn.run(app(), host="127.0.0.1", port=int(sys.argv[1]), log_config=None, access_log=False)
