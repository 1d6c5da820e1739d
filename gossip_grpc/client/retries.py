"""What may be tried again, in one place: which calls, and after which failures.

A failure tells whether the call may have been carried out. If it was not, any call may be made again. If nobody knows,
only a call may be of which two do no more than one:

- Reads change nothing.
- An addition to a counter, and an event, bear a `request_id`, by which nodes count them once, whichever is asked.
- No other write is one of these. A second Put could overwrite what somebody else has written since the first, a second
  Delete or Remove could take away what somebody has put there, a second Add to a set could bring back what somebody has
  removed, and a second Reset take away what was counted. Whoever knows that nobody else writes the key may repeat it
  himself: the error says that the write may have taken effect.
- SetTags and Leave are about the node asked; at another node they would be something else.
"""

from __future__ import annotations

from enum import Enum

from google.protobuf.message import Message

from gossip_grpc.errors import Reason
from gossip_grpc.gen.gossip.v1 import cluster_pb2, counter_pb2, event_pb2, kv_pb2, set_pb2


class Repeat(Enum):
    """When a call may be made once more though it may have been carried out."""

    ALWAYS = "it reads"
    NAMED = "it has a request_id"
    NEVER = "it writes"
    ONE_NODE = "it writes, and is about the node asked"


RULES: dict[type[Message], Repeat] = {
    kv_pb2.KeyValueServiceGetRequest: Repeat.ALWAYS,
    kv_pb2.KeyValueServicePutRequest: Repeat.NEVER,
    kv_pb2.KeyValueServicePutManyRequest: Repeat.NEVER,
    kv_pb2.KeyValueServiceDeleteRequest: Repeat.NEVER,
    kv_pb2.KeyValueServiceListRequest: Repeat.ALWAYS,
    kv_pb2.KeyValueServiceWatchRequest: Repeat.ALWAYS,
    counter_pb2.CounterServiceGetRequest: Repeat.ALWAYS,
    counter_pb2.CounterServiceAddRequest: Repeat.NAMED,
    counter_pb2.CounterServiceResetRequest: Repeat.NEVER,
    counter_pb2.CounterServiceListRequest: Repeat.ALWAYS,
    counter_pb2.CounterServiceWatchRequest: Repeat.ALWAYS,
    set_pb2.SetServiceGetRequest: Repeat.ALWAYS,
    set_pb2.SetServiceAddRequest: Repeat.NEVER,
    set_pb2.SetServiceRemoveRequest: Repeat.NEVER,
    set_pb2.SetServiceListRequest: Repeat.ALWAYS,
    set_pb2.SetServiceWatchRequest: Repeat.ALWAYS,
    event_pb2.EventServicePublishRequest: Repeat.NAMED,
    event_pb2.EventServiceSubscribeRequest: Repeat.ALWAYS,
    cluster_pb2.ClusterServiceGetStatusRequest: Repeat.ALWAYS,
    cluster_pb2.ClusterServiceListMembersRequest: Repeat.ALWAYS,
    cluster_pb2.ClusterServiceExplainMemberRequest: Repeat.ALWAYS,
    cluster_pb2.ClusterServiceWatchMembersRequest: Repeat.ALWAYS,
    cluster_pb2.ClusterServicePingRequest: Repeat.ALWAYS,
    cluster_pb2.ClusterServiceBackupRequest: Repeat.ALWAYS,
    cluster_pb2.ClusterServiceSetTagsRequest: Repeat.ONE_NODE,
    cluster_pb2.ClusterServiceForgetMemberRequest: Repeat.NEVER,
    cluster_pb2.ClusterServiceLeaveRequest: Repeat.ONE_NODE,
}
"""By request: of each call that clients make."""


class Effect(Enum):
    """What a failure says of the call, and so what may be done next."""

    UNREACHABLE = "the node never had it"
    LATER = "the node did nothing, and will do it later; another one may do it now"
    ELSEWHERE = "the node did nothing, and another one may do it"
    UNKNOWN = "nobody knows whether the node did it"
    REFUSED = "the node did nothing, and no other one would"
    STANDS = "the node has done it, or part of it, or may have; another one could do no better"


_EFFECTS: dict[str, Effect] = {
    Reason.NOT_READY: Effect.LATER,
    Reason.STOPPING: Effect.LATER,
    Reason.SYNC_LIMIT: Effect.LATER,
    Reason.SESSION_LIMIT: Effect.LATER,
    Reason.DISK_FAILED: Effect.LATER,
    # It has waited for as long as it could.
    Reason.SESSION_BEHIND: Effect.ELSEWHERE,
    Reason.WATCH_LIMIT: Effect.ELSEWHERE,
    # A peers' listener, or an older version: others may be neither.
    Reason.NOT_IMPLEMENTED: Effect.ELSEWHERE,
    # It can go on after its token, which is a matter of streams (see resuming.py); beginning anew would end the same.
    Reason.SLOW_WATCHER: Effect.REFUSED,
    Reason.NOT_ON_DISK: Effect.STANDS,
    Reason.INTERNAL: Effect.STANDS,
}
"""By the reason that a node gives; any other one is a refusal, unless the node says when to try again."""


def effect_of(reason: str, *, written: int, retry_after: float | None) -> Effect:
    """The effect of a failure that a node has explained.

    Args:
        reason: of google.rpc.ErrorInfo.
        written: how many entries of an upload were written before it failed.
        retry_after: seconds of google.rpc.RetryInfo, if there is one.
    """
    if written:
        return Effect.STANDS
    return _EFFECTS.get(reason, Effect.REFUSED if retry_after is None else Effect.LATER)


def is_write(request: Message) -> bool:
    """Whether a call may change anything."""
    return RULES[type(request)] is not Repeat.ALWAYS


def may_repeat(request: Message) -> bool:
    """Whether a call may be made again that may have been carried out."""
    rule = RULES[type(request)]
    return rule is Repeat.ALWAYS or (rule is Repeat.NAMED and getattr(request, "request_id", "") != "")
