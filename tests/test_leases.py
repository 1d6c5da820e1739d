"""Leases: what is seen of a value that is not to stay, until when, and that nothing older comes back after it."""

from __future__ import annotations

import math

import pytest

from gossip_grpc.core import leases as module
from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.feed import Cause, RegisterUpdate
from gossip_grpc.core.leases import Leases, is_over, lease_of
from gossip_grpc.core.records import Dot, Kind, Lease, Member, Origin, Record
from gossip_grpc.core.store import Store
from gossip_grpc.core.sync import Delta, Digest
from tests.samples import A, B, C, lease, member, register
from tests.shadow import Shadow
from tests.test_store import DAY, check, graves, pull, put, value

UNIX = 1_700_000_000.25
"""Unix time less the steady clock of these stores."""


def at(seconds: float) -> int:
    """What Unix time in milliseconds it is when the steady clock says so many seconds."""
    return round((UNIX + seconds) * 1000)


def store_of(origin: Origin = A, *members: Origin) -> Store:
    """A store that knows some members, itself among them."""
    store = Store(origin)
    store.wall_offset = UNIX
    store.write(Kind.MEMBER, origin.node_id, Member(1, f"{origin.node_id}:1"), 0.0)
    store.merge([member(one) for one in members], 0.0)
    return store


def put_lease(store: Store, key: str, value: str, now: float, *, ttl: float = 0.0, ephemeral: bool = False) -> Record:
    return store.write(Kind.REGISTER, key, Lease(value, at(now + ttl) if ttl else 0, ephemeral), now)


def state(store: Store, key: str) -> tuple[bool, bool]:
    """Whether a register is seen, and whether what holds its slot ages."""
    record = store.get(Kind.REGISTER, key)
    assert record is not None
    return store.register(key) is record, record.dot in store._aside.tombstones


# What is seen and what ages: the table of leases.py

SHOWN, HIDDEN, AGES = (True, False), (False, False), (False, True)

LASTING = lease("x", "v", B, 2, expires_at=at(10))
ETERNAL = lease("x", "v", B, 2, ephemeral=True)
BOTH = lease("x", "v", B, 2, expires_at=at(10), ephemeral=True)
B2 = Origin("b", 2)


@pytest.mark.parametrize("order", ["member first", "lease first"])
@pytest.mark.parametrize(
    ("record", "life", "down", "now", "expected"),
    [
        (LASTING, B, False, 9.999, SHOWN),
        (LASTING, B, True, 9.999, SHOWN),
        (LASTING, None, False, 9.999, SHOWN),
        (LASTING, B2, True, 9.999, SHOWN),
        (LASTING, B, False, 10.0, AGES),
        (ETERNAL, B, False, 1e9, SHOWN),
        (ETERNAL, B, True, 0.0, HIDDEN),
        (ETERNAL, None, False, 0.0, AGES),
        (ETERNAL, B2, False, 0.0, AGES),
        (ETERNAL, B2, True, 0.0, AGES),
        (BOTH, B, False, 9.999, SHOWN),
        (BOTH, B, True, 9.999, HIDDEN),
        (BOTH, None, False, 9.999, AGES),
        (BOTH, B2, False, 9.999, AGES),
        (BOTH, B, False, 10.0, AGES),
        (BOTH, B, True, 10.0, AGES),
    ],
)
def test_what_is_seen_and_what_ages(
    record: Record, life: Origin | None, down: bool, now: float, expected: tuple[bool, bool], order: str
) -> None:
    store = store_of(A)
    said = [] if life is None else [member(life)]
    store.merge([*said, record] if order == "member first" else [record, *said], 0.0)
    store.set_down("b", 0.0, down=down)
    store.expire(now)
    assert state(store, "x") == expected
    assert list(store.keys()) == (["x"] if expected == SHOWN else [])
    assert store.live == (expected != AGES)
    assert store.tombstones == (expected == AGES)
    assert store.fingerprint == 0


