"""The thread that follows a running node on disk, and what is known to be there.

The event loop hands over what has changed (`submit`) and goes on. The thread takes all that waits, the last state of
each record, and writes it in one transaction; so what is on disk is the node as it was at one moment, and under load
one commit serves many writers. A ticket tells when one's own part of it is on disk.

**What no crash may undo.** A node must not forget what its peers have learned from it: its sequences would name two
writes. So nothing that it has written itself leaves it before that is on disk (`own_saved`), and after a crash it is a
past state of itself that nobody has seen beyond. Clients may have: the token of a write that was acknowledged from
memory has its sequence. So sequences and clocks are reserved in advance, and a node that was not stopped in order goes
on behind its reserve. What lies between was never seen by a peer; the first write covers it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gossip_grpc.core.journal import Changes, Kept, Knowledge
from gossip_grpc.core.records import Origin
from gossip_grpc.errors import ConfigError, LimitError, LocalError, Reason
from gossip_grpc.logs import get_logger
from gossip_grpc.storage import copies, files, schema
from gossip_grpc.storage.files import Directory
from gossip_grpc.storage.schema import Head, Origins

RESERVE = 100_000
"""How many sequences are reserved at a time. Half of them must be used before the next are."""

CLOCK_RESERVE = 1 << 20
"""How far ahead the clock is reserved: each write is one tick, and there are fewer writes than sequences reserved."""

MARGIN = 20_000
"""Sequences of the reserve that are kept from clients: as many as one call may use, and the node's own."""

RETRY_INTERVAL = 1.0
"""Seconds between attempts to write while the disk fails."""

MAX_PENDING = 1_000_000
"""Changes that wait for a failing disk; beyond, the node takes no more from its peers either."""

PATIENCE = 2.0
"""Seconds that a peer's call waits for the disk before it is refused."""

_LOG_AGAIN = 30.0
"""Seconds after which a failure that lasts is logged again."""


class Contents(NamedTuple):
    """What a directory held when it was opened; the node goes on from there.

    Attributes:
        origin: who writes from now on.
        clock: its Lamport clock.
        kept: the records.
        origins: what is known of the origins.
        folded: up to which generation those of each node are folded.
        reserved: sequences up to it may have been given away, to be known to nobody but clients.
        fresh: whether the directory was new.
    """

    origin: Origin
    clock: int
    kept: list[Kept]
    origins: dict[Origin, Knowledge]
    folded: dict[str, int]
    reserved: int
    fresh: bool


class Batch:
    """Changes that are written together: of each record and origin the last state."""

    def __init__(self) -> None:
        self.kept: dict[tuple[Origin, int], Kept] = {}
        self.gone: set[tuple[Origin, int]] = set()
        self.origins: dict[Origin, Knowledge | None] = {}
        self.folded: dict[str, int] = {}
        self.origin: Origin | None = None
        self.clock = 0
        self.sequence = 0
        self.wall_offset = 0.0
        self.ticket = 0

    def __len__(self) -> int:
        return len(self.kept) + len(self.gone) + len(self.origins) + len(self.folded)

    def add(self, changes: Changes, wall_offset: float, ticket: int) -> None:
        """Take in what has changed since."""
        kept, gone = self.kept, self.gone
        for dot in changes.gone:
            kept.pop(dot, None)
            gone.add(dot)
        for one in changes.kept:
            record = one.record
            name = (record.origin, record.sequence)
            kept[name] = one
            gone.discard(name)
        self.origins.update(changes.origins)
        self.folded.update(changes.folded)
        self.origin, self.clock, self.sequence = changes.origin, changes.clock, changes.sequence
        self.wall_offset, self.ticket = wall_offset, ticket

    def absorb(self, later: Batch) -> None:
        """Take in the batch that follows."""
        for name in later.gone:
            self.kept.pop(name, None)
        self.gone |= later.gone
        self.gone -= later.kept.keys()
        self.kept.update(later.kept)
        self.origins.update(later.origins)
        self.folded.update(later.folded)
        self.origin, self.clock, self.sequence = later.origin, later.clock, later.sequence
        self.wall_offset, self.ticket = later.wall_offset, later.ticket


