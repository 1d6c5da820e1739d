"""`gossip-grpc event`: events, published to the subscribers of all nodes."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import click

from gossip_grpc.cli import show, watching
from gossip_grpc.cli.base import Group, Settings, node_options, request_id_option, session_option
from gossip_grpc.cli.kv import read_content, session_as_json

if TYPE_CHECKING:
    from gossip_grpc.client import SubscriptionEvent


@click.group(cls=Group)
@node_options(hidden=True)
def event() -> None:
    """Publish events, and subscribe to them.

    An event reaches the subscribers of all nodes, once each; those of one node in order. It is kept for a while, a
    minute if the nodes are not configured otherwise, and then forgotten.
    """


@event.command()
@click.argument("topic")
@click.argument("payload", required=False)
@click.option("--file", type=click.File("rb"), metavar="PATH", help="Publish the content of a file, as bytes.")
@click.option("--ordering-key", default="", metavar="KEY", help="Handed on to subscribers.")
@request_id_option
@node_options()
@session_option()
@click.pass_obj
def publish(
    settings: Settings,
    topic: str,
    payload: str | None,
    file: IO[bytes] | None,
    ordering_key: str,
    request_id: str | None,
) -> None:
    """Publish an event.

    PAYLOAD is text; `-` reads it from standard input, where it must be UTF-8 and is taken with all its newlines. Bytes
    come from --file; `--file -` is standard input. An event whose answer was lost is published again, and told once. If
    that fails all the same, you may repeat it if you have given a --request-id.

    Examples:
      gossip-grpc event publish deploys/web v1.2.3
      gossip-grpc event publish deploys/web --file plan.pb --ordering-key web
    """
    content = read_content(payload, file, "PAYLOAD")
    with settings.client() as client:
        session = client.event.publish(topic, content, ordering_key, request_id=request_id)
    if settings.json:
        show.as_json({"topic": topic, **session_as_json(session, client)})


@event.command()
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC...")
@click.option("--retained", is_flag=True, help="Begin with the events that the node still keeps.")
@watching.resume_option
@node_options()
@session_option()
@click.pass_obj
def subscribe(settings: Settings, topics: tuple[str, ...], retained: bool, resume: str) -> None:
    """Show the events of each TOPIC as they come, until Ctrl-C.

    A TOPIC that ends in * stands for all that begin so; quote it, or the shell takes it. A line an event: the topic
    with the ordering key, if there is one, and the payload; and the origin and Lamport clock. On a terminal long
    payloads are cut off. In JSON an object a line; each bears a token, with which --resume goes on after it, with the
    same topics: with what came since, if the node still has it, else with all that it keeps.

    Examples:
      gossip-grpc event subscribe deploys/web
      gossip-grpc event subscribe 'deploys/*' alerts --retained
      gossip-grpc event subscribe '*' --output json | jq -r .payload
    """
    with settings.client() as client:
        stream = client.event.subscribe(*topics, retained=retained, token=resume, **settings.watch)
        watching.follow(stream, as_json=settings.json, about=_about, facts=_facts)


def _about(told: SubscriptionEvent) -> str:
    published = told.event
    if published is None:
        return ""
    key = f" [{show.cell(published.ordering_key)}]" if published.ordering_key else ""
    return f"{show.cell(published.topic)}{key}: {watching.value(published.payload)}"


def _facts(told: SubscriptionEvent) -> dict[str, object]:
    published = told.event
    if published is None:
        return dict.fromkeys(("topic", "payload", "ordering_key", "published_at"))
    return {
        "topic": published.topic,
        "payload": show.value_as_json(published.payload),
        "ordering_key": published.ordering_key,
        "published_at": published.published_at,
    }
