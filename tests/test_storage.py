"""A node's state on disk: what goes in comes out, what a ticket promises, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip_grpc import Config, Node
from gossip_grpc.core.coverage import Coverage
from gossip_grpc.core.journal import Area, Changes, Kept, Knowledge
from gossip_grpc.core.records import Dot, Kind, Lease, Origin, Record
from gossip_grpc.core.store import Store
from gossip_grpc.core.sync import Digest
from gossip_grpc.errors import ConfigError, GossipError, LocalError, Reason, UnavailableError
from gossip_grpc.storage import copies, files, schema, writer
from gossip_grpc.storage.files import Directory
from gossip_grpc.storage.schema import Head, Origins
from gossip_grpc.storage.writer import Contents, Storage
from tests import samples
from tests.samples import A, B, register

OFFSET = 1_000_000.0
"""Unix time less the steady clock, as these tests have it."""

PATIENCE = 30.0
"""Seconds that anything may take before a test fails."""

big_numbers = st.sampled_from([1, 2**62, 2**63 - 1, 2**63, 2**64 - 1])
big_amounts = st.sampled_from([-(2**63), -1, 2**63 - 1])
big_sums = st.tuples(big_numbers, big_numbers)
origins = st.builds(Origin, samples.few_names, big_numbers)
leases = st.builds(Lease, samples.few_values, st.sampled_from([0, 1, 2**62]), st.booleans())


@st.composite
def leased(draw: st.DrawFn) -> Record:
    record = draw(samples.registers(origins=origins, numbers=big_numbers))
    return Record(Kind.REGISTER, record.slot, record.origin, record.sequence, 1, draw(leases))


any_record = st.one_of(
    samples.registers(origins=origins, numbers=big_numbers),
    leased(),
    samples.shares(origins=origins, numbers=big_numbers, sums=big_sums),
    samples.resets(origins=origins, numbers=big_numbers, sums=big_sums, about=origins),
    samples.receipts(origins=origins, numbers=big_numbers, sums=big_sums, amounts=big_amounts),
    samples.voids(origins=origins, numbers=big_numbers, sums=big_sums, about=origins, amounts=big_amounts),
    samples.elements(origins=origins, numbers=big_numbers, about=origins),
    samples.members(origins=origins, numbers=big_numbers),
    samples.accusations(origins=origins, numbers=big_numbers),
).map(lambda record: Record(record.kind, record.slot, record.origin, record.sequence, 2**62, record.content))


@contextlib.contextmanager
def memory() -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.create(connection, Head("c", "a", 1))
        yield connection


# What goes in comes out


@given(any_record, st.sampled_from(Area), st.one_of(st.none(), st.sampled_from([0.0, 1.5, -3.25])))
def test_a_record_of_any_kind_and_area_comes_back_as_it_was(record: Record, area: Area, since: float | None) -> None:
    kept = Kept(record, area, since)
    with memory() as connection:
        numbers = Origins(connection)
        connection.execute(schema.INSERT_RECORD, schema.row(kept, OFFSET, numbers.id))
        (found,) = schema.read_records(connection, Origins(connection), OFFSET)
    assert found == kept
    assert type(found.record.content) is type(record.content)


@given(big_numbers, st.lists(st.tuples(big_numbers, big_numbers), max_size=2), big_numbers, big_numbers)
def test_knowledge_comes_back_as_it_was(sequence: int, above: list[tuple[int, int]], floor: int, context: int) -> None:
    knowledge = Knowledge(sequence, tuple(above), floor, context)
    with memory() as connection:
        Origins(connection).write(A, knowledge)
        assert Origins(connection).read() == {A: knowledge}
        Origins(connection).write(A, None)
        assert Origins(connection).read() == {}


def test_what_sqlite_shows_is_readable() -> None:
    kept = [Kept(register("k", "text"), Area.SLOT), Kept(register("b", b"\x00", sequence=2), Area.SLOT)]
    with memory() as connection:
        numbers = Origins(connection)
        for one in kept:
            connection.execute(schema.INSERT_RECORD, schema.row(one, OFFSET, numbers.id))
        shown = connection.execute("SELECT key, value, typeof(value) FROM records ORDER BY key").fetchall()
    assert shown == [("b", b"\x00", "blob"), ("k", "text", "text")]


# A storage and a store that it follows


class Followed:
    """A store, and the storage that follows it."""

    def __init__(self, path: Path, node_id: str = "a", generation: int = 1) -> None:
        self.storage = Storage(path, "c", node_id)
        self.contents: Contents = self.storage.open(generation, OFFSET)
        origin, clock, kept, known, folded, reserved, fresh = self.contents
        self.store = Store(origin) if fresh else Store.load(origin, clock, kept, known, folded)
        self.store.reserved = reserved
        self.store.keep_journal(known=not fresh)

    def submit(self) -> int:
        changes = self.store.take_changes()
        return self.storage.ticket if changes is None else self.storage.submit(changes, OFFSET)

    async def save(self) -> None:
        await self.storage.saved(self.submit())


@contextlib.asynccontextmanager
async def followed(path: Path, node_id: str = "a", generation: int = 1) -> AsyncIterator[Followed]:
    made = Followed(path, node_id, generation)
    made.storage.start()
    try:
        async with asyncio.timeout(PATIENCE):
            yield made
    finally:
        await made.storage.close()


def contents(store: Store) -> tuple[set[Kept], Mapping[Origin, Knowledge | None], Mapping[str, int], int]:
    changes = store.snapshot()
    known = {origin: knowledge for origin, knowledge in changes.origins.items() if knowledge is not None}
    plain = {Kept(one.record, one.area, one.since) for one in changes.kept}
    return plain, known, changes.folded, changes.clock


class Held:
    """Holds up a storage's commits until they are let go."""

    def __init__(self, storage: Storage) -> None:
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.sizes: list[int] = []
        commit = storage._commit

        def slow(batch: writer.Batch, *, closing: bool) -> None:
            self.sizes.append(len(batch.kept))
            self.entered.set()
            assert self.go_on.wait(PATIENCE)
            commit(batch, closing=closing)

        storage._commit = slow  # type: ignore[method-assign]

    async def in_commit(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, PATIENCE)


