"""What a node counts about its gossip, from its start. The driver adds messages and bytes, the engine the rest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Only ever grow; the meaning of each is in `GossipCounters` of proto/gossip/v1/cluster.proto."""

    rounds: int = 0
    rounds_agreed: int = 0
    rounds_failed: int = 0
    pushes_sent: int = 0
    pushes_received: int = 0
    pulls_sent: int = 0
    pulls_received: int = 0
    heartbeats_sent: int = 0
    heartbeats_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    records_merged: int = 0
    records_ignored: int = 0
    full_syncs: int = 0
    backstop_heals: int = 0
    refused: int = 0
    purged: int = 0
    expired: int = 0
    generations_folded: int = 0
