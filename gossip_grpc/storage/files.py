"""A node's data directory: the lock that keeps others out, and the database, made new or checked before it is used.

Whatever is wrong with it is a ConfigError that says what to do, and nothing in the directory is changed then.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from gossip_grpc.errors import ConfigError
from gossip_grpc.storage import schema
from gossip_grpc.storage.schema import Head

DATABASE = "state.db"
LOCK = "lock"
NEW = ".new"
"""What the name of a file ends with that is not complete yet."""

_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100
_WAL_LIMIT = 64 << 20
"""Bytes beyond which the log of changes is cut back once it has been taken into the database."""


class Directory:
    """A data directory, locked for this process until `unlock`, and its path."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.database = self.path / DATABASE
        self._lock = -1

    def lock(self) -> None:
        """Make the directory if there is none, and keep other processes out of it.

        Raises:
            ConfigError: it cannot be written to, or another process runs on it.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"data_dir: {why_not(self.path, error)}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
            os.close(self._lock)
            self._lock = -1
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise ConfigError(f"data_dir: {self.path} cannot be locked: {error.strerror}") from error
            raise ConfigError(
                f"data_dir: {self.path} is in use by another process{owner and f' ({owner})'}; stop it, or give each "
                "node a directory of its own"
            ) from error
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"pid {os.getpid()}\n".encode(), 0)
        except OSError as error:  # such as a full disk
            self.unlock()
            raise ConfigError(f"data_dir: {why_not(self.path, error)}") from error

    def unlock(self) -> None:
        """Let others in."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def open(self, cluster: str, node_id: str, generation: int) -> sqlite3.Connection:
        """Open the database, of the present format; a new one if there is none.

        Args:
            cluster: whose it must be.
            node_id: whose it must be.
            generation: that of a new database.

        Raises:
            ConfigError: there is something else, or it is damaged, or the disk does not do.
        """
        try:
            for leftover in self.path.glob(f"*{NEW}*"):
                leftover.unlink()
            if not self.database.exists():
                log = self.database.with_name(DATABASE + "-wal")
                if log.exists():  # SQLite would take it for that of the new database
                    raise ConfigError(
                        f"data_dir: {log} is there, and the {DATABASE} that it belongs to is not; put that back, or "
                        "move the log away too"
                    )
                with new_database(self.database) as connection:
                    connection.execute("BEGIN")
                    schema.create(connection, Head(cluster, node_id, generation))
                    connection.execute("COMMIT")
            check(self.database, "data_dir", cluster=cluster, node_id=node_id)
            connection = connect(self.database)
            schema.migrate(connection, version(connection))
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"data_dir: {why_not(self.path, error)}") from error
        return connection


@contextlib.contextmanager
def new_database(path: Path) -> Iterator[sqlite3.Connection]:
    """A new database that is there once it is complete, and not before."""
    new = path.with_name(path.name + NEW)
    new.touch(mode=0o600)
    connection = sqlite3.connect(new, isolation_level=None)
    try:
        yield connection
        connection.close()
        settle(new)
        new.replace(path)
        settle(path.parent)
    finally:
        connection.close()
        new.unlink(missing_ok=True)


def settle(path: Path) -> None:
    """Have a file, or the names in a directory, on disk and not only on its way there."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def connect(path: Path) -> sqlite3.Connection:
    """A connection that writes: each commit is on disk when it returns."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing, beside a running node too."""
    log = path.with_name(path.name + "-wal")
    # Without a log there is no node, and SQLite would leave a log behind unless told that the file stays as it is.
    mode = "mode=ro" if log.exists() else "immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None, timeout=10)


def check(path: Path, name: str, *, cluster: str | None = None, node_id: str | None = None) -> Head:
    """Whether a file is a whole database of ours, and whose.

    Args:
        path: the file.
        name: what names it in errors.
        cluster: whose it must be; None for any.
        node_id: whose it must be; None for any.

    Raises:
        ConfigError: it is not.
    """
    start = _start(path, name)
    if start == _MAGIC[: len(start)] or (start.startswith(_MAGIC) and len(start) < _HEADER_BYTES):
        raise ConfigError(damaged(name, path, f"it was cut off after {len(start)} bytes"))
    if not start.startswith(_MAGIC):
        raise ConfigError(f"{name}: {path} is no database of gossip-grpc; it is left as it is, move it away")
    try:
        with contextlib.closing(connect_to_read(path)) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            found = version(connection)
            if application != schema.APPLICATION_ID:
                raise ConfigError(f"{name}: {path} is a database of another program; it is left as it is, move it away")
            if found > schema.FORMAT:
                raise ConfigError(
                    f"{name}: {path} has format {found}, and this version of gossip-grpc knows {schema.FORMAT} at "
                    "most; install the version that has written it, or a newer one"
                )
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise ConfigError(damaged(name, path, verdict))
            head = schema.read_head(connection)
    except (sqlite3.Error, ValueError) as error:
        raise ConfigError(damaged(name, path, error)) from error
    for field, wanted in (("cluster", cluster), ("node_id", node_id)):
        found = getattr(head, field)
        if wanted is not None and wanted != found:
            raise ConfigError(
                f"{name}: {path} is that of {field} {found!r}, and this node's is {wanted!r}; give this node a "
                f"directory of its own, or set {field} to {found!r}"
            )
    return head


def damaged(name: str, path: Path, why: object) -> str:
    """What to say of a database that cannot be read."""
    detail = " ".join(str(why).split())
    return (
        f"{name}: {path} is damaged ({detail}); it is left as it is: restore a backup, or move it away, and the node "
        "takes its cluster's state from its peers"
    )


def _start(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEADER_BYTES)
    except OSError as error:
        raise ConfigError(f"{name}: {why_not(path, error)}") from error


def version(connection: sqlite3.Connection) -> int:
    """The format of a database."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def why_not(path: Path, error: OSError | sqlite3.Error) -> str:
    """Why a path does not do for what must be written or read there."""
    if isinstance(error, sqlite3.Error):
        return f"{path} cannot be used: {explain(error)}"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{path} is a file, or lies below one; give a directory"
    why = (error.strerror or str(error)).lower()
    if isinstance(error, FileNotFoundError):
        return f"{path} cannot be opened: {why}"
    return f"{path} cannot be written to: {why}; give a directory that this user may write to, with room"


def explain(error: Exception) -> str:
    """An error of SQLite or of the system in words."""
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        return "the disk is full; free some room"
    if name.startswith("SQLITE_READONLY") or name == "SQLITE_CANTOPEN":
        return f"it cannot be written to ({error}); mount it writable, or mend its permissions"
    if name.startswith("SQLITE_IOERR"):
        return f"the disk fails ({name}: {error}); free some room, or look into the system's log"
    return f"{error}" + (f" ({name})" if name else "")
