"""`gossip-grpc members`: who is in the cluster, what each is to the node asked, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING

import click

from gossip_grpc.cli import show
from gossip_grpc.cli.base import Group, Settings, node_options, not_empty

if TYPE_CHECKING:
    from gossip_grpc.client import Explanation, Member, MemberEvent, Monitor

ASK_TIMEOUT = 2.0
"""Seconds that a monitor other than the node asked may take to say what it hears, unless --timeout says otherwise."""

DOUBTS = ("pinging it", "asking others")
"""What a monitor does that has not accused the member yet."""

STATUSES = ("alive", "suspect", "dead", "left")


def _pairs(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE, any number of times."""
    for text in given:
        if not text.partition("=")[0] or "=" not in text:
            raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE", ctx, parameter)
    pairs = dict(text.split("=", 1) for text in given)
    if len(pairs) < len(given):
        raise click.BadParameter("a name is given more than once; a member has one value of each", ctx, parameter)
    return pairs


@click.group(cls=Group, invoke_without_command=True)
@click.option("--status", "statuses", type=click.Choice(STATUSES), multiple=True, help="Only these; repeatable.")
@click.option("--zone", help="Only those of this zone.")
@click.option("--tag", "tags", metavar="NAME=VALUE", multiple=True, callback=_pairs, help="With this tag; repeatable.")
@click.option("--watch", is_flag=True, help="Then show what happens to them, a line an event, until Ctrl-C.")
@click.option(
    "--resume",
    metavar="TOKEN",
    default="",
    callback=not_empty,
    help="With --watch: go on after the event with this token.",
)
@node_options()
@click.pass_context
def members(
    ctx: click.Context, statuses: tuple[str, ...], zone: str | None, tags: dict[str, str], watch: bool, resume: str
) -> None:
    """List the members of the cluster.

    The status is what the member is to the node asked: alive, suspect, dead or left; unreachable if it should be alive
    but did not answer the node's last two calls. In JSON the two are apart, as status and reachable. Since is for how
    long it has been that, in its present life. Phi says how surprising its silence is, and only its monitors know: it
    is empty where the node asked is none of them.

    With --watch all members come first, and then what happens to them; it tells of all, and takes no filters. Each
    event bears a token in JSON, resume_token, with which --resume goes on after it.

    Examples:
      gossip-grpc members
      gossip-grpc members --status suspect --status dead
      gossip-grpc members --zone east --tag role=db --output json
      gossip-grpc members --watch --output json | jq -c 'select(.kind == "dead")'
    """
    if ctx.invoked_subcommand is not None:
        if statuses or zone is not None or tags or watch or resume:
            raise click.UsageError(f"options of the list do not go with {ctx.invoked_subcommand}: leave them out", ctx)
        return
    settings = ctx.ensure_object(Settings)
    if watch:
        if statuses or zone is not None or tags:
            raise click.UsageError("--watch tells of all members: leave out --status, --zone and --tag", ctx)
        _watch(settings, resume)
        return
    if resume:
        raise click.UsageError("--resume needs --watch", ctx)
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
        show.duration(member.status_age_seconds),
        _tags_in_words(member.tags),
        member.version,
    )


def _tags_in_words(tags: Mapping[str, str]) -> str:
    return ",".join(f"{name}={text}" for name, text in sorted(tags.items()))


def _watch(settings: Settings, resume: str) -> None:
    with settings.client() as client:
        for event in client.watch(resume, **settings.watch):
            click.echo(json.dumps(asdict(event)) if settings.json else _line(event))


def _line(event: MemberEvent) -> str:
    word = str(event.member.status if event.member and event.kind == "snapshot" else event.kind)
    about = f"{event.member.node_id}: {event.cause}" if event.member else event.cause
    color = show.STYLES.get(word)
    word = click.style(f"{word:8}", fg=color if color != "dim" else None)
    return f"{datetime.now().astimezone():%H:%M:%S}  {word}  {show.cell(about)}"


@members.command()
@click.argument("node")
@node_options()
@click.pass_obj
def explain(settings: Settings, node: str) -> None:
    """Say why a member is what it is.

    Who monitors it and what each of them hears, who accuses it, and what it would take to declare it dead. What a
    monitor hears is known to that monitor alone: those that are other nodes are asked at their client addresses.

    Examples:
      gossip-grpc members explain node-3
      gossip-grpc members explain node-3 --output json
    """
    with settings.client() as client:
        found = client.explain(node)
    found = replace(found, monitors=tuple(_asked(settings, node, monitor) for monitor in found.monitors))
    if settings.json:
        show.as_json(asdict(found))
        return
    for line in _in_words(found):
        click.echo(show.cell(line))


