"""What a client does with a gossip-grpc cluster. Prints a line of JSON for each step.

python tour.py PREFIX ADDRESS...
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from time import monotonic

import grpc
import grpc.aio
from cluster import ATTEMPT_TIMEOUT, Cluster, Node, detail, rest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from gossip.v1 import cluster_pb2, common_pb2, counter_pb2, event_pb2, kv_pb2, set_pb2
from session import Session

TASKS = 8
ADDS_PER_TASK = 25
HAND_OVERS = 20
ATTEMPTS = 10
BEATS_BEFORE = 5  # writes before the tour is ready for the node's death
BEATS_AFTER = 10  # writes after it
PATIENCE = 60.0  # seconds that the tour waits for a node to die, and to come back
BETWEEN_BEATS = 0.05

Value = common_pb2.Value


class Tour:
    def __init__(self, prefix: str, cluster: Cluster) -> None:
        self.prefix = prefix
        self.cluster = cluster
        self.session = Session()  # of all that the tour has written
        self.names: dict[Node, str] = {}
        self.visits = 0  # additions to the counter that were acknowledged

    async def run(self) -> None:
        await self.connect()
        await self.put()
        await self.get()
        await self.page()
        await self.watch()
        await self.count()
        await self.collect()
        await self.members()
        await self.subscribe()
        await self.failures()
        await self.hand_over()
        await self.failover()
        say("done")

    # --- the steps ---

    async def connect(self) -> None:
        for node in self.cluster.nodes:
            self.names[node] = (await await_ready(node)).node_id
        say("connect", node=self.names[self.cluster.current], nodes=list(self.names.values()))

    async def put(self) -> None:
        values = {
            "kv/blob": Value(data=b"\x00\xff\x10"),
            "kv/greeting": Value(text="hello"),
            "kv/unicode": Value(text="Grüße, 世界 🐌"),
        }
        for key, value in values.items():
            await self.write(key, value)
        say("put", count=len(values))

    async def get(self) -> None:
        values = {}
        for key in ("kv/blob", "kv/greeting", "kv/unicode"):
            answer = await self.cluster.call(lambda node, key=key: self.get_at(node, key))
            values[key] = show(answer.entry.value)
        say("get", values=values)

    async def page(self) -> None:
        keys, pages = await self.keys(self.cluster.current, "kv/", page_size=2)
        say("list", keys=keys, pages=pages)

    async def watch(self) -> None:
        await self.write("watched/a", Value(text="0"))
        seen, token = [], ""
        async with aclosing(self.cluster.watch(self.prefix + "watched/", session=self.session)) as watch:
            async for event in watch:
                seen.append(self.describe(event))
                if event.kind == kv_pb2.KEY_VALUE_EVENT_KIND_CURRENT:
                    await self.write("watched/a", Value(text="1"))
                    await self.write("watched/a", Value(text="2"))
                token = event.resume_token
                if event.entry.value.text == "2":
                    break
        say("watch", events=seen)

        # Nobody watches now; the token brings what was missed.
        await self.remove("watched/a")
        await self.write("watched/b", Value(text="3"))
        seen = []
        async with aclosing(self.cluster.watch(self.prefix + "watched/", token, self.session)) as watch:
            async for event in watch:
                if event.kind != kv_pb2.KEY_VALUE_EVENT_KIND_CURRENT:
                    seen.append(self.describe(event))
                if event.entry.value.text == "3":
                    break
        say("watch resumed", events=seen)

    async def count(self) -> None:
        async def add(task: int) -> None:
            for _ in range(ADDS_PER_TASK):
                # At two nodes, as if the first answer had been lost: it counts once.
                await self.add(self.cluster.starting_at(task), self.cluster.starting_at(task + 1))

        async with asyncio.TaskGroup() as group:
            for task in range(TASKS):
                group.create_task(add(task))
        say("counter", tasks=TASKS, visits=self.visits, surplus=await self.surplus())

    async def collect(self) -> None:
        key = self.prefix + "colours"
        add = [Value(text=colour) for colour in ("red", "green", "blue")]
        added = await self.cluster.call(
            lambda node: node.set.Add(
                set_pb2.SetServiceAddRequest(key=key, elements=add, session=self.session.token()),
                timeout=ATTEMPT_TIMEOUT,
            )
        )
        self.session.merge(added.session)
        remove = [Value(text=colour) for colour in ("green", "mauve")]
        removed = await self.cluster.call(
            lambda node: node.set.Remove(
                set_pb2.SetServiceRemoveRequest(key=key, elements=remove, session=self.session.token()),
                timeout=ATTEMPT_TIMEOUT,
            )
        )
        self.session.merge(removed.session)
        got = await self.cluster.call(
            lambda node: node.set.Get(
                set_pb2.SetServiceGetRequest(key=key, session=self.session.token()), timeout=ATTEMPT_TIMEOUT
            )
        )
        say(
            "set",
            added=added.added,
            removed=removed.removed,
            size=got.size,
            elements=[show(element) for element in got.elements],
        )

    async def members(self) -> None:
        request = cluster_pb2.ClusterServiceListMembersRequest(statuses=[cluster_pb2.MEMBER_STATUS_ALIVE])
        answer = await self.cluster.call(lambda node: node.cluster.ListMembers(request, timeout=ATTEMPT_TIMEOUT))
        say("members", alive=[member.node_id for member in answer.members])

    async def subscribe(self) -> None:
        publisher, subscriber = self.cluster.starting_at(1), self.cluster.starting_at(2)
        topics = [self.prefix + "news/*"]
        seen, token = [], ""
        async with aclosing(subscriber.subscribe(topics)) as events:
            async for told in events:
                seen.append(self.describe_told(told))
                if told.kind == event_pb2.SUBSCRIPTION_EVENT_KIND_CURRENT:
                    await self.publish(publisher, "news/a", "1")
                    # Twice, as if the first answer had been lost: it is one event.
                    request_id = str(uuid.uuid4())
                    await self.publish(publisher, "news/b", "2", request_id)
                    await self.publish(publisher, "news/b", "2", request_id)
                    await self.publish(publisher, "news/a", "3")
                token = told.resume_token
                if told.event.payload.text == "3":
                    break
        say("subscribe", events=seen)

        # Nobody subscribes now; the token brings what was missed.
        await self.publish(publisher, "news/b", "4")
        await self.publish(publisher, "news/a", "5")
        seen = []
        async with aclosing(subscriber.subscribe(topics, token)) as events:
            async for told in events:
                if told.kind != event_pb2.SUBSCRIPTION_EVENT_KIND_CURRENT:
                    seen.append(self.describe_told(told))
                if told.event.payload.text == "5":
                    break
        say("subscribe resumed", events=seen)

    async def failures(self) -> None:
        nobody = common_pb2.Dot(origin=common_pb2.Origin(node_id="nobody", generation=1), sequence=1)
        for timeout, request in (
            (ATTEMPT_TIMEOUT, kv_pb2.KeyValueServiceGetRequest(key=self.prefix + "missing")),
            (ATTEMPT_TIMEOUT, kv_pb2.KeyValueServiceGetRequest(key="")),
            (1.0, kv_pb2.KeyValueServiceGetRequest(key="any", session=common_pb2.Session(dots=[nobody]))),
        ):
            error = await self.refusal(lambda node, t=timeout, request=request: node.kv.Get(request, timeout=t))
            info = detail(error, ErrorInfo) or ErrorInfo()
            wrong = detail(error, BadRequest) or BadRequest()
            say(
                "error",
                code=error.code().value[0],
                domain=info.domain,
                reason=info.reason,
                fields=[violation.field for violation in wrong.field_violations],
            )

    async def hand_over(self) -> None:
        nodes = self.cluster.nodes
        stale = 0
        for number in range(HAND_OVERS):
            put = await self.put_at(nodes[number % len(nodes)], "handed", Value(text=str(number)), self.session)
            self.session.merge(put.session)
            try:
                got = await self.get_at(nodes[(number + 1) % len(nodes)], "handed")
                stale += got.entry.value.text != str(number)
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.NOT_FOUND:
                    raise
                stale += 1
        say("session", reads=HAND_OVERS, stale=stale)

    async def failover(self) -> None:
        origin = self.cluster.current
        moved = asyncio.Event()

        async def add(nodes: Cluster) -> None:
            while not moved.is_set():
                await self.add(nodes)
                await asyncio.sleep(BETWEEN_BEATS)

        async with aclosing(self.cluster.watch(self.prefix + "watched/")) as watch:
            await self.until(watch, "CURRENT")
            async with asyncio.TaskGroup() as group:
                for task in range(TASKS):
                    group.create_task(add(self.cluster.starting_at(task)))
                written = await self.beats(origin)
                moved.set()
            info = {"beats": len(written)}
            say("failover", **{"from": self.names[origin], "to": self.names[self.cluster.current]}, info=info)

            seen = await self.until(watch, "CURRENT")
            await self.beat("watched/c")
            seen += await self.until(watch, "PUT watched/c=text:beat")
            say("watch moved", events=seen)

        await await_ready(origin)
        found, _ = await self.keys(origin, "beats/")
        missing = set(written) - set(found)
        surplus = await self.surplus()
        say(
            "return",
            node=self.names[origin],
            missing=len(missing),
            surplus=surplus,
            info={"visits": self.visits},
        )

    async def beats(self, origin: Node) -> Sequence[str]:
        """Write until some time after a node has failed; returns the keys written.

        Each is a key of its own: a write that is retried elsewhere must not hide one that was acknowledged here.
        """
        written: list[str] = []
        begun = monotonic()
        after = 0
        while after < BEATS_AFTER:
            if monotonic() - begun > PATIENCE:
                raise TimeoutError(f"no node has failed in {PATIENCE:g} s")
            key = f"beats/{len(written):06}"
            await self.beat(key)
            written.append(key)
            if len(written) == BEATS_BEFORE:
                say("ready for failover", node=self.names[origin])
            after += self.cluster.current is not origin
            await asyncio.sleep(BETWEEN_BEATS)
        return written

    async def surplus(self) -> dict[str, int]:
        """How much more each node has counted than was acknowledged; waits until none has.

        What two nodes counted before they heard of each other is taken back once they have.
        """
        end = monotonic() + PATIENCE
        while True:
            surplus = {self.names[node]: await self.visits_at(node) - self.visits for node in self.cluster.nodes}
            if not any(surplus.values()) or monotonic() > end:
                return surplus
            await rest()

    async def until(self, watch: AsyncGenerator[kv_pb2.KeyValueServiceWatchResponse, None], last: str) -> list[str]:
        seen = []
        async for event in watch:
            seen.append(self.describe(event))
            if seen[-1] == last:
                break
        return seen

    # --- calls ---

    async def put_at(
        self, node: Node, key: str, value: Value, session: Session | None
    ) -> kv_pb2.KeyValueServicePutResponse:
        token = session.token() if session else None
        request = kv_pb2.KeyValueServicePutRequest(key=self.prefix + key, value=value, session=token)
        return await node.kv.Put(request, timeout=ATTEMPT_TIMEOUT)

    async def get_at(self, node: Node, key: str) -> kv_pb2.KeyValueServiceGetResponse:
        request = kv_pb2.KeyValueServiceGetRequest(key=self.prefix + key, session=self.session.token())
        return await node.kv.Get(request, timeout=ATTEMPT_TIMEOUT)

    async def write(self, key: str, value: Value) -> None:
        answer = await self.cluster.call(lambda node: self.put_at(node, key, value, self.session))
        self.session.merge(answer.session)

    async def beat(self, key: str) -> None:
        """Write without sending the session along, so that it waits for nothing.

        What was written in the last moments of a node that died may be on that node's disk alone until it is back.
        """
        answer = await self.cluster.call(lambda node: self.put_at(node, key, Value(text="beat"), None))
        self.session.merge(answer.session)

    async def remove(self, key: str) -> None:
        answer = await self.cluster.call(
            lambda node: node.kv.Delete(
                kv_pb2.KeyValueServiceDeleteRequest(key=self.prefix + key, session=self.session.token()),
                timeout=ATTEMPT_TIMEOUT,
            )
        )
        self.session.merge(answer.session)

    async def add(self, *where: Cluster) -> None:
        """Count one visit; once, however often and wherever it is tried."""
        request = counter_pb2.CounterServiceAddRequest(
            key=self.prefix + "visits", amount=1, request_id=str(uuid.uuid4())
        )
        for nodes in where:
            answer = await nodes.call(lambda node: node.counter.Add(request, timeout=ATTEMPT_TIMEOUT))
            self.session.merge(answer.session)
        self.visits += 1

    async def visits_at(self, node: Node) -> int:
        request = counter_pb2.CounterServiceGetRequest(key=self.prefix + "visits", session=self.session.token())
        return (await node.counter.Get(request, timeout=ATTEMPT_TIMEOUT)).counter.value

    async def publish(self, nodes: Cluster, topic: str, payload: str, request_id: str = "") -> None:
        request = event_pb2.EventServicePublishRequest(
            topic=self.prefix + topic, payload=Value(text=payload), request_id=request_id or str(uuid.uuid4())
        )
        await nodes.call(lambda node: node.event.Publish(request, timeout=ATTEMPT_TIMEOUT))

    async def refusal(self, call: Callable[[Node], Awaitable[object]]) -> grpc.aio.AioRpcError:
        """The error with which the node refuses a call. One without a reason is not the node's: ask again."""
        for _ in range(ATTEMPTS):
            try:
                await call(self.cluster.current)
            except grpc.aio.AioRpcError as error:
                if detail(error, ErrorInfo):
                    return error
        raise AssertionError("the node has refused nothing")

    async def keys(self, node: Node, below: str, page_size: int = 0) -> tuple[Sequence[str], int]:
        """The keys below a prefix as one node knows them, and in how many pages they came."""
        keys: list[str] = []
        pages, token = 0, ""
        while not pages or token:
            request = kv_pb2.KeyValueServiceListRequest(
                prefix=self.prefix + below, page_size=page_size, page_token=token, session=self.session.token()
            )
            answer = await node.kv.List(request, timeout=ATTEMPT_TIMEOUT)
            keys += [entry.key.removeprefix(self.prefix) for entry in answer.entries]
            pages, token = pages + 1, answer.next_page_token
        return keys, pages

    def describe(self, event: kv_pb2.KeyValueServiceWatchResponse) -> str:
        line = kv_pb2.KeyValueEventKind.Name(event.kind).removeprefix("KEY_VALUE_EVENT_KIND_")
        if event.key:
            line += " " + event.key.removeprefix(self.prefix)
        if event.HasField("entry"):
            line += "=" + show(event.entry.value)
        return line

    def describe_told(self, told: event_pb2.EventServiceSubscribeResponse) -> str:
        line = event_pb2.SubscriptionEventKind.Name(told.kind).removeprefix("SUBSCRIPTION_EVENT_KIND_")
        if told.HasField("event"):
            line += f" {told.event.topic.removeprefix(self.prefix)}={show(told.event.payload)}"
        return line


async def await_ready(node: Node) -> cluster_pb2.ClusterServiceGetStatusResponse:
    """Wait until a node takes calls, again or for the first time."""
    end = monotonic() + PATIENCE
    while True:
        try:
            answer = await node.cluster.GetStatus(cluster_pb2.ClusterServiceGetStatusRequest(), timeout=ATTEMPT_TIMEOUT)
            if answer.ready:
                return answer
        except grpc.aio.AioRpcError:
            if monotonic() > end:
                raise
        await rest()


# --- values and lines ---


def show(value: Value) -> str:
    match value.WhichOneof("kind"):
        case "text":
            return f"text:{value.text}"
        case "data":
            return f"data:{base64.b64encode(value.data).decode()}"
        case _:
            return "nothing"


def say(step: str, **fields: object) -> None:
    print(json.dumps({"step": step, **fields}, ensure_ascii=False), flush=True)


async def main(prefix: str, addresses: Sequence[str]) -> None:
    cluster = Cluster([Node(address) for address in addresses])
    try:
        await Tour(prefix, cluster).run()
    finally:
        await cluster.close()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: tour.py PREFIX ADDRESS...")
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