def test_a_lease_holds_its_value_and_is_no_tombstone_by_looks() -> None:
    record = lease("x", b"v", expires_at=7)
    assert (record.is_lease, record.is_tombstone, record.deletes) == (True, False, True)
    assert lease_of(record) == Lease(b"v", 7, False)


# Ends


def test_a_lease_ends_at_its_moment_and_says_when_that_is() -> None:
    store = store_of(A)
    assert store.next_expiry() == math.inf
    put_lease(store, "later", "v", 0.0, ttl=20.0)
    put_lease(store, "x", "v", 0.0, ttl=10.0)
    due = store.next_expiry()
    assert due == pytest.approx(10.0, abs=0.001)
    assert store.expire(due - 0.001) == 0
    assert value(store, "x") is not None
    assert store.expire(due) == 1
    assert value(store, "x") is None
    assert store.expired == 1
    assert store.next_expiry() == pytest.approx(20.0, abs=0.001)


@pytest.mark.parametrize("wall_offset", [0.0, 0.1, 1 / 3, 1e9 / 7, UNIX, -12.7])
def test_what_is_due_is_over_however_clocks_are_rounded(wall_offset: float) -> None:
    for number in range(1000):
        store = Store(A)
        store.wall_offset = wall_offset
        store.merge([lease("x", "v", B, 1, expires_at=20_000 + int(wall_offset * 1000) + number)], 0.0)
        due = store.next_expiry()
        assert store.expire(due) == 1, f"a driver that wakes at {due!r} would wake again and again"
        record = store.get(Kind.REGISTER, "x")
        assert record is not None
        assert is_over(record, due, wall_offset, None)


def test_so_many_end_in_one_step_and_the_rest_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DUE", 3)
    store = store_of(A)
    for number in range(7):
        put_lease(store, f"k{number}", "v", 0.0, ttl=1.0 + number / 1000)
    assert [store.expire(5.0) for _ in range(4)] == [3, 3, 1, 0]
    assert store.live == 0
    assert store.next_expiry() == math.inf


def test_a_lease_that_is_over_when_it_comes_was_never_seen() -> None:
    store = store_of(A, B)
    store.feed(on=True)
    store.merge([lease("x", "v", B, 2, expires_at=at(10))], 10.0)
    assert state(store, "x") == AGES
    assert store.take_updates() == []
    assert store.expire(11.0) == 0
    check(store)


def test_a_value_that_is_put_again_lives_on_and_its_former_end_is_nothing() -> None:
    store = store_of(A)
    put_lease(store, "x", "v", 0.0, ttl=10.0)
    put_lease(store, "x", "v", 5.0, ttl=10.0)
    assert store.expire(12.0) == 0
    assert value(store, "x") is not None
    assert (store.live, store.tombstones) == (1, 0), "and of those before it nothing is kept"
    assert store.expire(15.0) == 1
    check(store)


def test_a_plain_value_written_over_a_lease_stays() -> None:
    store = store_of(A)
    put_lease(store, "x", "v", 0.0, ttl=10.0)
    put(store, "x", "for ever", 1.0)
    assert store.next_expiry() == math.inf
    assert store.expire(20.0) == 0
    assert value(store, "x") == "for ever"


def test_values_that_are_put_again_and_again_leave_no_growth() -> None:
    store = store_of(A)
    for number in range(5_000):
        put_lease(store, f"k{number % 10}", "v", number / 1000, ttl=600.0)
    assert len(store._leases._ends) <= module._SPARSE + 2 * 10 + 1
    assert store.live == 10
    assert store.tombstones == 0
    assert store.expire(605.0) == 10


def test_ends_are_compacted_without_losing_any() -> None:
    kept = [lease(f"k{n}", "v", A, n + 1, expires_at=1000 + n) for n in range(5)]
    leases = Leases()
    for record in kept:
        leases.add(record)
    for n in range(200):
        gone = lease("x", "v", A, 100 + n, expires_at=1)
        leases.add(gone)
        leases.remove(gone)
    assert len(leases._ends) < 100
    assert list(leases.due(10.0, 0.0)) == kept


# Nodes


