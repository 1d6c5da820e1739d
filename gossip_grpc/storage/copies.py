"""Copies of a node's state: made while it runs, put back into an empty directory, and looked into without a change."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gossip_grpc.core.journal import Area, Changes, Kept, Knowledge
from gossip_grpc.core.records import Kind, Origin
from gossip_grpc.errors import ConfigError, LocalError, Reason
from gossip_grpc.storage import files, schema
from gossip_grpc.storage.schema import Head, Origins


class Summary(NamedTuple):
    """What is in a database.

    Attributes:
        path: the file.
        format: the version of its tables.
        head: whose it is.
        origins: what is known of each origin.
        folded: up to which generation those of each node are folded.
        counts: how many records of each kind hold a slot, deletions aside.
        tombstones: deletions and superseded ones.
        guards: superseded writes that are kept until they are settled.
        file_bytes: of the database and its log.
    """

    path: Path
    format: int
    head: Head
    origins: dict[Origin, Knowledge]
    folded: dict[str, int]
    counts: dict[Kind, int]
    tombstones: int
    guards: int
    file_bytes: int


def copy_database(source: Path) -> Path:
    """Copy a database while it is written to, as of one moment; returns the copy, beside it.

    Raises:
        LocalError: the disk does not do.
    """
    with (
        _temporary(source.parent) as target,
        contextlib.closing(sqlite3.connect(source, isolation_level=None, timeout=10)) as original,
        contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        original.backup(copy)  # in one step: so no commit meanwhile makes it begin anew
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        return target


def write_snapshot(cluster: str, changes: Changes, wall_offset: float) -> Path:
    """Make the database that a node without one would have; returns its path, among the temporary files.

    Raises:
        LocalError: the disk does not do.
    """
    node_id, generation = changes.origin
    with (
        _temporary(None) as target,
        contextlib.closing(sqlite3.connect(target, isolation_level=None)) as connection,
    ):
        connection.execute("BEGIN")
        schema.create(connection, Head(cluster, node_id, generation, changes.clock, changes.clock, changes.sequence))
        origins = Origins(connection)
        for origin, knowledge in changes.origins.items():
            origins.write(origin, knowledge)
        rows = [schema.row(kept, wall_offset, origins.id) for kept in changes.kept]
        connection.executemany(schema.INSERT_RECORD, rows)
        schema.write_folded(connection, changes.folded)
        connection.execute("COMMIT")
        return target


@contextlib.contextmanager
def _temporary(directory: Path | None) -> Iterator[Path]:
    """A new file for a copy, which goes if making the copy fails."""
    try:
        number, name = tempfile.mkstemp(prefix="backup-", suffix=files.NEW, dir=directory)
        os.close(number)
        try:
            yield Path(name)
        except BaseException:
            Path(name).unlink()
            raise
    except (OSError, sqlite3.Error) as error:
        raise LocalError(f"the copy cannot be made: {files.explain(error)}", reason=Reason.DISK_FAILED) from error


def restore(backup: Path, directory: Path, node_id: str | None = None) -> Head:
    """Put a backup into a directory, which must be empty or not there; the node that starts there begins a new life.

    Args:
        backup: the file.
        directory: the data directory to be.
        node_id: the name of the node that is to run there, if it is another one.

    Raises:
        ConfigError: the backup is damaged, or the directory is not empty or cannot be written to; nothing was changed.
    """
    head = files.check(backup, "FILE")
    head = head._replace(node_id=node_id or head.node_id, restored=True)
    try:
        if directory.exists() and any(directory.iterdir()):
            raise ConfigError(f"data_dir: {directory} is not empty, and is left as it is; give a new directory")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = directory / files.DATABASE
        new = target.with_name(target.name + files.NEW)
        try:
            new.touch(mode=0o600)
            with (
                contextlib.closing(files.connect_to_read(backup)) as source,
                contextlib.closing(sqlite3.connect(new, isolation_level=None)) as connection,
            ):
                source.backup(connection)  # with what is in a log beside it: it may be a copy of a killed node's files
                connection.execute("PRAGMA journal_mode = DELETE")
                connection.execute("BEGIN IMMEDIATE")
                schema.write_head(connection, head)
                connection.execute("COMMIT")
            files.settle(new)
            new.replace(target)
            files.settle(directory)
        finally:
            new.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(f"data_dir: {files.why_not(directory, error)}") from error
    return head


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a checked database that sees it as of one moment."""
    try:
        with contextlib.closing(files.connect_to_read(path)) as connection:
            connection.execute("BEGIN")
            yield connection
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        raise ConfigError(files.damaged("DATA-DIR", path, error)) from error


def database_of(path: Path) -> Path:
    """The database that a path stands for: a data directory, or the file itself, such as a backup.

    Raises:
        ConfigError: there is none.
    """
    database = path / files.DATABASE if path.is_dir() else path
    if not database.exists():
        raise ConfigError(f"DATA-DIR: there is no database of gossip-grpc at {database}")
    return database


def inspect(path: Path) -> Summary:
    """What is in a data directory or a backup. Changes nothing, and may be asked beside a running node.

    Raises:
        ConfigError: there is nothing, or it cannot be read.
    """
    database = database_of(path)
    files.check(database, "DATA-DIR")
    with _opened(database) as connection:
        counts = dict.fromkeys(Kind, 0)
        tombstones = guards = 0
        for kind, area, deleted, number in connection.execute(
            "SELECT kind, area, (kind = 1 AND value IS NULL) OR (kind = 4 AND second), count(*) "
            "FROM records GROUP BY 1, 2, 3"
        ):
            if area == Area.GUARD and not deleted:
                guards += number
            elif deleted or area != Area.SLOT:
                tombstones += number
            else:
                counts[Kind(kind)] += number
        log = database.with_name(database.name + "-wal")
        return Summary(
            path=database,
            format=files.version(connection),
            head=schema.read_head(connection),
            origins=Origins(connection).read(),
            folded=schema.read_folded(connection),
            counts=counts,
            tombstones=tombstones,
            guards=guards,
            file_bytes=database.stat().st_size + (log.stat().st_size if log.exists() else 0),
        )


def records(path: Path, prefix: str = "", *, members: bool = False) -> Iterator[Kept]:
    """The records of a database whose keys begin with a prefix, by kind and key; `since` in Unix time.

    Args:
        path: a data directory or a backup.
        prefix: of the keys.
        members: only member records, whatever their names.

    Raises:
        ConfigError: it cannot be read.
    """
    with _opened(database_of(path)) as connection:
        where = "WHERE kind = 5" if members else "WHERE substr(key, 1, length(?1)) = ?1"
        values = () if members else (prefix,)
        yield from schema.read_records(
            connection, Origins(connection), 0.0, f"{where} ORDER BY kind, key, origin, sequence", values
        )
