"""Bells wake those whose prefix a key has."""

from __future__ import annotations

import asyncio

from gossip_grpc.bells import Bells


async def wait(bells: Bells, *prefixes: str) -> dict[str, asyncio.Task[int]]:
    tasks = {prefix: asyncio.create_task(bells.wait("kv", prefix)) for prefix in prefixes}
    await asyncio.sleep(0)
    return tasks


async def woken(tasks: dict[str, asyncio.Task[int]]) -> dict[str, int]:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return {prefix: task.result() for prefix, task in tasks.items() if task.done()}


async def test_a_change_wakes_those_whose_prefix_its_key_has_and_tells_its_number() -> None:
    bells = Bells()
    tasks = await wait(bells, "", "a", "ab", "abc", "b")
    bells.ring("counter", "ab", 6)
    assert await woken(tasks) == {}
    bells.ring("kv", "ab", 7)
    assert await woken(tasks) == {"": 7, "a": 7, "ab": 7}
    bells.ring("kv", "b", 8)
    assert await woken(tasks) == {"": 7, "a": 7, "ab": 7, "b": 8}
    bells.ring_all()
    assert await woken(tasks) == {"": 7, "a": 7, "ab": 7, "b": 8, "abc": 0}
    assert len(bells) == 0


async def test_who_comes_after_a_change_waits_for_the_next() -> None:
    bells = Bells()
    first = await wait(bells, "a")
    bells.ring("kv", "a", 1)
    bells.ring("kv", "a", 2)
    second = await wait(bells, "a")
    assert await woken(first) == {"a": 1}
    assert await woken(second) == {}
    bells.ring("kv", "a", 3)
    assert await woken(second) == {"a": 3}


async def test_one_that_goes_leaves_the_others_waiting_and_the_last_leaves_nothing() -> None:
    bells = Bells()
    first, second = await wait(bells, "a"), await wait(bells, "a")
    first["a"].cancel()
    await woken({})
    assert len(bells) == 1
    second["a"].cancel()
    await woken({})
    assert len(bells) == 0
