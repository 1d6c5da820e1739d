"""The tables of the database, and what records and knowledge are in them.

Columns are native, so that `sqlite3` can read them. A record's key in the table is its dot, which names it for ever: an
overwrite is the end of one row and the begin of another. Generations, sequences and sums reach to 2^64 - 1, SQLite's
integers only to 2^63 - 1: what is above is kept as the negative number of the same 64 bits.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from gossip_grpc.core.journal import Area, Kept, Knowledge
from gossip_grpc.core.records import Accusation, Kind, Lease, Member, Origin, Receipt, Record

APPLICATION_ID = 0x676F7370
"""The `application_id` of our databases: "gosp" in ASCII."""

FORMAT = 2
"""The version of the tables, kept as `user_version`."""

MIGRATIONS: Mapping[int, Callable[[sqlite3.Connection], None]] = {
    1: lambda _: None,  # 2 has receipts and voids, in the same tables
}
"""Version -> what makes the next one of it, within a transaction."""

_TABLES = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value
) WITHOUT ROWID;
CREATE TABLE origins (
    id INTEGER PRIMARY KEY,
    node_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    sequence INTEGER NOT NULL DEFAULT 0, -- covered up to here
    above TEXT NOT NULL DEFAULT '[]',    -- ranges covered above it, JSON
    floor INTEGER NOT NULL DEFAULT 0,    -- highest sequence of a purged tombstone
    context INTEGER NOT NULL DEFAULT 0,  -- writes up to here are settled
    UNIQUE (node_id, generation)
);
CREATE TABLE folded (
    node_id TEXT PRIMARY KEY,
    generation INTEGER NOT NULL          -- all writes of generations up to this one are covered
) WITHOUT ROWID;
CREATE TABLE records (
    origin INTEGER NOT NULL,             -- who wrote it: origins.id
    sequence INTEGER NOT NULL,
    kind INTEGER NOT NULL,               -- 1 register, 2 share, 3 reset, 4 set element, 5 member, 6 accusation,
                                         -- 8 receipt, 9 void
    area INTEGER NOT NULL,               -- 1 content of its slot, 2 guard, 3 grave
    clock INTEGER NOT NULL,
    since REAL,                          -- Unix time from which the retention of a deletion counts
    key TEXT NOT NULL,                   -- of a member or an accusation: the node_id
    value,                               -- TEXT or BLOB; NULL for a deleted register; of an accusation the accuser,
                                         -- of a receipt the request_id
    about INTEGER,                       -- whose share or addition: origins.id
    first INTEGER,                       -- added; of an element the sequence of its addition
    second INTEGER,                      -- subtracted; of an element whether it is removed
    expires_at INTEGER,                  -- of a lease: Unix time in milliseconds, 0 for never; else NULL
    ephemeral INTEGER,                   -- of a lease
    facts TEXT,                          -- of a member or an accusation: JSON; of a receipt or a void: the amount
    PRIMARY KEY (origin, sequence)
) WITHOUT ROWID;
"""

_COLUMNS = "origin, sequence, kind, area, clock, since, key, value, about, first, second, expires_at, ephemeral, facts"
INSERT_RECORD = f"INSERT OR REPLACE INTO records ({_COLUMNS}) VALUES ({', '.join('?' * 14)})"  # noqa: S608  constants
DELETE_RECORD = "DELETE FROM records WHERE origin = ? AND sequence = ?"
_SELECT_RECORDS = f"SELECT {_COLUMNS} FROM records"  # noqa: S608  a constant
_INSERT_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_SHARES = (Kind.COUNTER_SHARE, Kind.COUNTER_RESET)
_TOP = 2**63

Row = tuple[Any, ...]


class Head(NamedTuple):
    """The table `meta`: whose database it is, and where its node may go on.

    Attributes:
        cluster: the cluster's name.
        node_id: the node's name.
        generation: the life that has written last.
        clock: the Lamport clock at the last commit.
        clock_reserve: no clock above it has been used for a write.
        sequence_reserve: no sequence above it has been given to anybody.
        closed: whether the node has stopped in order; then the reserves are what was used.
        restored: whether it comes from a backup, and the next node on it must take a new generation.
    """

    cluster: str
    node_id: str
    generation: int
    clock: int = 0
    clock_reserve: int = 0
    sequence_reserve: int = 0
    closed: bool = True
    restored: bool = False


