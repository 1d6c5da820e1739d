"""What users of the library call: the clients of a node, their results and their errors.

    from gossip_grpc.client import AsyncClient, Client

    with Client("127.0.0.1:7947") as client:
        client.kv.put("greeting", "hello")
        print(client.kv.get("greeting").value)

    async with AsyncClient() as client:
        await client.counter.add("hits", 1)
        async for entry in client.kv.list("user/"):
            print(entry.key, entry.value)

Both have the same verbs, results and errors, because both execute the one table of calls in `verbs/`. The client
knows nothing of the node's inside: it stands on the schema and the errors alone.
"""

from gossip_grpc.client.clients import AsyncClient, Client
from gossip_grpc.client.connections import DEFAULT_ADDRESS, DEFAULT_TIMEOUT
from gossip_grpc.client.results import (
    Counter,
    CounterEvent,
    CounterEventKind,
    Deletion,
    Dot,
    Durability,
    Entry,
    Event,
    Explanation,
    GossipCounters,
    Item,
    KeyValueEvent,
    KeyValueEventKind,
    LimitUse,
    Member,
    MemberAccusation,
    MemberEvent,
    MemberEventKind,
    MemberStatus,
    Monitor,
    MonitorPhase,
    MonitorView,
    Origin,
    Session,
    SetEvent,
    SetEventKind,
    SetSummary,
    Status,
    StorageStatus,
    SubscriptionEvent,
    SubscriptionEventKind,
    Value,
    Written,
)
from gossip_grpc.errors import (
    Attempt,
    DeadlineError,
    GossipError,
    InvalidArgumentError,
    KeyNotFoundError,
    MemberNotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)

__all__ = [
    "DEFAULT_ADDRESS",
    "DEFAULT_TIMEOUT",
    "AsyncClient",
    "Attempt",
    "Client",
    "Counter",
    "CounterEvent",
    "CounterEventKind",
    "DeadlineError",
    "Deletion",
    "Dot",
    "Durability",
    "Entry",
    "Event",
    "Explanation",
    "GossipCounters",
    "GossipError",
    "InvalidArgumentError",
    "Item",
    "KeyNotFoundError",
    "KeyValueEvent",
    "KeyValueEventKind",
    "LimitUse",
    "Member",
    "MemberAccusation",
    "MemberEvent",
    "MemberEventKind",
    "MemberNotFoundError",
    "MemberStatus",
    "Monitor",
    "MonitorPhase",
    "MonitorView",
    "Origin",
    "ResourceExhaustedError",
    "Session",
    "SetEvent",
    "SetEventKind",
    "SetSummary",
    "Status",
    "StorageStatus",
    "SubscriptionEvent",
    "SubscriptionEventKind",
    "UnavailableError",
    "Value",
    "Written",
]