class Storage:
    """The state of one node on disk. All methods are for the event loop's thread.

    Args:
        path: the data directory.
        cluster: the cluster's name.
        node_id: the node's name.

    Attributes:
        error: why the last attempt to write failed; empty while all is well.
        commits: how many there were.
    """

    def __init__(self, path: str | Path, cluster: str, node_id: str) -> None:
        self.error = ""
        self.commits = 0
        self._directory = Directory(path)
        self._cluster = cluster
        self._node_id = node_id
        self._connection: sqlite3.Connection
        self._origins: Origins
        self._head: Head
        self._reserve: tuple[Origin, int]
        self._reserved = 0
        self._folded: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None
        self._wake = threading.Condition()
        self._pending = Batch()  # guarded by _wake, as the next two
        self._writing = 0
        self._closing = False
        self._ticket = self._own = self._saved = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._failed_at = 0.0
        self._log = get_logger(node_id=node_id)

    # Beginning and end

    def open(self, generation: int, wall_offset: float) -> Contents:
        """Lock the directory, and read what is in it.

        Args:
            generation: that of a new life, if the directory is new or its content comes from a backup.
            wall_offset: what makes Unix time of the steady clock.

        Raises:
            ConfigError: the directory or what is in it does not do; nothing was changed.
        """
        directory = self._directory
        directory.lock()
        try:
            fresh = not directory.database.exists()
            self._connection = directory.open(self._cluster, self._node_id, generation)
            try:
                return self._read(generation, wall_offset, fresh=fresh)
            except BaseException:
                self._connection.close()
                raise
        except BaseException:
            directory.unlock()
            raise

    def _read(self, generation: int, wall_offset: float, *, fresh: bool) -> Contents:
        connection, path = self._connection, self._directory.database
        try:
            head = schema.read_head(connection)
            origins = Origins(connection)
            known = origins.read()
            kept = list(schema.read_records(connection, origins, wall_offset))
            folded = schema.read_folded(connection)
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            raise ConfigError(files.damaged("data_dir", path, error)) from error
        origin = Origin(head.node_id, head.generation)
        clock = max(head.clock, head.clock_reserve)
        self._reserved = head.sequence_reserve
        if head.restored:
            # What its former life has written since the backup is its peers', and would be named twice.
            origin = Origin(head.node_id, max(generation, head.generation + 1))
            self._reserved = 0
        self._origins = origins
        self._head = head._replace(
            generation=origin.generation,
            clock=clock,
            clock_reserve=clock + CLOCK_RESERVE,
            sequence_reserve=self._reserved + RESERVE,
            closed=False,
            restored=False,
        )
        self._reserve = (origin, self._reserved + RESERVE)
        self._folded = dict(folded)
        return Contents(origin, clock, kept, known, folded, self._reserved, fresh)

    def start(self) -> None:
        """Reserve what a run needs, and begin to write; from here on by the running event loop.

        Raises:
            ConfigError: the disk does not do.
        """
        connection, head = self._connection, self._head
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._origins.sweep()
            schema.write_head(connection, head)
            connection.execute("COMMIT")
            self._origins = Origins(connection)
        except sqlite3.Error as error:
            path = self._directory.database
            raise ConfigError(f"data_dir: {path} cannot be written to: {files.explain(error)}") from error
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="storage", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Write what waits, note that the node has stopped in order, and let go of the directory."""
        if self._thread is not None:
            with self._wake:
                self._closing = True
                self._wake.notify()
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        self._fail("the node stops")
        self._connection.close()
        self._directory.unlock()

    # Following the node

    def submit(self, changes: Changes, wall_offset: float) -> int:
        """Hand over what has changed; returns the ticket that `saved` takes."""
        self._ticket += 1
        if changes.own:
            self._own = self._ticket
        with self._wake:
            self._pending.add(changes, wall_offset, self._ticket)
            self._wake.notify()
        return self._ticket

    @property
    def ticket(self) -> int:
        """The ticket of all that was handed over so far."""
        return self._ticket

    async def saved(self, ticket: int) -> None:
        """Wait until what the ticket stands for is on disk.

        Raises:
            LocalError: the disk fails. It is in memory, and will be written when the disk has mended.
        """
        if ticket <= self._saved:
            return
        if self.error:
            raise _not_yet(self.error)
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((ticket, waiter))
        await waiter

    async def own_saved(self, patience: float | None = PATIENCE) -> None:
        """Wait until all that this node has written itself so far is on disk: before that, no peer may see it.

        Raises:
            LocalError: the disk fails, or takes longer than `patience` seconds.
        """
        if self._own <= self._saved:
            return
        try:
            async with asyncio.timeout(patience):
                await self.saved(self._own)
        except LocalError as error:
            raise LocalError(
                f"this node's own writes are not on its disk yet, and are not shown before: {self.error or error}",
                reason=Reason.DISK_FAILED,
            ) from error
        except TimeoutError:
            raise LimitError(
                "this node's own writes are not on its disk yet, and are not shown before: the disk is slow; try again",
                reason=Reason.DISK_FAILED,
            ) from None

    def check_writable(self, origin: Origin, sequence: int) -> None:
        """Refuse a client's write that the disk may not be able to follow.

        Args:
            origin: who would write.
            sequence: of that write.

        Raises:
            LocalError: the disk fails, or is too far behind.
        """
        if self.error:
            raise LocalError(
                f"the node's disk cannot be written to, and nothing was changed: {self.error}; it goes on by itself "
                "once that is mended; ask another node meanwhile",
                reason=Reason.DISK_FAILED,
            )
        owner, reserve = self._reserve
        if owner != origin or sequence + MARGIN > reserve:
            raise LocalError(
                f"the node's disk is {self._ticket - self._saved:,} changes behind, and nothing was changed; write "
                "more slowly, or with durability DISK",
                reason=Reason.DISK_FAILED,
            )

    def check_room(self) -> None:
        """Refuse what peers send while too much waits for a disk that fails, or is too slow.

        Raises:
            LimitError: it does.
        """
        if self.pending > MAX_PENDING:
            raise LimitError(
                f"more than {MAX_PENDING:,} changes wait for this node's disk: {self.error or 'it is too slow'}",
                reason=Reason.DISK_FAILED,
            )

    @property
    def pending(self) -> int:
        """Changes that are not on disk yet."""
        return len(self._pending) + self._writing

    @property
    def file_bytes(self) -> int:
        """Bytes of the database and its log."""
        total = 0
        for name in (files.DATABASE, files.DATABASE + "-wal"):
            with contextlib.suppress(OSError):
                total += (self._directory.path / name).stat().st_size
        return total

    async def backup(self) -> Path:
        """Write a copy of all that is on disk, of one moment; returns the path, for the caller to delete.

        Raises:
            LocalError: the disk does not do.
        """
        await self.saved(self._ticket)
        return await asyncio.to_thread(copies.copy_database, self._directory.database)

    # What the thread reports

    def _report(self, ticket: int, reserve: tuple[Origin, int]) -> None:
        self.commits += 1
        self._saved = ticket
        self._reserve = reserve
        if self.error:
            self.error = ""
            self._log.info("writing to disk again")
        waiting, self._waiting = self._waiting, []
        for wanted, waiter in waiting:
            if wanted > ticket:
                self._waiting.append((wanted, waiter))
            elif not waiter.done():
                waiter.set_result(None)

    def _fail(self, error: str) -> None:
        waiting, self._waiting = self._waiting, []
        for _, waiter in waiting:
            if not waiter.done():
                waiter.set_exception(_not_yet(error))

    def _trouble(self, error: str) -> None:
        now = self._loop.time()
        if not self.error or now - self._failed_at >= _LOG_AGAIN:
            self._failed_at = now
            self._log.error("cannot write to disk; trying again", error=error, pending=self.pending)
        self.error = error
        self._fail(error)

    def _tell(self, what: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(what, *arguments)

    # The thread

    def _run(self) -> None:
        batch = Batch()
        while True:
            with self._wake:
                if not batch.ticket:
                    self._wake.wait_for(lambda: self._pending.ticket or self._closing)
                following, self._pending = self._pending, Batch()
                closing = self._closing
                if following.ticket:
                    batch.absorb(following)
                self._writing = len(batch)
            try:
                if batch.ticket or closing:
                    self._commit(batch, closing=closing)
            except Exception as error:  # noqa: BLE001  if this thread ended, all writers would wait for ever
                self._tell(self._trouble, files.explain(error))
                if closing:
                    return
                with self._wake:
                    self._wake.wait_for(lambda: self._closing, RETRY_INTERVAL)
                continue
            if closing:
                return
            with self._wake:
                self._writing = 0
            batch = Batch()

    def _commit(self, batch: Batch, *, closing: bool) -> None:
        head = self._next_head(batch, closing=closing)
        connection, origins = self._connection, self._origins
        connection.execute("BEGIN IMMEDIATE")
        try:
            for origin, knowledge in batch.origins.items():
                origins.write(origin, knowledge)
            connection.executemany(
                schema.DELETE_RECORD,
                (
                    (number, schema.pack(sequence))
                    for origin, sequence in batch.gone
                    if (number := origins.known(origin)) is not None
                ),
            )
            rows = (schema.row(kept, batch.wall_offset, origins.id) for kept in batch.kept.values())
            connection.executemany(schema.INSERT_RECORD, rows)
            folded = dict(batch.folded.items() - self._folded.items())
            schema.write_folded(connection, folded)
            schema.write_head(connection, head)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back itself where it could not go on
                connection.execute("ROLLBACK")
            origins.end(committed=False)
            raise
        origins.end(committed=True)
        self._folded.update(folded)
        self._head = head
        if batch.ticket:
            origin = Origin(head.node_id, head.generation)
            self._tell(self._report, batch.ticket, (origin, head.sequence_reserve))

    def _next_head(self, batch: Batch, *, closing: bool) -> Head:
        head = self._head._replace(closed=closing)
        if batch.origin is not None:
            if batch.origin.generation != head.generation:
                self._reserved = 0
            self._reserved = max(self._reserved, batch.sequence)
            head = head._replace(generation=batch.origin.generation, clock=batch.clock)
        if closing:  # nothing more is given away
            return head._replace(sequence_reserve=self._reserved, clock_reserve=head.clock)
        reserve, clock_reserve = head.sequence_reserve, head.clock_reserve
        if head.generation != self._head.generation or reserve - self._reserved < RESERVE // 2:
            reserve = self._reserved + RESERVE
        if clock_reserve - head.clock < CLOCK_RESERVE // 2:
            clock_reserve = head.clock + CLOCK_RESERVE
        return head._replace(clock_reserve=clock_reserve, sequence_reserve=reserve)


def _not_yet(error: str) -> LocalError:
    return LocalError(
        f"the write is in the node's memory, and not yet on its disk: {error}; it is written once the disk has mended, "
        "and must not be repeated",
        reason=Reason.NOT_ON_DISK,
    )
