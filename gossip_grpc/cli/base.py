"""What all commands share: the options that say which node is asked and how it is shown, and one line per failure.

Options are taken before the command and after it; the last one wins. Light on imports, as every command comes by here:
gRPC is imported when a client is made, rich when a table is shown.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
from click.core import ParameterSource

from gossip_grpc.cli import INTERRUPTED
from gossip_grpc.errors import (
    DeadlineError,
    GossipError,
    InvalidArgumentError,
    KeyNotFoundError,
    MemberNotFoundError,
    UnavailableError,
)

if TYPE_CHECKING:
    from gossip_grpc.client import Client, Session

NOT_FOUND, USAGE, UNAVAILABLE, FAILED = 1, 2, 3, 4
_EXIT_CODES: dict[type[GossipError], int] = {
    KeyNotFoundError: NOT_FOUND,
    MemberNotFoundError: NOT_FOUND,
    InvalidArgumentError: USAGE,
    UnavailableError: UNAVAILABLE,
    DeadlineError: UNAVAILABLE,
}
_ADVICE: dict[type[GossipError], str] = {
    UnavailableError: " start one with `gossip-grpc node`, or name another with --address",
    DeadlineError: " (--address, --timeout)",
}
"""What the command line can add to a failure that no node has explained."""

_BROKEN_PIPE = 128 + 13
_NUMBER = re.compile(r"-\.?\d")

F = TypeVar("F", bound=Callable[..., Any])


def fail(*messages: str, code: int = FAILED) -> NoReturn:
    """Tells what is wrong, a line each, and exits."""
    for message in messages:
        click.echo(f"Error: {' '.join(message.split())}", err=True)
    raise click.exceptions.Exit(code)


def typed(name: str) -> bool:
    """Whether a parameter of the command that runs was given, rather than left at its default."""
    return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT


@dataclass(slots=True)
class Settings:
    """What the shared options said; None leaves it to the client."""

    address: tuple[str, ...] | None = None
    timeout: float | None = None
    output: str = "table"
    session: Session | None = None
    given: set[str] = field(default_factory=set)
    """The names of those that were typed, not taken from the environment."""

    @property
    def json(self) -> bool:
        """Whether the output is for programs."""
        return self.output == "json"

    @property
    def watch(self) -> dict[str, float]:
        """How a watch is asked for: with one address it ends with the node, with several it goes on at the next one."""
        return {} if self.address is not None and len(self.address) > 1 else {"reconnect": 0.0}

    def client(self) -> Client:
        """A client of the node that is asked: the first of those named that answers."""
        from gossip_grpc.client import Client  # noqa: PLC0415 - see the head of the file

        chosen: dict[str, Any] = {}
        if self.address is not None:
            chosen |= {"address": self.address, "shuffle": False}
        if self.timeout is not None:
            chosen["timeout"] = self.timeout
        if self.session is not None:
            chosen["session"] = self.session
        return Client(**chosen)


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    settings = ctx.ensure_object(Settings)
    if parameter.multiple:  # each may be several, with commas between
        value = tuple(filter(None, ",".join(value).replace(" ", "").split(","))) or ("",)
    name = str(parameter.name)
    source = ctx.get_parameter_source(name)
    if source is ParameterSource.COMMANDLINE:
        settings.given.add(name)
    elif source is not ParameterSource.ENVIRONMENT or name in settings.given:
        return
    setattr(settings, name, value)


def output_option(*, hidden: bool = False) -> Callable[[F], F]:
    """Adds `--output`."""
    return click.option(
        "--output",
        type=click.Choice(["table", "json"]),
        expose_value=False,
        callback=_remember,
        hidden=hidden,
        help="For people or for programs.  [default: table]",
    )


def node_options(*, hidden: bool = False) -> Callable[[F], F]:
    """Adds what every command that asks a node takes: `--address`, `--timeout`, `--output`."""

    def decorate(function: F) -> F:
        address = click.option(
            "--address",
            metavar="HOST:PORT[,...]",
            envvar="GOSSIP_ADDRESS",
            multiple=True,
            expose_value=False,
            callback=_remember,
            hidden=hidden,
            help="The node to ask; of several, with commas between, the first that can do it.  [env: GOSSIP_ADDRESS; "
            "default: 127.0.0.1:7947]",
        )
        timeout = click.option(
            "--timeout",
            type=float,
            metavar="SECONDS",
            expose_value=False,
            callback=_remember,
            hidden=hidden,
            help="How long each call may take, at all nodes together.  [default: 5]",
        )
        return address(timeout(output_option(hidden=hidden)(function)))

    return decorate


def not_empty(ctx: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Refuses an option that was given with nothing, as by a variable of a shell that is not set."""
    if text == "" and ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE:
        raise click.BadParameter("it is empty; leave the option out, or give it its text")
    return text