def test_an_ephemeral_value_whose_member_comes_later_is_shown_then() -> None:
    store = store_of(A)
    store.feed(on=True)
    record = lease("x", "v", B, 2, ephemeral=True)
    store.merge([record], 0.0)
    assert state(store, "x") == AGES
    store.merge([member(B)], DAY - 1)
    assert state(store, "x") == SHOWN
    assert [update.cause for update in store.take_updates() if isinstance(update, RegisterUpdate)] == [Cause.SHOWN]
    store.learn_context({B: 2})
    assert store.purge(2 * DAY, DAY) == 0, "it ages no more"
    check(store)


def test_one_that_is_over_by_its_time_is_not_shown_again_by_a_member_that_comes_later() -> None:
    store = store_of(A)
    store.merge([lease("x", "v", B, 2, expires_at=at(10), ephemeral=True)], 0.0)
    store.merge([member(B)], 10.0)
    assert state(store, "x") == AGES


def test_a_new_life_of_the_writer_ends_what_the_old_one_lent_and_nothing_else() -> None:
    store = store_of(A, B, C)
    store.feed(on=True)
    store.merge(
        [
            lease("x", "v", B, 2, ephemeral=True),
            lease("y", "v", B, 3, expires_at=at(99)),
            lease("z", "v", C, 2, ephemeral=True),
        ],
        0.0,
    )
    store.merge([member(B, 4, incarnation=2)], 1.0)
    assert list(store.keys()) == ["x", "y", "z"], "the same life says something new of itself"
    store.take_updates()
    store.merge([member(B2)], 2.0)
    assert list(store.keys()) == ["y", "z"]
    (update,) = store.take_updates()
    assert isinstance(update, RegisterUpdate)
    assert (update.key, update.after, update.cause) == ("x", None, Cause.EXPIRED)
    assert state(store, "x") == AGES
    check(store)


def test_dead_or_left_hides_and_alive_shows() -> None:
    store = store_of(A, B)
    store.merge([lease("x", "v", B, 2, ephemeral=True), lease("y", "v", B, 3, ephemeral=True)], 0.0)
    store.feed(on=True)
    store.set_down("b", 1.0, down=True)
    store.set_down("b", 1.0, down=True)
    assert list(store.keys()) == []
    assert (store.live, store.tombstones) == (2, 0), "they are kept, and do not age"
    store.merge([lease("z", "v", B, 4, ephemeral=True)], 2.0)
    assert value(store, "z") is None, "what it writes before it is heard again waits too"
    store.set_down("b", 3.0, down=False)
    assert list(store.keys()) == ["x", "y", "z"]
    assert [(update.key, str(update.cause)) for update in store.take_updates()] == [  # type: ignore[union-attr]
        ("x", "HIDDEN"), ("y", "HIDDEN"), ("x", "SHOWN"), ("y", "SHOWN"), ("z", "SHOWN"),
    ]  # fmt: skip
    store.set_down("nobody", 3.0, down=True)
    check(store)


def test_what_is_hidden_may_end_and_be_replaced() -> None:
    store = store_of(A, B)
    store.merge([lease(key, "v", B, n, expires_at=at(5), ephemeral=True) for n, key in ((2, "x"), (3, "y"))], 0.0)
    store.feed(on=True)
    store.set_down("b", 1.0, down=True)
    store.take_updates()
    put(store, "y", "mine", 2.0)
    assert store.expire(5.0) == 1
    seen = [one.key for one in store.take_updates() if isinstance(one, RegisterUpdate)]
    assert seen == ["y"], "nobody saw the other one go"
    store.set_down("b", 6.0, down=False)
    assert list(store.keys()) == ["y"]
    check(store)


def test_who_is_forgotten_takes_its_values_along_and_they_are_purged_like_any() -> None:
    store = store_of(A, B)
    store.merge([lease("x", "v", B, 2, ephemeral=True), lease("y", "v", B, 3, expires_at=at(9 * DAY))], 0.0)
    store.set_down("b", 1.0, down=True)
    store.forget(Kind.MEMBER, "b")
    store.settle("b")
    assert state(store, "x") == AGES
    assert list(store.keys()) == ["y"]
    assert store.purge(1.0 + DAY, DAY) == 1
    assert store.get(Kind.REGISTER, "x") is None
    assert store.floor == {B: 2}
    check(store)