async def test_a_store_comes_back_whole(tmp_path: Path) -> None:
    async with followed(tmp_path / "d") as one:
        store = one.store
        store.write(Kind.REGISTER, "x", "old", 0)
        await one.save()
        store.write(Kind.REGISTER, "x", "new", 1)
        store.write(Kind.REGISTER, "y", b"\xff", 1)
        store.write(Kind.REGISTER, "y", None, 2)
        store.write(Kind.COUNTER_SHARE, ("n", store.origin), (2**64 - 1, 3), 2)
        store.merge([register("z", "theirs", B, 7), register("x", "lost", B, 3, clock=1)], 3)
        await one.save()
        store.write(Kind.REGISTER, "y", "again", 4)  # the deletion goes into a grave
        await one.save()
        before = contents(store)
        clock = store.clock.time
    async with followed(tmp_path / "d", generation=99) as two:
        assert two.contents.origin == Origin("a", 1)
        assert two.contents.clock == clock
        assert contents(two.store) == before
        assert {one.area for one in before[0]} == set(Area)
        assert two.store.write(Kind.REGISTER, "w", "1", 5).sequence == store.coverage.sequence(store.origin) + 1


@given(st.data())
def test_many_changes_add_up_to_the_store(data: st.DataObject) -> None:
    """Whatever is merged into what batch, what is on disk is the store."""
    store, peer = Store(A), Store(B)
    store.keep_journal()
    whole = writer.Batch()
    with memory() as connection:
        numbers = Origins(connection)

        def write(batch: writer.Batch) -> None:
            for origin, knowledge in batch.origins.items():
                numbers.write(origin, knowledge)
            connection.executemany(
                schema.DELETE_RECORD,
                [(number, schema.pack(n)) for o, n in batch.gone if (number := numbers.known(o)) is not None],
            )
            rows = [schema.row(kept, OFFSET, numbers.id) for kept in batch.kept.values()]
            connection.executemany(schema.INSERT_RECORD, rows)

        for step in range(data.draw(st.integers(1, 12))):
            key = data.draw(st.sampled_from("xy"))
            value = data.draw(st.sampled_from(["1", b"2", None]))
            match data.draw(st.sampled_from(["own", "theirs", "sync", "purge", "absorb", "write"])):
                case "own":
                    store.write(Kind.REGISTER, key, value, step)
                case "theirs":
                    store.merge([peer.write(Kind.REGISTER, key, value, step)], step)
                case "sync":
                    peer.complete(_merged(peer, store, step))
                    store.complete(_merged(store, peer, step))
                case "purge":
                    store.purge(step, 1)
                case "absorb":
                    later = writer.Batch()
                    _take(store, later)
                    if later.ticket:
                        whole.absorb(later)
                case _:
                    _take(store, whole)
                    write(whole)
                    whole = writer.Batch()
        _take(store, whole)
        write(whole)
        found = list(schema.read_records(connection, numbers, OFFSET))
        known = numbers.read()
    loaded = Store.load(store.origin, store.clock.time, found, known, {})
    assert contents(loaded) == contents(store)


