"""`gossip-grpc backup`, `restore` and `inspect`: a node's state in files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gossip_grpc.cli import show
from gossip_grpc.cli.base import USAGE, Command, Settings, fail, node_options, output_option
from gossip_grpc.errors import ConfigError

if TYPE_CHECKING:
    from gossip_grpc.core.journal import Kept
    from gossip_grpc.storage.copies import Summary


@click.command(cls=Command)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@node_options()
@click.pass_obj
def backup(settings: Settings, file: Path, *, force: bool) -> None:
    """Write all that a node holds into FILE, as of one moment.

    The node goes on meanwhile. FILE is there once it is complete; `restore` makes a data directory of it.

    Examples:
      gossip-grpc backup monday.db
      gossip-grpc backup monday.db --force --address 10.0.0.7:7947
    """
    if file.exists() and not force:
        fail(f"{file} is there already; give another name, or --force to replace it", code=USAGE)
    try:
        size = _download(settings, file)
    except OSError as error:
        fail(f"{file} cannot be written: {(error.strerror or str(error)).lower()}")
    if settings.json:
        show.as_json({"file": str(file), "bytes": size})
    else:
        click.echo(f"{size:,} bytes written to {file}")


def _download(settings: Settings, file: Path) -> int:
    """Bring a backup into a file, which is there once it is whole; returns its bytes."""
    # Beside it, so that it can be renamed.
    with (
        tempfile.NamedTemporaryFile(dir=file.absolute().parent, prefix=f".{file.name}.", delete=False) as new,
        settings.client() as client,
    ):
        try:
            for data in client.backup():
                new.write(data)
            new.flush()
            os.fsync(new.fileno())
            size = new.tell()
            Path(new.name).replace(file)
        except BaseException:
            Path(new.name).unlink()
            raise
    return size


@click.command(cls=Command)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--data-dir", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Where to; empty or new."
)
@click.option("--node-id", metavar="TEXT", help="The node that is to run there.  [default: that of the backup]")
@output_option()
@click.pass_obj
def restore(settings: Settings, file: Path, data_dir: Path, node_id: str | None) -> None:
    """Make a data directory of a backup, for a node that is started with it.

    The node takes a new generation and catches up with its peers: what they have learned since stays.

    Examples:
      gossip-grpc restore monday.db --data-dir /var/lib/gossip
      gossip-grpc node --node-id a --data-dir /var/lib/gossip
    """
    from gossip_grpc.core.limits import is_name  # noqa: PLC0415 - for this command only
    from gossip_grpc.storage import copies  # noqa: PLC0415

    if node_id is not None and not is_name(node_id):
        fail(f"--node-id is {node_id!r}; give 1 to 128 characters of A-Z, a-z, 0-9, '.', '_' and '-'", code=USAGE)
    try:
        head = copies.restore(file, data_dir, node_id)
    except ConfigError as error:
        fail(str(error), code=USAGE)
    if settings.json:
        show.as_json({"data_dir": str(data_dir), "node_id": head.node_id, "cluster": head.cluster})
    else:
        click.echo(f"{data_dir} is ready for node {head.node_id} of cluster {head.cluster}")


@click.command(cls=Command)
@click.argument("path", metavar="DATA-DIR", type=click.Path(path_type=Path))
@click.option("--records", is_flag=True, help="List the records, superseded ones too.")
@click.option("--prefix", default="", metavar="TEXT", help="List only records whose keys begin with this.")
@output_option()
@click.pass_obj
def inspect(settings: Settings, path: Path, *, records: bool, prefix: str) -> None:
    """Show what is in a data directory, or in a backup.

    Reads only, also beside a running node; what it has not written yet is not shown.

    Examples:
      gossip-grpc inspect /var/lib/gossip
      gossip-grpc inspect monday.db --records --prefix user/
    """
    from gossip_grpc.storage import copies  # noqa: PLC0415 - for this command only

    try:
        found = copies.inspect(path)
        if records or prefix:
            _list(settings, map(_record, copies.records(path, prefix)))
            return
        members = [_member(kept) for kept in copies.records(path, members=True)]
    except ConfigError as error:
        fail(str(error), code=USAGE)
    if settings.json:
        show.as_json({**_as_json(found), "members": members})
        return
    show.pairs({name: show.cell(text) for name, text in _in_words(found, backup=path.is_file()).items()})
    click.echo()
    show.table(
        ["member", "generation", "address", "left"], [[show.cell(str(cell)) for cell in m.values()] for m in members]
    )
    click.echo()
    rows = [
        (
            show.cell(str(origin)),
            str(known.sequence),
            ", ".join(f"{first}-{last}" for first, last in known.above),
            str(known.context),
            str(known.floor or ""),
        )
        for origin, known in found.origins.items()
    ]
    show.table(["origin", "covered up to", "and", "settled up to", "purged up to"], rows)


def _list(settings: Settings, found: Any) -> None:
    if settings.json:
        show.as_json_array(found)
    else:
        rows = ((_cell(cell) for cell in one.values()) for one in found)
        show.table(["kind", "area", "dot", "clock", "slot", "content"], map(tuple, rows), cut=True)


def _cell(part: Any) -> str:
    if isinstance(part, dict) and part.keys() == {"base64"}:
        return f"base64:{part['base64']}"
    if isinstance(part, dict):
        return ", ".join(f"{name}={_cell(one)}" for name, one in part.items() if one not in ("", 0, False, {}))
    if isinstance(part, list):
        return ", ".join(map(_cell, part))
    return show.cell(str(part))


def _record(kept: Kept) -> dict[str, Any]:
    record = kept.record
    return {
        "kind": record.kind.name.lower(),
        "area": kept.area.name.lower(),
        "dot": str(record.dot),
        "clock": record.clock,
        "slot": _plain(record.slot),
        "content": _plain(record.content),
    }


def _plain(value: Any) -> Any:
    """What JSON has no word for in words that it has."""
    from gossip_grpc.core.records import Origin  # noqa: PLC0415 - for this command only

    if isinstance(value, bytes):
        return show.value_as_json(value)
    if isinstance(value, Origin):
        return str(value)
    if hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value


def _member(kept: Kept) -> dict[str, Any]:
    record = kept.record
    return {
        "node_id": record.origin.node_id,
        "generation": record.origin.generation,
        "peer_address": record.content.peer_address,
        "left": record.content.left,
    }


def _as_json(found: Summary) -> dict[str, Any]:
    head = found.head
    return {
        "path": str(found.path),
        "format": found.format,
        **head._asdict(),
        "file_bytes": found.file_bytes,
        "records": {kind.name.lower(): number for kind, number in found.counts.items()},
        "tombstones": found.tombstones,
        "guards": found.guards,
        "origins": {str(origin): known._asdict() for origin, known in found.origins.items()},
        "folded": found.folded,
    }


def _in_words(found: Summary, *, backup: bool) -> dict[str, str]:
    head = found.head
    state = "a backup" if backup else "stopped in order" if head.closed else "running, or was killed"
    return {
        "file": f"{found.path}, {found.file_bytes:,} bytes, format {found.format}",
        "node": f"{head.node_id}, generation {head.generation}",
        "cluster": head.cluster,
        "state": "restored from a backup, to begin a new generation" if head.restored else state,
        "clock": f"{head.clock}, reserved up to {head.clock_reserve}",
        "sequence": f"reserved up to {head.sequence_reserve}",
        **{f"{kind.name.lower().replace('_', ' ')}s": f"{number:,}" for kind, number in found.counts.items() if number},
        "tombstones": f"{found.tombstones:,}",
        "guards": f"{found.guards:,}",
        "folded": ", ".join(f"{name} up to {number}" for name, number in found.folded.items()) or "none",
    }
