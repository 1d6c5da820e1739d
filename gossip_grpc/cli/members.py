"""`gossip-grpc members`: who is in the cluster, what each is to the node asked, and why."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from gossip_grpc.cli import show
from gossip_grpc.cli.base import Command, Settings, node_options

if TYPE_CHECKING:
    from gossip_grpc.client import Member

STATUSES = ("alive", "suspect", "dead", "left")


def _pairs(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE, any number of times."""
    for text in given:
        if not text.partition("=")[0] or "=" not in text:
            raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE", ctx, parameter)
    return dict(text.split("=", 1) for text in given)


@click.command(cls=Command)
@click.option("--status", "statuses", type=click.Choice(STATUSES), multiple=True, help="Only these; repeatable.")
@click.option("--zone", help="Only those of this zone.")
@click.option("--tag", "tags", metavar="NAME=VALUE", multiple=True, callback=_pairs, help="With this tag; repeatable.")
@node_options()
@click.pass_obj
def members(settings: Settings, statuses: tuple[str, ...], zone: str | None, tags: dict[str, str]) -> None:
    """List the members of the cluster.

    The status is what the member is to the node asked: alive, suspect, dead or left; unreachable if it should be alive
    but the node could not exchange with it at its last attempt. In JSON the two are apart, as status and reachable.
    Since is for how long it has been that. Phi says how surprising its silence is, and only its monitors know: it is
    empty where the node asked is none of them.

    Examples:
      gossip-grpc members
      gossip-grpc members --status suspect --status dead
      gossip-grpc members --zone east --tag role=db --output json
    """
    with settings.client() as client:
        found = client.members(statuses=statuses, zone=zone, tags=tags)
    if settings.json:
        show.as_json_array(map(asdict, found))
        return
    columns = ["node", "address", "zone", "status", "phi", "since", "tags", "version"]
    show.table(columns, (tuple(map(show.cell, _row(member))) for member in found), right=["phi"])


def _row(member: Member) -> tuple[str, ...]:
    return (
        member.node_id,
        member.peer_address,
        member.zone,
        member.status if member.reachable or member.status != "alive" else "unreachable",
        "" if member.phi is None else f"{member.phi:.1f}",
        show.duration(member.status_since_seconds),
        ",".join(f"{name}={text}" for name, text in sorted(member.tags.items())),
        member.version,
    )