def _asked(settings: Settings, node: str, monitor: Monitor) -> Monitor:
    """A monitor with what it hears itself, if it can be asked."""
    from gossip_grpc.client import Client, GossipError  # noqa: PLC0415 - not before it is needed

    if monitor.view is not None or not monitor.client_address:
        return monitor
    try:
        with Client(monitor.client_address, timeout=settings.timeout or ASK_TIMEOUT) as client:
            return next((one for one in client.explain(node).monitors if one.node_id == monitor.node_id), monitor)
    except GossipError:
        return monitor


def _in_words(found: Explanation) -> Iterator[str]:
    member = found.member
    what = "has left" if member.status == "left" else f"is {member.status}"
    since = show.duration(member.status_age_seconds)
    doubters = [one.node_id for one in found.monitors if one.view is not None and one.view.phase in DOUBTS]
    doubted = f", and doubted by {', '.join(doubters)}" if doubters else ""
    yield f"{member.node_id} {what}, for {since}: {member.cause}{doubted}"
    yield f"generation {member.generation}, incarnation {member.incarnation}, at {member.peer_address}"
    yield "monitored by:" if found.monitors else "monitored by nobody"
    width = max((len(monitor.node_id) for monitor in found.monitors), default=0)
    for monitor in found.monitors:
        yield f"  {monitor.node_id:{width}}  {_heard(monitor)}"
    yield "accused by:" if found.accusations else "accused by nobody"
    width = max((len(one.accuser) for one in found.accusations), default=0)
    for one in found.accusations:
        at = datetime.fromtimestamp(one.made_at).astimezone()
        ago = show.duration(max(one.age_seconds, 0.0))
        yield f"  {one.accuser:{width}}  since {at:%Y-%m-%d %H:%M:%S}, {ago} ago, at phi {one.phi:.1f}"
    yield found.verdict if member.status in ("dead", "left") else f"to be declared dead: {found.verdict}"


def _heard(monitor: Monitor) -> str:
    view = monitor.view
    if view is None:
        return f"did not say what it hears; ask it: --address {monitor.client_address or 'its client address'}"
    if view.heartbeat_age_seconds is None:
        last = "no heartbeat yet"
    else:
        last = f"last heartbeat {view.heartbeat_age_seconds:.1f} s ago"
    usual = f"one each {view.mean_seconds:.2f} s, deviation {view.deviation_seconds:.2f} s"
    return f"{view.phase}: phi {view.phi:.1f}, {last} ({usual})"


@members.command("tags")
@click.argument("tags", metavar="[NAME=VALUE]...", nargs=-1, callback=_pairs)
@click.option("--clear", is_flag=True, help="Have no tags.")
@node_options()
@click.pass_context
def set_tags(ctx: click.Context, tags: dict[str, str], clear: bool) -> None:
    """Replace the tags of the node that is asked, all of them.

    They hold until it stops; then it has those of its configuration again.

    Examples:
      gossip-grpc members tags role=db disk=ssd
      gossip-grpc members tags --clear --address 10.0.0.7:7947
    """
    if clear == bool(tags):
        raise click.UsageError("give the tags, or --clear", ctx)
    settings = ctx.ensure_object(Settings)
    with settings.client() as client:
        client.set_tags(tags)
    if settings.json:
        show.as_json({"tags": tags})
    else:
        click.echo(f"the node's tags are {show.cell(_tags_in_words(tags))} now" if tags else "the node has no tags now")


@members.command()
@click.argument("node")
@node_options()
@click.pass_obj
def forget(settings: Settings, node: str) -> None:
    """Make all nodes forget a member that is dead or has left.

    Otherwise they keep it for reap_after, 24 hours by default. If it comes back it is a member again.

    Examples:
      gossip-grpc members forget node-3
    """
    with settings.client() as client:
        client.forget(node)
    if settings.json:
        show.as_json({"node_id": node, "forgotten": True})
    else:
        click.echo(f"{show.cell(node)} is forgotten")


@members.command()
@click.argument("node")
@node_options()
@click.pass_obj
def ping(settings: Settings, node: str) -> None:
    """Measure the round trip from the node that is asked to a member.

    Examples:
      gossip-grpc members ping node-3
    """
    with settings.client() as client:
        milliseconds = client.ping(node)
    if settings.json:
        show.as_json({"node_id": node, "round_trip_milliseconds": milliseconds})
    else:
        click.echo(f"{milliseconds:.1f} ms")