def create(connection: sqlite3.Connection, head: Head) -> None:
    """Make the tables in an empty database, within a transaction."""
    for statement in _TABLES.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    write_head(connection, head)


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring a database of an older format into the present one, each step whole or not at all."""
    while version < FORMAT:
        connection.execute("BEGIN IMMEDIATE")
        try:
            MIGRATIONS[version](connection)
            version += 1
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def write_head(connection: sqlite3.Connection, head: Head) -> None:
    """Put down the table `meta`."""
    facts = head._asdict().items()
    connection.executemany(
        _INSERT_META, [(name, value if isinstance(value, str) else pack(value)) for name, value in facts]
    )


def read_head(connection: sqlite3.Connection) -> Head:
    """The table `meta`.

    Raises:
        ValueError: something is missing or is not what it should be.
    """
    found = dict(connection.execute("SELECT name, value FROM meta"))
    facts: dict[str, Any] = {}
    for name in Head._fields:
        if name not in found and name in Head._field_defaults:
            continue  # an older format has no such thing
        value = found.get(name)
        if not isinstance(value, str if name in ("cluster", "node_id") else int):
            raise ValueError(f"meta.{name} is {value!r}")
        facts[name] = value if isinstance(value, str) else unpack(value)
    head = Head(**facts)
    return head._replace(closed=bool(head.closed), restored=bool(head.restored))


def pack(number: int) -> int:
    """A number of 64 bits as SQLite keeps it."""
    return number if number < _TOP else number - 2 * _TOP


def unpack(number: int) -> int:
    """The number that SQLite keeps."""
    return number if number >= 0 else number + 2 * _TOP


class Origins:
    """The table `origins`: its ids, and the knowledge in it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._ids: dict[Origin, int] = {}
        self._by_id: dict[int, Origin] = {}
        self._last = 0
        self._new: list[Origin] = []  # since the last commit
        for number, node_id, generation in connection.execute("SELECT id, node_id, generation FROM origins"):
            origin = Origin(node_id, unpack(generation))
            self._ids[origin] = number
            self._by_id[number] = origin
            self._last = max(self._last, number)

    def id(self, origin: Origin) -> int:
        """The number that stands for an origin; a new one if there is none yet."""
        number = self._ids.get(origin)
        if number is None:
            number = self._last = self._last + 1
            self._connection.execute(
                "INSERT INTO origins (id, node_id, generation) VALUES (?, ?, ?)",
                (number, origin.node_id, pack(origin.generation)),
            )
            self._ids[origin] = number
            self._by_id[number] = origin
            self._new.append(origin)
        return number

    def end(self, *, committed: bool) -> None:
        """The transaction has ended; without a commit the numbers given in it are void."""
        if not committed:
            for origin in self._new:
                del self._by_id[self._ids.pop(origin)]
        self._new = []

    def known(self, origin: Origin) -> int | None:
        """The number that stands for an origin, if there is one."""
        return self._ids.get(origin)

    def origin(self, number: int) -> Origin:
        """The origin that a number stands for. KeyError if there is none."""
        return self._by_id[number]

    def write(self, origin: Origin, knowledge: Knowledge | None) -> None:
        """Put down what is known of an origin; None if nothing is any more."""
        sequence, above, floor, context = knowledge or Knowledge(0)
        ranges = json.dumps([[first, last] for first, last in above])
        self._connection.execute(
            "UPDATE origins SET sequence = ?, above = ?, floor = ?, context = ? WHERE id = ?",
            (pack(sequence), ranges, pack(floor), pack(context), self.id(origin)),
        )

    def read(self) -> dict[Origin, Knowledge]:
        """What is known of each origin, where anything is."""
        found = {}
        for number, sequence, above, floor, context in self._connection.execute(
            "SELECT id, sequence, above, floor, context FROM origins ORDER BY id"
        ):
            ranges = tuple((first, last) for first, last in json.loads(above))
            knowledge = Knowledge(unpack(sequence), ranges, unpack(floor), unpack(context))
            if knowledge != Knowledge(0):
                found[self._by_id[number]] = knowledge
        return found

    def sweep(self) -> None:
        """Let go of origins of which nothing is known and nothing is kept."""
        self._connection.execute(
            "DELETE FROM origins WHERE sequence = 0 AND above = '[]' AND floor = 0 AND context = 0 AND id NOT IN "
            "(SELECT origin FROM records UNION SELECT about FROM records WHERE about IS NOT NULL)"
        )