def test_who_is_forgotten_and_comes_back_brings_what_is_not_purged() -> None:
    store = store_of(A, B)
    store.merge([lease("x", "v", B, 2, ephemeral=True)], 0.0)
    store.forget(Kind.MEMBER, "b")
    store.merge([member(B, 3, incarnation=2)], 5.0)
    assert state(store, "x") == SHOWN
    check(store)


def test_accusations_come_and_go_without_a_word_to_leases() -> None:
    store = store_of(A, B)
    store.merge([lease("x", "v", B, 2, ephemeral=True)], 0.0)
    store.write(Kind.ACCUSATION, ("b", "a"), None, 0.0)
    store.forget(Kind.ACCUSATION, ("b", "a"))
    assert state(store, "x") == SHOWN


# What was there before never comes back


def cut_off() -> tuple[Store, Store, Record]:
    """Two stores of one value; on the first it was leased anew since, which the second has not heard of."""
    here, away = store_of(A, B), store_of(B, A)
    put(here, "x", "old")
    pull(away, here)
    pull(here, away)
    return here, away, put_lease(here, "x", "new", 1.0, ttl=10.0)


def test_once_a_lease_is_over_the_older_value_is_gone_for_good() -> None:
    here, away, _ = cut_off()
    here.expire(11.0)
    pull(away, here, 12.0)
    assert value(here, "x") is None
    assert value(away, "x") is None
    pull(here, away, 12.0)
    assert value(here, "x") is None
    assert here.fingerprint == away.fingerprint
    assert here.coverage == away.coverage


def test_not_even_from_a_node_that_was_cut_off_until_it_was_purged() -> None:
    here, away, over = cut_off()
    here.expire(11.0)
    assert here.purge(10.9 + DAY, DAY) == 0
    assert here.purge(11.0 + DAY, DAY) == 1, "its retention counts from its end"
    assert here.get(Kind.REGISTER, "x") is None
    assert here.floor == {A: over.sequence}
    delta = pull(away, here, 12.0 + DAY)
    assert delta.full
    assert value(away, "x") is None
    pull(here, away, 13.0 + DAY)
    assert value(here, "x") is None


def test_nor_if_the_lease_was_superseded_and_what_superseded_it_is_gone() -> None:
    here, away, leased = cut_off()
    pull(away, here, 2.0)
    old = register("x", "old", A, 2, clock=leased.clock - 1)
    put(away, "x", "newest", 3.0)
    assert [record.dot for record in graves(away)] == [leased.dot]
    assert away.tombstones == 1
    away.forget(Kind.REGISTER, "x")
    third = store_of(C, A, B)
    third.merge_superseded([leased], 3.0)
    third.merge([old], 3.0)
    assert value(third, "x") is None, "the superseded lease guards the slot, live or not"
    assert away.purge(2.9 + DAY, DAY) == 0
    assert away.purge(3.0 + DAY, DAY) == 1, "superseded, it ages from then on"
    assert away.floor == {A: leased.sequence}
    check(away)


def test_a_lease_that_comes_as_superseded_takes_out_what_it_wins_over() -> None:
    store = store_of(A, B)
    store.feed(on=True)
    store.merge([register("x", "old", B, 2, clock=2)], 0.0)
    late = lease("x", "v", B, 3, clock=3, expires_at=at(50))
    store.merge_superseded([late], 1.0)
    assert value(store, "x") is None
    assert store.get(Kind.REGISTER, "x") is None
    assert [record.dot for record in graves(store)] == [late.dot]
    assert store.expire(60.0) == 0
    check(store)