def request_id_option(function: F) -> F:
    """Adds `--request-id`, for commands that count once however often they are made."""
    return click.option(
        "--request-id",
        metavar="ID",
        callback=not_empty,
        help="Names what is done: with the same one it is done once, at whichever nodes.  [default: a new one]",
    )(function)


def durability_option(function: F) -> F:
    """Adds `--durability`, for commands that write."""
    return click.option(
        "--durability",
        type=click.Choice(["memory", "disk"]),
        help="What success is to mean: the write is in the node's memory, or on its disk.  [default: disk, at a node "
        "that has one]",
    )(function)


def session_option() -> Callable[[F], F]:
    """Adds `--session`, for commands that read and write what is stored."""

    def remember(ctx: click.Context, _: click.Parameter, text: str | None) -> None:
        if text is not None:
            from gossip_grpc.client import Session  # noqa: PLC0415 - see the head of the file

            ctx.ensure_object(Settings).session = Session.parse(text)

    return click.option(
        "--session",
        metavar="TOKEN",
        expose_value=False,
        callback=remember,
        help="See what the session has written and read, as `session` of --output json named it.",
    )


def _keep_examples(text: str | None) -> str:
    """Marks for click, which fills paragraphs, those with indented lines: they stay as they are."""
    return re.sub(r"(?m)(?:\A|(?<=\n\n))(?=\S.*\n +\S)", "\b\n", cleandoc(text or ""))


class Command(click.Command):
    """A command whose arguments may be negative numbers, while an unknown option remains an error."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.help = _keep_examples(self.help)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Sorts the arguments behind the options, so that none of them is taken for one."""
        with_value = {
            name: not option.is_flag and not option.count
            for option in self.get_params(ctx)
            if isinstance(option, click.Option)
            for name in (*option.opts, *option.secondary_opts)
        }
        options: list[str] = []
        arguments: list[str] = []
        rest = iter(args)
        for arg in rest:
            if arg == "--":
                arguments.extend(rest)
            elif len(arg) > 1 and arg.startswith("-") and not _NUMBER.match(arg):
                options.append(arg)
                if with_value.get(arg):
                    value = next(rest, None)
                    if value is None:
                        return super().parse_args(ctx, options)  # which says so
                    options.append(value)
            else:
                arguments.append(arg)
        return super().parse_args(ctx, [*options, "--", *arguments])


class Group(click.Group):
    """A group of such commands."""

    command_class = Command

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.help = _keep_examples(self.help)


class LazyGroup(Group):
    """A group that imports a command when it is asked for.

    Args:
        lazy: name -> (module:attribute, one line of help). A command whose module is missing does not exist.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*args, **options)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names in the order of the table."""
        return [name for name, (place, _) in self._lazy.items() if find_spec(place.partition(":")[0])]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command; None if there is none of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - the table is ours
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands from the table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._lazy[name][1]) for name in self.list_commands(ctx)])


class RootGroup(LazyGroup):
    """The whole command line: here each failure becomes one line and an exit code."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Parses the command line and runs the command."""
        try:
            return super().main(*args, **extra)
        except OSError as error:
            click.echo(f"Error: {error.filename or 'output'}: {(error.strerror or str(error)).lower()}", err=True)
            _discard_output()
            sys.exit(FAILED)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except GossipError as error:
            advice = _ADVICE.get(type(error), "") if error.reason is None else ""
            mark = ";" if isinstance(error, UnavailableError) and advice and not str(error).endswith("?") else ""
            fail(f"{error}{mark}{advice}", code=_EXIT_CODES.get(type(error), FAILED))
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            _discard_output()
            ctx.exit(_BROKEN_PIPE)


def _discard_output() -> None:
    """Lets what is left in the buffer go nowhere: Python flushes at its end, and would complain once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, (sys.__stdout__ or sys.stdout).fileno())
    os.close(nowhere)