def row(kept: Kept, wall_offset: float, number: Callable[[Origin], int]) -> Row:
    """The row of a record.

    Args:
        kept: the record, as the store keeps it.
        wall_offset: what makes Unix time of the steady clock.
        number: gives the number of an origin.
    """
    record, area, since = kept
    kind: Kind = record.kind
    slot: Any = record.slot
    content = record.content
    key: str
    value: object = None
    about = first = second = expires_at = ephemeral = facts = None
    if kind is Kind.REGISTER:
        key, value = slot, content
        if type(content) is Lease:
            value, expires_at, ephemeral = content
    elif kind in _SHARES:
        key, about = slot[0], number(slot[1])
        first, second = pack(content[0]), pack(content[1])
    elif kind is Kind.SET_ELEMENT:
        key, value, about = slot[0], slot[1], number(slot[2])
        first, second = pack(content[0]), int(content[1])
    elif kind is Kind.COUNTER_RECEIPT:
        key, value = slot[0], slot[1]
        first, second = map(pack, content.mark)
        facts = str(content.amount)
    elif kind is Kind.COUNTER_VOID:
        key, about = slot[0], number(slot[2])
        first, second = map(pack, slot[1])
        facts = str(content)
    elif kind is Kind.MEMBER:
        key, facts = slot, json.dumps(content._asdict())
    else:
        (key, value), facts = slot, json.dumps(content._asdict())
    return (
        number(record.origin),
        pack(record.sequence),
        int(kind),
        int(area),
        pack(record.clock),
        None if since is None else since + wall_offset,
        key,
        value,
        about,
        first,
        second,
        expires_at,
        ephemeral,
        facts,
    )


def kept_of(found: Row, wall_offset: float, origin: Callable[[int], Origin]) -> Kept:
    """The record of a row; the inverse of `row`.

    Raises:
        ValueError, KeyError, TypeError: no record of this version makes such a row.
    """
    by, sequence, number, area, clock, since, key, value, about, first, second, expires_at, ephemeral, facts = found
    kind = Kind(number)
    slot: Any = key
    content: Any
    if kind is Kind.REGISTER:
        content = value if expires_at is None else Lease(value, expires_at, bool(ephemeral))
    elif kind in _SHARES:
        slot = (key, origin(about))
        content = (unpack(first), unpack(second))
    elif kind is Kind.SET_ELEMENT:
        slot = (key, value, origin(about))
        content = (unpack(first), bool(second))
    elif kind is Kind.COUNTER_RECEIPT:
        slot = (key, value, origin(by))
        content = Receipt(int(facts), (unpack(first), unpack(second)))
    elif kind is Kind.COUNTER_VOID:
        slot = (key, (unpack(first), unpack(second)), origin(about))
        content = int(facts)
    elif kind is Kind.MEMBER:
        content = Member(**json.loads(facts))
    else:
        slot = (key, value)
        content = Accusation(**json.loads(facts))
    record = Record(kind, slot, origin(by), unpack(sequence), unpack(clock), content)
    return Kept(record, Area(area), None if since is None else since - wall_offset)


def read_records(
    connection: sqlite3.Connection, origins: Origins, wall_offset: float, where: str = "", values: Iterable[Any] = ()
) -> Iterator[Kept]:
    """The records kept, in order of their writers and sequences."""
    for found in connection.execute(f"{_SELECT_RECORDS} {where}", tuple(values)):
        yield kept_of(found, wall_offset, origins.origin)


def read_folded(connection: sqlite3.Connection) -> dict[str, int]:
    """Up to which generation those of each node are folded."""
    return {name: unpack(number) for name, number in connection.execute("SELECT node_id, generation FROM folded")}


def write_folded(connection: sqlite3.Connection, folded: Mapping[str, int]) -> None:
    """Put down up to which generation those of some nodes are folded."""
    connection.executemany(
        "INSERT OR REPLACE INTO folded VALUES (?, ?)", [(name, pack(number)) for name, number in folded.items()]
    )