def test_a_lease_that_is_guarded_against_goes_into_its_grave_at_once() -> None:
    store = store_of(A)
    store.merge_superseded([register("x", None, C, 1, clock=9)], 0.0)
    store.merge([lease("x", "v", B, 1, clock=3, expires_at=at(50))], 1.0)
    assert value(store, "x") is None
    assert sorted(record.dot for record in graves(store)) == [Dot(B, 1), Dot(C, 1)]
    assert store.tombstones == 2
    check(store)


def test_of_one_writer_that_leases_and_deletes_the_last_word_is_kept() -> None:
    store = store_of(A)
    put_lease(store, "x", "v", 0.0, ttl=10.0)
    deleted = put(store, "x", None, 1.0)
    assert graves(store) == []
    put_lease(store, "x", "v", 2.0, ttl=10.0)
    assert graves(store) == []
    assert store.tombstones == 0, "the lease guards against all that the deletion did"
    assert store.coverage.covers(*deleted.dot)


def test_a_full_delta_takes_away_a_lease_that_the_sender_has_purged() -> None:
    here = store_of(A, B)
    here.merge([lease("x", "v", B, 2, expires_at=at(99))], 0.0)
    here.complete(Delta(Digest(), Digest(Coverage({B: 2}), floor={B: 2}), full=True), Coverage())
    assert value(here, "x") is None
    assert (here.live, here.next_expiry()) == (0, math.inf)
    check(here)


@pytest.mark.parametrize("moment", [1.0, 20.0])
def test_a_repair_brings_a_lease_that_is_missing_and_leaves_one_that_is_there(moment: float) -> None:
    here, there = store_of(A), store_of(B, A)
    leased = put_lease(there, "x", "v", 0.0, ttl=10.0)
    pull(here, there)
    here.expire(moment)
    before, tombstones = here.get(Kind.REGISTER, "x"), dict(here._aside.tombstones)
    assert pull(here, there, moment, repair=True).records
    assert here.get(Kind.REGISTER, "x") is before
    assert here._aside.tombstones == tombstones
    here.forget(Kind.REGISTER, "x")
    copy = lease("x", "v", B, leased.sequence, leased.clock, expires_at=lease_of(leased).expires_at)
    assert here.merge([copy], moment, repair=True) == [copy]
    assert (value(here, "x") is not None) == (moment < 10.0)
    check(here)


# Disks


def test_leases_come_back_from_a_disk_as_they_were() -> None:
    store = store_of(A, B, C)
    shadow = Shadow(store)
    store.merge(
        [
            lease("over", "v", B, 2, expires_at=at(5)),
            lease("lasting", "v", B, 3, expires_at=at(50)),
            lease("dead", "v", B, 4, ephemeral=True),
            lease("shown", "v", C, 2, ephemeral=True),
            lease("lost", "v", Origin("d", 1), 1, ephemeral=True),
        ],
        0.0,
    )
    store.set_down("b", 1.0, down=True)
    store.expire(6.0)
    shadow.follow(store)
    loaded = shadow.check(store, 7.0)
    assert list(loaded.keys()) == ["lasting", "shown"]
    loaded.set_down("b", 8.0, down=False)
    assert list(loaded.keys()) == ["dead", "lasting", "shown"]
    loaded.merge([member(Origin("d", 1), 2)], 8.0)
    assert list(loaded.keys()) == ["dead", "lasting", "lost", "shown"]
    assert loaded.expire(50.0) == 1


def test_what_ended_while_the_node_was_down_is_not_seen_again() -> None:
    store = store_of(A)
    shadow = Shadow(store)
    put_lease(store, "x", "v", 0.0, ttl=10.0)
    put_lease(store, "y", "v", 0.0, ttl=10.0, ephemeral=True)
    shadow.follow(store)
    loaded = shadow.load(20.0, UNIX)
    assert list(loaded.keys()) == []
    loaded.write(Kind.MEMBER, "a", Member(2, "a:1"), 20.0)
    assert list(loaded.keys()) == []
    assert loaded.purge(19.0 + DAY, DAY) == 0, "its retention counts from when the node saw it"
    assert loaded.purge(20.0 + DAY, DAY) == 2
