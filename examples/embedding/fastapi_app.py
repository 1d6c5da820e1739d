"""A node inside of a FastAPI application: it starts and stops with the application's lifespan.

    pip install gossip-grpc fastapi uvicorn
    uvicorn fastapi_app:app --port 8000
    curl -X PUT 'http://127.0.0.1:8000/greeting?value=hello'

A second one, which joins the first (the settings are the node's variables, GOSSIP_...):

    GOSSIP_NODE_ID=b GOSSIP_PEER_LISTEN=127.0.0.1:8946 GOSSIP_CLIENT_LISTEN=127.0.0.1:8947 \
        GOSSIP_JOIN=127.0.0.1:7946 uvicorn fastapi_app:app --port 8001
    curl http://127.0.0.1:8001/greeting

One worker a node: with `--workers` each process would want the same ports.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request

from gossip_grpc import InvalidArgumentError, KeyNotFoundError, Node
from gossip_grpc.config import load


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    config = load(flags={}, environ=os.environ, file=None).config
    async with Node(config) as node:  # if this raises, the server says why and ends
        await node.wait_ready()
        app.state.node = node
        yield
    # Here the server has answered all requests; the node has left its cluster.


def node_of(request: Request) -> Node:
    node: Node = request.app.state.node
    return node


Embedded = Annotated[Node, Depends(node_of)]
app = FastAPI(lifespan=lifespan)


@app.put("/{key}")
async def put(key: str, value: str, node: Embedded) -> dict[str, str]:
    try:
        await node.kv.put(key, value)
    except InvalidArgumentError as error:  # such as a key of more than 512 bytes
        raise HTTPException(400, str(error)) from error
    return {"key": key, "value": value}


@app.get("/{key}")
async def get(key: str, node: Embedded) -> dict[str, str]:
    try:
        entry = await node.kv.get(key)
    except KeyNotFoundError as error:
        raise HTTPException(404, str(error)) from error
    return {"key": key, "value": str(entry.value)}