def _take(store: Store, batch: writer.Batch) -> None:
    changes = store.take_changes()
    if changes is not None:
        batch.add(changes, OFFSET, batch.ticket + 1)


def _merged(into: Store, source: Store, now: float) -> Any:
    delta = source.delta(Digest(into.coverage.copy(), dict(into.floor), into.context, into.fingerprint))
    into.merge(list(delta.records), now)
    into.merge_superseded(list(delta.superseded), now)
    return delta


async def test_what_waits_is_written_in_one_commit(tmp_path: Path) -> None:
    async with followed(tmp_path / "d") as one:
        held = Held(one.storage)
        one.store.write(Kind.REGISTER, "first", "1", 0)
        first = one.submit()
        await held.in_commit()
        for index in range(50):
            one.store.write(Kind.REGISTER, f"k{index}", "1", 0)
            one.submit()
        held.go_on.set()
        await one.storage.saved(first + 50)
        assert held.sizes == [1, 50]
        await one.storage.saved(first)


async def test_a_ticket_is_good_once_its_commit_is_and_not_before(tmp_path: Path) -> None:
    async with followed(tmp_path / "d") as one:
        held = Held(one.storage)
        one.store.write(Kind.REGISTER, "x", "1", 0)
        waiting = asyncio.ensure_future(one.save())
        await held.in_commit()
        assert not waiting.done()
        held.go_on.set()
        await waiting


async def test_only_own_writes_hold_up_what_peers_may_see(tmp_path: Path) -> None:
    async with followed(tmp_path / "d") as one:
        held = Held(one.storage)
        one.store.merge([register("x", "theirs", B)], 0)
        one.submit()
        await held.in_commit()
        await one.storage.own_saved()
        one.store.write(Kind.REGISTER, "x", "ours", 0)
        one.submit()
        with pytest.raises(LocalError, match="not shown before: the disk is slow") as caught:
            await one.storage.own_saved(patience=0.01)
        assert caught.value.reason is Reason.DISK_FAILED
        held.go_on.set()
        await one.storage.own_saved()


# Ends that were not in order


def crash_image(path: Path, target: Path) -> Path:
    """The directory as a crash right now would leave it."""
    return Path(shutil.copytree(path, target))


