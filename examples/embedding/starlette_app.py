"""A node inside of a Starlette application: it starts and stops with the application's lifespan.

    pip install gossip-grpc starlette uvicorn
    uvicorn starlette_app:app --port 8000
    curl http://127.0.0.1:8000/hits

The settings are the node's variables (GOSSIP_...), as in fastapi_app.py.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gossip_grpc import Node
from gossip_grpc.config import load


class State(TypedDict):
    node: Node


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    config = load(flags={}, environ=os.environ, file=None).config
    async with Node(config) as node:  # if this raises, the server says why and ends
        await node.wait_ready()
        yield {"node": node}


async def hits(request: Request) -> JSONResponse:
    node: Node = request.state.node
    return JSONResponse({"hits": await node.counter.add("hits", 1)})


async def members(request: Request) -> JSONResponse:
    node: Node = request.state.node
    return JSONResponse({member.node_id: member.status for member in await node.members()})


app = Starlette(routes=[Route("/hits", hits), Route("/members", members)], lifespan=lifespan)
