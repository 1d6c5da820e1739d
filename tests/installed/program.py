"""A program as a user writes it: `mypy --strict` knows its types by the installed package alone, and it runs.

Any instead of a type would be found: `assert_type` fails, and so does an ignored error that is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import assert_type

from gossip_grpc import AsyncClient, Client, Config, InvalidArgumentError, Node, Session
from gossip_grpc.client import Entry, KeyValueEvent, Member, Status


def blocking(address: str, session: Session) -> None:
    with Client(address, session=session) as client:
        assert_type(client.kv.get("greeting"), Entry)
        assert_type(client.kv.put("farewell", b"bye", ttl=30), Session)
        assert_type(client.counter.get("visits"), int)
        assert_type(client.status(), Status)
        try:
            client.kv.put(1, "no key")  # type: ignore[arg-type]
        except InvalidArgumentError as error:
            assert_type(error.reason, str | None)


async def first(events: AsyncIterator[KeyValueEvent]) -> KeyValueEvent:
    return await anext(events)


async def main() -> None:
    config = Config(node_id="embedded", peer_listen="127.0.0.1:0", client_listen="127.0.0.1:0")
    async with Node(config) as node:
        await node.wait_ready()
        await node.kv.put("greeting", "hello")
        assert_type(await node.members(), list[Member])
        async with AsyncClient(node.client_address) as client:
            assert_type(await client.counter.add("visits", 5), int)
            assert_type([entry async for entry in client.kv.list()], list[Entry])
            event = await first(client.kv.watch())
            assert event.entry is not None
            assert event.entry.value == "hello"
            await asyncio.to_thread(blocking, node.client_address, client.session)


asyncio.run(main())