async def test_after_a_crash_no_sequence_and_no_clock_comes_again(tmp_path: Path) -> None:
    async with followed(tmp_path / "d") as one:
        one.store.write(Kind.REGISTER, "x", "saved", 0)
        await one.save()
        Held(one.storage).go_on.set()
        memory_only = one.store.write(Kind.REGISTER, "y", "in memory", 0)
        image = crash_image(tmp_path / "d", tmp_path / "image")
    async with followed(image, generation=99) as two:
        assert two.contents.origin == Origin("a", 1)
        assert two.store.coverage == Coverage({Origin("a", 1): 1})  # who covers more knows that it is an old copy
        later = two.store.write(Kind.REGISTER, "z", "later", 0)
        assert later.sequence > memory_only.sequence
        assert later.clock > memory_only.clock
        # Nobody has seen what was lost: it counts as covered, so that no hole is left in what others cover.
        assert two.store.coverage == Coverage({Origin("a", 1): later.sequence})
        assert two.store.context == {Origin("a", 1): later.sequence}
        assert [kept.record.content for kept in two.contents.kept] == ["saved"]


async def test_after_many_crashes_in_a_row_the_reserves_still_hold(tmp_path: Path) -> None:
    seen: set[int] = set()
    path = tmp_path / "0"
    for crash in range(1, 5):
        async with followed(path) as one:
            sequence = one.store.write(Kind.REGISTER, "x", "1", 0).sequence
            assert sequence not in seen
            seen.add(sequence)
            path = crash_image(path, tmp_path / str(crash))


async def test_writes_are_refused_before_they_pass_the_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RESERVE", 100)
    monkeypatch.setattr(writer, "MARGIN", 10)
    async with followed(tmp_path / "d") as one:
        held = Held(one.storage)
        store, storage = one.store, one.storage

        def write() -> None:
            storage.check_writable(store.origin, store.next_sequence)
            store.write(Kind.REGISTER, "x", "1", 0)
            one.submit()

        for _ in range(90):
            write()
        with pytest.raises(LocalError, match="changes behind, and nothing was changed") as caught:
            write()
        assert caught.value.reason is Reason.DISK_FAILED
        held.go_on.set()
        await storage.saved(storage.ticket)
        write()


async def test_another_generation_of_its_own_is_kept(tmp_path: Path) -> None:
    async with followed(tmp_path / "d") as one:
        one.store.write(Kind.REGISTER, "x", "1", 0)
        await one.save()
        one.store.renew(7)
        with pytest.raises(LocalError):
            one.storage.check_writable(one.store.origin, 0)  # not before its sequences are reserved
        one.store.write(Kind.REGISTER, "y", "1", 0)
        await one.save()
        one.storage.check_writable(one.store.origin, 1)
    async with followed(tmp_path / "d") as two:
        assert two.contents.origin == Origin("a", 7)
        assert two.store.coverage == Coverage({Origin("a", 1): 1, Origin("a", 7): 1})


async def test_folded_generations_are_kept(tmp_path: Path) -> None:
    async with followed(tmp_path / "d") as one:
        changes = Changes(one.store.origin, 5, 0, [], [], {B: Knowledge(3)}, {}, own=False)
        one.storage.submit(changes, OFFSET)
        folded = Changes(one.store.origin, 5, 0, [], [Dot(B, 3)], {B: None}, {"b": 1}, own=False)
        await one.storage.saved(one.storage.submit(folded, OFFSET))
    async with followed(tmp_path / "d") as two:
        assert two.contents.folded == {"b": 1}
        assert B not in two.contents.origins


# What is refused, with nothing changed


def refused(path: Path, cluster: str = "c", node_id: str = "a") -> str:
    """Open a directory that must be refused; returns what is said."""
    with pytest.raises(ConfigError) as caught:
        Storage(path, cluster, node_id).open(1, OFFSET)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    """A directory that a node has stopped on in order."""
    async with followed(tmp_path / "d") as one:
        for index in range(2000):
            one.store.write(Kind.REGISTER, f"key {index}", "v" * 50, 0)
        await one.save()
    return tmp_path / "d"


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("mine")
    assert "is a file" in refused(tmp_path / "f")
    assert "is a file" in refused(tmp_path / "f" / "below")
    assert (tmp_path / "f").read_text() == "mine"


