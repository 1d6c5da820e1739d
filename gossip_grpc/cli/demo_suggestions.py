"""Commands to try on the cluster that `gossip-grpc demo --keep` holds: they work as they stand."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gossip_grpc.cli import PROGRAM

if TYPE_CHECKING:
    from gossip_grpc.demo.checks import Expected
    from gossip_grpc.demo.nodes import NodeProcesses

_FAVOURITE = "services/http/tcp"


def suggestions(cluster: NodeProcesses, addresses: Mapping[str, str], expected: Expected) -> list[str]:
    """Lines to print.

    Args:
        cluster: the nodes.
        addresses: node -> client address of those that answer.
        expected: what they hold.
    """
    if not addresses:
        return ["No node answers."]
    nodes = list(addresses)
    first, other, last = addresses[nodes[0]], addresses[nodes[1 % len(nodes)]], addresses[nodes[-1]]
    key = _FAVOURITE if _FAVOURITE in expected.values else next(iter(expected.values), _FAVOURITE)
    pull = {"sender": {"cluster": cluster.cluster}, "digest": {}}
    commands = [
        f"{_program()} {command}"
        for command in (
            f"members --address {first}",
            f"kv get {shlex.quote(key)} --address {other}",
            f"kv put greeting hello --address {first}",
            f"kv get greeting --address {last}",
            f"counter list --address {other}",
            *(f"set get {shlex.quote(name)} --address {first}" for name in list(expected.sets)[:1]),
            f"status --address {last}",
            f"leave --address {last}",
        )
    ]
    commands += [
        f"grpcurl -plaintext {first} list",
        f"grpcurl -plaintext -d {_json({'key': key})} {first} gossip.v1.KeyValueService/Get",
        f"grpcurl -plaintext {other} gossip.v1.ClusterService/GetStatus",
        f"grpcurl -plaintext -d {_json(pull)} {cluster.peer_address(nodes[0])} gossip.v1.PeerService/Pull",
    ]
    lines = [
        "",
        "The cluster stays until Ctrl-C. Try from another terminal:",
        "",
        *(f"  {line}" for line in commands),
        "",
    ]
    if shutil.which("grpcurl") is None:
        lines += ["(grpcurl is at https://github.com/fullstorydev/grpcurl.)", ""]
    return lines


def _json(document: object) -> str:
    return shlex.quote(json.dumps(document, separators=(",", ":"), ensure_ascii=False))


def _program() -> str:
    """How this program is called from the current directory."""
    here = Path(sys.argv[0])
    if shutil.which(PROGRAM):
        return PROGRAM
    if here.name == PROGRAM:
        return shlex.quote(str(here))
    return f"{shlex.quote(sys.executable)} -m gossip_grpc"
