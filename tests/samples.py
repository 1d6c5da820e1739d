"""Records to test with: short constructors, and Hypothesis strategies of every kind, shared by several test files."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from gossip_grpc.core.records import Accusation, Kind, Lease, Member, Origin, Receipt, Record, Value

A, B, C, D = (Origin(name, 1) for name in "abcd")


def register(key: str, value: Value | None, origin: Origin = A, sequence: int = 1, clock: int | None = None) -> Record:
    return Record(Kind.REGISTER, key, origin, sequence, sequence if clock is None else clock, value)


def lease(
    key: str,
    value: Value,
    origin: Origin = A,
    sequence: int = 1,
    clock: int | None = None,
    *,
    expires_at: int = 0,
    ephemeral: bool = False,
) -> Record:
    content = Lease(value, expires_at, ephemeral)
    return Record(Kind.REGISTER, key, origin, sequence, sequence if clock is None else clock, content)


def share(key: str, added: int, subtracted: int = 0, origin: Origin = A, sequence: int = 1) -> Record:
    return Record(Kind.COUNTER_SHARE, (key, origin), origin, sequence, sequence, (added, subtracted))


def reset(key: str, about: Origin, seen: tuple[int, int], origin: Origin = A, sequence: int = 1) -> Record:
    return Record(Kind.COUNTER_RESET, (key, about), origin, sequence, sequence, seen)


def receipt(
    key: str, request_id: str, amount: int, mark: tuple[int, int], origin: Origin = A, sequence: int = 1
) -> Record:
    slot = (key, request_id, origin)
    return Record(Kind.COUNTER_RECEIPT, slot, origin, sequence, sequence, Receipt(amount, mark))


def void(key: str, amount: int, mark: tuple[int, int], about: Origin, origin: Origin = A, sequence: int = 1) -> Record:
    return Record(Kind.COUNTER_VOID, (key, mark, about), origin, sequence, sequence, amount)


def addition(key: str, element: Value, origin: Origin = A, sequence: int = 1) -> Record:
    return Record(Kind.SET_ELEMENT, (key, element, origin), origin, sequence, sequence, (sequence, False))


def removal(key: str, element: Value, about: Record, origin: Origin = A, sequence: int = 2) -> Record:
    return Record(
        Kind.SET_ELEMENT, (key, element, about.origin), origin, sequence, sequence + 1, (about.sequence, True)
    )


def member(origin: Origin = A, sequence: int = 1, *, address: str = "", **facts: Any) -> Record:
    content = Member(facts.pop("incarnation", 1), address or f"{origin.node_id}:1", **facts)
    return Record(Kind.MEMBER, origin.node_id, origin, sequence, sequence, content)


def accusation(target: Origin, accuser: Origin, sequence: int = 2, **facts: Any) -> Record:
    """The accuser's word on the target's first incarnation, made at 0."""
    content = Accusation(target.generation, facts.pop("incarnation", 1), facts.pop("at", 0.0), **facts)
    return Record(Kind.ACCUSATION, (target.node_id, accuser.node_id), accuser, sequence, sequence, content)


# Few distinct values, so that ties, equal slots and equal parts are common; digits, so that numbers run into names.
few_names = st.sampled_from(["a", "b", "1", "11"])
few_origins = st.builds(Origin, few_names, st.sampled_from([0, 1, 11]))
few_numbers = st.integers(1, 3)
few_keys = st.sampled_from(["k", "1", "1 1", "kT", "ä"])
few_texts = st.sampled_from(["", "v", "T", "1 1"])
few_values = st.one_of(few_texts, few_texts.map(str.encode))
few_elements = few_values.filter(bool)
few_sums = st.tuples(st.integers(0, 3), st.integers(0, 3))
few_members = st.builds(
    Member,
    few_numbers,
    st.sampled_from(["h:1", "h:2"]),
    st.sampled_from(["", "h:3"]),
    st.sampled_from(["", "z"]),
    st.dictionaries(st.sampled_from("xy"), st.sampled_from("12")),
    st.sampled_from(["", "0.1.0"]),
    st.booleans(),
    st.sampled_from([0.0, 1.5]),
)


def registers(
    keys: st.SearchStrategy[str] = few_keys,
    values: st.SearchStrategy[Value] = few_values,
    origins: st.SearchStrategy[Origin] = few_origins,
    numbers: st.SearchStrategy[int] = few_numbers,
) -> st.SearchStrategy[Record]:
    return st.builds(Record, st.just(Kind.REGISTER), keys, origins, numbers, numbers, st.one_of(st.none(), values))


few_ends = st.sampled_from([0, 1_000, 2_000])


def leases(
    keys: st.SearchStrategy[str] = few_keys,
    values: st.SearchStrategy[Value] = few_values,
    origins: st.SearchStrategy[Origin] = few_origins,
    numbers: st.SearchStrategy[int] = few_numbers,
    ends: st.SearchStrategy[int] = few_ends,
) -> st.SearchStrategy[Record]:
    """Values that have an end, or are ephemeral, or both."""
    contents = st.builds(Lease, values, ends, st.booleans()).filter(lambda lease: lease.expires_at or lease.ephemeral)
    return st.builds(Record, st.just(Kind.REGISTER), keys, origins, numbers, numbers, contents)


def shares(
    keys: st.SearchStrategy[str] = few_keys,
    origins: st.SearchStrategy[Origin] = few_origins,
    numbers: st.SearchStrategy[int] = few_numbers,
    sums: st.SearchStrategy[tuple[int, int]] = few_sums,
) -> st.SearchStrategy[Record]:
    def build(key: str, origin: Origin, sequence: int, clock: int, content: tuple[int, int]) -> Record:
        return Record(Kind.COUNTER_SHARE, (key, origin), origin, sequence, clock, content)

    return st.builds(build, keys, origins, numbers, numbers, sums)


def resets(
    keys: st.SearchStrategy[str] = few_keys,
    origins: st.SearchStrategy[Origin] = few_origins,
    numbers: st.SearchStrategy[int] = few_numbers,
    sums: st.SearchStrategy[tuple[int, int]] = few_sums,
    about: st.SearchStrategy[Origin] = few_origins,
) -> st.SearchStrategy[Record]:
    slots = st.tuples(keys, about)
    return st.builds(Record, st.just(Kind.COUNTER_RESET), slots, origins, numbers, numbers, sums)


few_amounts = st.sampled_from([-2, -1, 1, 2])


def receipts(
    keys: st.SearchStrategy[str] = few_keys,
    origins: st.SearchStrategy[Origin] = few_origins,
    numbers: st.SearchStrategy[int] = few_numbers,
    sums: st.SearchStrategy[tuple[int, int]] = few_sums,
    requests: st.SearchStrategy[str] = few_names,
    amounts: st.SearchStrategy[int] = few_amounts,
) -> st.SearchStrategy[Record]:
    def build(key: str, request_id: str, origin: Origin, sequence: int, clock: int, content: Receipt) -> Record:
        return Record(Kind.COUNTER_RECEIPT, (key, request_id, origin), origin, sequence, clock, content)

    contents = st.builds(lambda amount, given: Receipt(amount, _holding(amount, given)), amounts, sums)
    return st.builds(build, keys, requests, origins, numbers, numbers, contents)


def voids(
    keys: st.SearchStrategy[str] = few_keys,
    origins: st.SearchStrategy[Origin] = few_origins,
    numbers: st.SearchStrategy[int] = few_numbers,
    sums: st.SearchStrategy[tuple[int, int]] = few_sums,
    about: st.SearchStrategy[Origin] = few_origins,
    amounts: st.SearchStrategy[int] = few_amounts,
) -> st.SearchStrategy[Record]:
    def build(
        key: str, given: tuple[int, int], of: Origin, origin: Origin, sequence: int, clock: int, amount: int
    ) -> Record:
        return Record(Kind.COUNTER_VOID, (key, _holding(amount, given), of), origin, sequence, clock, amount)

    return st.builds(build, keys, sums, about, origins, numbers, numbers, amounts)


def _holding(amount: int, sums: tuple[int, int]) -> tuple[int, int]:
    """Sums that an amount is in."""
    return max(sums[0], amount), max(sums[1], -amount)


def elements(
    keys: st.SearchStrategy[str] = few_keys,
    values: st.SearchStrategy[Value] = few_elements,
    origins: st.SearchStrategy[Origin] = few_origins,
    numbers: st.SearchStrategy[int] = few_numbers,
    about: st.SearchStrategy[Origin] = few_origins,
) -> st.SearchStrategy[Record]:
    def add(key: str, element: Value, origin: Origin, sequence: int, clock: int) -> Record:
        return Record(Kind.SET_ELEMENT, (key, element, origin), origin, sequence, clock, (sequence, False))

    slots = st.tuples(keys, values, about)
    contents = st.tuples(numbers, st.just(True))
    return st.one_of(
        st.builds(add, keys, values, origins, numbers, numbers),
        st.builds(Record, st.just(Kind.SET_ELEMENT), slots, origins, numbers, numbers, contents),
    )


def members(
    origins: st.SearchStrategy[Origin] = few_origins,
    numbers: st.SearchStrategy[int] = few_numbers,
    contents: st.SearchStrategy[Member] = few_members,
) -> st.SearchStrategy[Record]:
    def build(origin: Origin, sequence: int, clock: int, content: Member) -> Record:
        return Record(Kind.MEMBER, origin.node_id, origin, sequence, clock, content)

    return st.builds(build, origins, numbers, numbers, contents)


few_accusations = st.builds(
    Accusation,
    st.sampled_from([0, 1, 11]),
    st.integers(0, 3),
    st.sampled_from([0.0, 1.5]),
    st.sampled_from([0.0, 8.25]),
    st.booleans(),
    st.booleans(),
)


def accusations(
    origins: st.SearchStrategy[Origin] = few_origins,
    numbers: st.SearchStrategy[int] = few_numbers,
    targets: st.SearchStrategy[str] = few_names,
    contents: st.SearchStrategy[Accusation] = few_accusations,
) -> st.SearchStrategy[Record]:
    def build(target: str, origin: Origin, sequence: int, clock: int, content: Accusation) -> Record:
        return Record(Kind.ACCUSATION, (target, origin.node_id), origin, sequence, clock, content)

    return st.builds(build, targets, origins, numbers, numbers, contents)