def test_a_directory_that_cannot_be_written_to_is_refused(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert "read-only file system; give a directory that this user may write to" in refused(small_disk / "d")
    assert "read-only file system" in refused(small_disk)


def test_a_disk_without_room_for_a_database_is_refused(small_disk: Path) -> None:
    _fill(small_disk)
    message = refused(small_disk / "d")
    assert "no space left" in message or "full" in message


@pytest.mark.parametrize("left", [0, 1, 50, 5000, 60_000])
def test_a_database_that_was_cut_off_is_refused_and_left_alone(directory: Path, left: int) -> None:
    database = directory / files.DATABASE
    torn = database.read_bytes()[:left]
    database.write_bytes(torn)
    message = refused(directory)
    assert "cut off" in message or "damaged" in message or "no database" in message
    assert database.read_bytes() == torn
    assert {path.name for path in directory.iterdir()} == {files.DATABASE, files.LOCK}


@pytest.mark.parametrize("page", [0, 1, 3, 20])
def test_a_database_with_a_damaged_page_is_refused_and_left_alone(directory: Path, page: int) -> None:
    database = directory / files.DATABASE
    raw = bytearray(database.read_bytes())
    begin = page * 4096 + (100 if page == 0 else 0)  # behind the header of the file
    raw[begin : begin + 400] = b"\xa5" * 400
    database.write_bytes(raw)
    assert "damaged" in refused(directory)
    assert database.read_bytes() == raw


def test_a_record_that_no_version_writes_is_damage(directory: Path) -> None:
    with contextlib.closing(sqlite3.connect(directory / files.DATABASE)) as connection, connection:
        connection.execute("UPDATE records SET kind = 77 WHERE sequence = 1")
    assert "damaged (77 is not a valid Kind)" in refused(directory)


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / files.DATABASE).write_text("a text, and longer than the magic of SQLite")
    assert "no database of gossip-grpc" in refused(tmp_path)
    (tmp_path / files.DATABASE).unlink()
    with contextlib.closing(sqlite3.connect(tmp_path / files.DATABASE)) as connection, connection:
        connection.execute("CREATE TABLE bookmarks (id)")
    before = (tmp_path / files.DATABASE).read_bytes()
    assert "database of another program" in refused(tmp_path)
    assert (tmp_path / files.DATABASE).read_bytes() == before


def test_a_directory_of_another_node_or_cluster_is_refused(directory: Path) -> None:
    before = (directory / files.DATABASE).read_bytes()
    assert "node_id 'a', and this node's is 'b'" in refused(directory, node_id="b")
    assert "cluster 'c', and this node's is 'other'" in refused(directory, cluster="other")
    assert (directory / files.DATABASE).read_bytes() == before


async def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    async with followed(tmp_path / "d"):
        assert "in use by another process (pid" in refused(tmp_path / "d")
    async with followed(tmp_path / "d"):
        pass


def test_a_newer_format_is_refused(directory: Path) -> None:
    with contextlib.closing(sqlite3.connect(directory / files.DATABASE)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.FORMAT + 1}")
    before = (directory / files.DATABASE).read_bytes()
    assert f"has format {schema.FORMAT + 1}, and this version of gossip-grpc knows {schema.FORMAT}" in refused(
        directory
    )
    assert (directory / files.DATABASE).read_bytes() == before


def test_a_log_without_its_database_is_refused(directory: Path) -> None:
    (directory / files.DATABASE).unlink()
    (directory / (files.DATABASE + "-wal")).write_bytes(b"what a node wrote last")
    assert "put that back" in refused(directory)


