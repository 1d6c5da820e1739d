"""Limits of what enters the store, checked once, at the edge: at the API and on what peers send."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gossip_grpc.core.records import Value
from gossip_grpc.errors import LocalError

MAX_PAGE = 10_000
"""Most items a client may ask for in one page."""

DEFAULT_PAGE = 1_000
"""Items in a page if the client does not say."""

MAX_ELEMENTS = 1_000
"""Most set elements in one call."""

MAX_TOPICS = 100
"""Most topics in one subscription."""

MAX_WIRE_KEY_BYTES = 4 << 10
"""Longest key accepted from a peer: what `max_key_bytes` may be raised to, so that limits may differ between nodes."""

MAX_BATCH = 10_000
"""Most entries in one batch of PutMany."""

MAX_WIRE_PAYLOAD_BYTES = 1 << 20
"""Largest payload of an event accepted from a peer: what `max_event_bytes` may be raised to."""

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
UINT64_MAX = 2**64 - 1

MAX_REQUEST_ID_BYTES = 128
"""Longest `request_id`."""

MAX_NAME = 128
"""Longest name of a node or a cluster."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes of UTF-8 or raw data; `max_records` counts live records, tombstones and events of one node."""

    max_key_bytes: int = 512
    max_value_bytes: int = 1 << 20
    max_element_bytes: int = 64 << 10
    max_event_bytes: int = 64 << 10
    max_tags_bytes: int = 8 << 10
    max_records: int = 2_000_000
    max_inbound_syncs: int = 16
    max_watchers: int = 1024
    max_receipts: int = 100_000
    chunk_bytes: int = 1 << 20

    def check_key(self, key: str, field: str = "key") -> None:
        """Refuse an empty or oversize key."""
        if not key:
            raise LocalError(f"{field} is empty; give 1 to {self.max_key_bytes} bytes of UTF-8", field=field)
        self.check_prefix(key, field)

    def check_prefix(self, prefix: str, field: str = "prefix") -> None:
        """Refuse an oversize prefix; an empty one stands for all keys."""
        if len(prefix) * 4 > self.max_key_bytes and (size := len(prefix.encode())) > self.max_key_bytes:
            raise LocalError(f"{field} has {size} bytes; at most {self.max_key_bytes} are allowed", field=field)

    def check_value(self, value: Value, field: str = "value") -> None:
        """Refuse an oversize register value."""
        _check_size(value, self.max_value_bytes, field)

    def check_element(self, element: Value, field: str = "element") -> None:
        """Refuse an empty or oversize set element."""
        if not element:
            raise LocalError(f"{field} is empty; give 1 to {self.max_element_bytes} bytes", field=field)
        _check_size(element, self.max_element_bytes, field)

    def check_topic(self, topic: str, field: str = "topic") -> None:
        """Refuse an empty or oversize topic, and one that would be a pattern."""
        self.check_key(topic, field)
        if "*" in topic:
            raise LocalError(f"{field} is {topic[:60]!r}; a topic has no '*', which stands for others", field=field)

    def check_pattern(self, pattern: str, field: str) -> None:
        """Refuse what is neither a topic nor the beginning of topics with a `*` at its end."""
        if pattern != "*":
            self.check_topic(pattern.removesuffix("*"), field)

    def check_payload(self, payload: Value, field: str = "payload") -> None:
        """Refuse an oversize payload of an event."""
        _check_size(payload, self.max_event_bytes, field)

    def check_request_id(self, request_id: str) -> None:
        """Refuse an oversize `request_id`."""
        if (size := len(request_id.encode())) > MAX_REQUEST_ID_BYTES:
            raise LocalError(
                f"request_id has {size} bytes; at most {MAX_REQUEST_ID_BYTES} are allowed, such as a UUID",
                field="request_id",
            )

    def page_size(self, given: int) -> int:
        """The page size to use for what a client asked."""
        if not 0 <= given <= MAX_PAGE:
            raise LocalError(
                f"page_size is {given}; give 1 to {MAX_PAGE}, or 0 for the default of {DEFAULT_PAGE}", field="page_size"
            )
        return given or DEFAULT_PAGE


def is_name(text: str) -> bool:
    """Whether a text may name a node or a cluster: 1 to 128 of `A-Za-z0-9._-`."""
    return _NAME.match(text) is not None


def _check_size(value: Value, limit: int, field: str) -> None:
    if len(value) * 4 <= limit:
        return
    size = len(value.encode()) if isinstance(value, str) else len(value)
    if size > limit:
        raise LocalError(f"{field} has {size} bytes; at most {limit} are allowed", field=field)
