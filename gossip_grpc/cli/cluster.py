"""`gossip-grpc status` and `leave`: the node asked."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from gossip_grpc.cli import show
from gossip_grpc.cli.base import Command, Settings, node_options

if TYPE_CHECKING:
    from gossip_grpc.client import Status, StorageStatus


@click.command(cls=Command)
@node_options()
@click.pass_obj
def status(settings: Settings) -> None:
    """Show what the node is and how it does.

    Nodes that agree have the same fingerprint. Coverage says up to which of its writes each origin (node and
    generation) is known here; in JSON it is an object of origin to sequence, with ranges known beyond that in
    coverage_above.

    Examples:
      gossip-grpc status
      gossip-grpc status --output json | jq -r .fingerprint
    """
    with settings.client() as client:
        found = client.status()
    if settings.json:
        show.as_json(_as_json(found))
        return
    show.pairs({name: show.cell(text) for name, text in _in_words(found).items()})
    if found.limits:
        click.echo()
        rows = (
            (name, "" if use.used is None else f"{use.used:,}", f"{use.limit:,}") for name, use in found.limits.items()
        )
        show.table(["limit", "used", "of"], rows, right=["used", "of"])
    if found.coverage:
        click.echo()
        rows = (
            (show.cell(str(origin)), str(sequence), _ranges(found.coverage_above.get(origin, ())))
            for origin, sequence in found.coverage.items()
        )
        show.table(["covered origin", "up to", "and"], rows, right=["up to"])


@click.command(cls=Command)
@node_options()
@click.pass_obj
def leave(settings: Settings) -> None:
    """Make the node leave its cluster and stop.

    Examples:
      gossip-grpc leave --address 10.0.0.7:7947
    """
    with settings.client() as client:
        peers = client.leave()
    if settings.json:
        show.as_json({"peers": peers})
    else:
        click.echo(f"the node has left its cluster and stops; it has told {_count(peers, 'peer')}")


def _as_json(status: Status) -> dict[str, Any]:
    return {
        # asdict would take the origins apart, which are keys here.
        **{name: getattr(status, name) for name in status.__dataclass_fields__},
        "coverage": {str(origin): sequence for origin, sequence in status.coverage.items()},
        "coverage_above": {str(origin): ranges for origin, ranges in status.coverage_above.items()},
        "gossip": asdict(status.gossip),
        "limits": {name: asdict(use) for name, use in status.limits.items()},
        "storage": asdict(status.storage),
    }


def _in_words(status: Status) -> dict[str, str]:
    gossip = status.gossip
    last = "none yet"
    if status.last_round_age_seconds is not None:
        last = f"{show.duration(status.last_round_age_seconds)} ago, with {status.last_round_peer}"
    return {
        "node": f"{status.node_id}, generation {status.generation}",
        "cluster": f"{status.cluster}, {_count(status.members, 'member')}",
        "ready": "yes" if status.ready else "no, it has not synced with its cluster yet and takes no writes",
        "version": status.version,
        "uptime": show.duration(status.uptime_seconds),
        "peer address": status.peer_address,
        "client address": status.client_address,
        "fingerprint": status.fingerprint,
        "records": f"{status.records:,}, and {_count(status.tombstones, 'tombstone')}",
        "clock": str(status.clock),
        "storage": _storage_in_words(status.storage),
        "gossip": f"{status.strategy}, {status.selector}",
        "last round": last,
        "rounds": f"{gossip.rounds:,}, {gossip.rounds_agreed:,} agreed at once, {gossip.rounds_failed:,} failed",
        "pushes": f"{gossip.pushes_sent:,} sent, {gossip.pushes_received:,} received",
        "pulls": f"{gossip.pulls_sent:,} sent, {gossip.pulls_received:,} received",
        "bytes": f"{gossip.bytes_sent:,} sent, {gossip.bytes_received:,} received",
        "heartbeats": f"{gossip.heartbeats_sent:,} sent, {gossip.heartbeats_received:,} received",
        "merges": f"{_count(gossip.records_merged, 'record')} new, {gossip.records_ignored:,} known already",
        "repairs": f"{_count(gossip.full_syncs, 'full sync')}, {_count(gossip.backstop_heals, 'divergence')} healed",
        "refused": f"{_count(gossip.refused, 'message')} of peers",
        "purged": f"{_count(gossip.purged, 'tombstone')}, "
        f"{_count(status.tombstones_blocked, 'old one')} waiting for news",
        "ended": f"{_count(gossip.expired, 'value')}, {_count(gossip.generations_folded, 'generation')} folded",
    }


def _storage_in_words(storage: StorageStatus) -> str:
    if not storage.format_version:
        return "memory only"
    state = f"{storage.file_bytes:,} bytes on disk, {_count(storage.commits, 'commit')}"
    if storage.error:
        return (
            f"FAILS, writes are refused: {storage.error}; {_count(storage.pending_changes, 'change')} waiting; {state}"
        )
    return state


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _ranges(ranges: tuple[tuple[int, int], ...]) -> str:
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