async def test_an_older_format_is_migrated(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def step(number: int, statement: str) -> Any:
        def migrate(connection: sqlite3.Connection) -> None:
            steps.append(number)
            connection.execute(statement)

        return migrate

    newest = schema.FORMAT + 2
    monkeypatch.setattr(schema, "FORMAT", newest)
    broken = {newest - 2: step(1, "CREATE TABLE more (id)"), newest - 1: step(2, "no statement")}
    monkeypatch.setattr(schema, "MIGRATIONS", broken)
    assert "syntax error" in refused(directory)
    assert _format(directory) == newest - 1  # the first step has been made, the second one not at all
    whole = {newest - 1: step(3, "INSERT INTO more VALUES (5)")}
    monkeypatch.setattr(schema, "MIGRATIONS", whole)
    async with followed(directory) as one:
        assert one.contents.origin == Origin("a", 1)
        assert len(one.contents.kept) == 2000
    assert steps == [1, 2, 3]
    assert _format(directory) == newest


def _format(directory: Path) -> int:
    with contextlib.closing(sqlite3.connect(directory / files.DATABASE)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


async def _mended(storage: Storage | None) -> None:
    """Wait until a storage writes again, which it tries by itself."""
    assert storage is not None
    while True:
        if not storage.error:
            return
        await asyncio.sleep(0.01)  # between two looks


def _fill(disk: Path) -> Path:
    """Fill a file system to its last byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 16, 1 << 10, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    return filler


# A full disk


async def test_a_full_disk_stops_writes_until_there_is_room_and_loses_nothing(small_disk: Path) -> None:
    config = Config(node_id="a", peer_listen="127.0.0.1:0", client_listen="127.0.0.1:0", data_dir=str(small_disk / "d"))
    async with asyncio.timeout(PATIENCE), Node(config) as node:
        await node.kv.put("before", "1")
        filler = _fill(small_disk)
        pending: list[int] = []
        failure: GossipError | None = None
        while failure is None:
            pending.append(len(pending))
            try:
                await node.kv.put(f"k{pending[-1]}", "v" * 5000)
            except GossipError as error:
                failure = error
        assert "in the node's memory, and not yet on its disk" in str(failure)
        assert failure.reason == Reason.NOT_ON_DISK
        with pytest.raises(UnavailableError, match="the disk is full") as caught:
            await node.kv.put("after", "1", durability="memory")
        assert caught.value.reason == Reason.DISK_FAILED
        assert (await node.kv.get(f"k{pending[-1]}")).value == "v" * 5000
        status = await node.status()
        assert "full" in status.storage.error
        assert status.storage.pending_changes
        with pytest.raises(LocalError, match="not shown before"):
            await node.scheduler.may_show()
        filler.unlink()
        await _mended(node.storage)
        await node.kv.put("after", "1")
        await node.scheduler.may_show()
        image = crash_image(small_disk / "d", small_disk / "image")
    found = {kept.record.slot for kept in copies.records(image) if kept.record.kind is Kind.REGISTER}
    assert found == {"before", "after", *(f"k{index}" for index in pending)}


async def test_peers_are_refused_only_while_very_much_waits_for_a_failing_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_PENDING", 2)
    monkeypatch.setattr(writer, "RETRY_INTERVAL", 0.01)
    async with followed(tmp_path / "d") as one:
        commit = one.storage._commit
        failing = True

        def failing_commit(batch: writer.Batch, *, closing: bool) -> None:
            if failing:
                raise sqlite3.OperationalError("disk I/O error")
            commit(batch, closing=closing)

        one.storage._commit = failing_commit  # type: ignore[method-assign]
        one.store.merge([register("x", "1", B)], 0)
        ticket = one.submit()
        with pytest.raises(LocalError, match="disk I/O error"):
            await one.storage.saved(ticket)
        one.storage.check_room()
        one.store.merge([register("y", "1", B, 2), register("z", "1", B, 3)], 0)
        last = one.submit()
        with pytest.raises(LocalError, match="wait for this node's disk"):
            one.storage.check_room()
        failing = False
        await _mended(one.storage)
        await one.storage.saved(last)
        one.storage.check_room()
    assert len(list(copies.records(tmp_path / "d"))) == 3


async def test_a_node_that_cannot_listen_lets_go_of_its_directory(tmp_path: Path) -> None:
    def config(port: int) -> Config:
        listen = f"127.0.0.1:{port}"
        return Config(node_id="a", peer_listen=listen, client_listen="127.0.0.1:0", data_dir=str(tmp_path / "d"))

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="cannot listen on"):
            async with Node(config(port)):
                pass
    async with Node(config(0)) as node:
        await node.kv.put("x", "1")
    assert copies.inspect(tmp_path / "d").head.closed


# Copies


async def test_a_backup_is_one_moment_of_a_node_that_goes_on(tmp_path: Path) -> None:
    async with followed(tmp_path / "d") as one:
        for index in range(300):
            one.store.write(Kind.REGISTER, f"k{index}", "1", 0)
        one.submit()
        copying = asyncio.ensure_future(one.storage.backup())
        for index in range(300, 600):
            one.store.write(Kind.REGISTER, f"k{index}", "1", 0)
            one.submit()
            await asyncio.sleep(0)
        copy = await copying
        assert copy.parent == tmp_path / "d"
        found = sorted(kept.record.sequence for kept in copies.records(copy))
        assert found == list(range(1, len(found) + 1))
        assert 300 <= len(found) <= 600
        known = copies.inspect(copy).origins
        assert known == {Origin("a", 1): Knowledge(len(found))}
        copy.rename(tmp_path / "backup.db")
    head = copies.restore(tmp_path / "backup.db", tmp_path / "r")
    assert head.restored
    async with followed(tmp_path / "r", generation=50) as two:
        assert two.contents.origin == Origin("a", 50)
        assert two.store.coverage == Coverage({Origin("a", 1): len(found)})
        two.store.write(Kind.REGISTER, "x", "1", 0)
        await two.save()
    async with followed(tmp_path / "r", generation=60) as three:
        assert three.contents.origin == Origin("a", 50)  # one new life is enough


async def test_a_restored_node_never_takes_an_older_generation(tmp_path: Path) -> None:
    async with followed(tmp_path / "d", generation=1000) as one:
        (await one.storage.backup()).rename(tmp_path / "b")
    copies.restore(tmp_path / "b", tmp_path / "r", "other")
    async with followed(tmp_path / "r", "other", generation=5) as two:
        assert two.contents.origin == Origin("other", 1001)


def test_only_a_sound_backup_and_an_empty_directory_will_do(directory: Path, tmp_path: Path) -> None:
    good = tmp_path / "good"
    shutil.copyfile(directory / files.DATABASE, good)
    with pytest.raises(ConfigError, match="is not empty, and is left as it is"):
        copies.restore(good, directory)
    bad = tmp_path / "bad"
    bad.write_bytes(good.read_bytes()[:9000])
    with pytest.raises(ConfigError, match=r"FILE: .*damaged"):
        copies.restore(bad, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match="is a file"):
        copies.restore(good, good)


async def test_looking_into_a_directory_changes_nothing(directory: Path) -> None:
    before = _bytes(directory)
    found = copies.inspect(directory)
    assert found.counts[Kind.REGISTER] == 2000
    assert found.head.closed
    assert len(list(copies.records(directory, "key 19"))) == 111
    assert _bytes(directory) == before
    async with followed(directory) as one:
        one.store.write(Kind.REGISTER, "x", "1", 0)
        await one.save()
        found = copies.inspect(directory)  # beside a running node
        assert found.counts[Kind.REGISTER] == 2001
        assert not found.head.closed


def _bytes(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_where_there_is_nothing_to_look_into_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no database"):
        copies.inspect(tmp_path)


async def test_overwrites_leave_the_file_as_large_as_its_content(tmp_path: Path) -> None:
    async with followed(tmp_path / "d") as one:
        for turn in range(20):
            for index in range(1000):
                one.store.write(Kind.REGISTER, f"k{index}", f"{turn}" + "v" * 100, 0)
            await one.save()
        assert one.storage.file_bytes < 16 << 20
    assert (tmp_path / "d" / files.DATABASE).stat().st_size < 2 << 20


def test_two_processes_do_not_run_on_one_directory(directory: Path) -> None:
    code = (
        "import sys; from gossip_grpc.storage.files import Directory; d = Directory(sys.argv[1]); d.lock(); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        assert f"pid {other.pid}" in refused(directory)
        other.communicate()
    free = Directory(directory)
    free.lock()
    free.unlock()
