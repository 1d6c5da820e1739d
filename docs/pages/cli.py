"""docs/cli.md: the commands of gossip-grpc, with what their --help says."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from docs.pages.text import anchor, escape, fill, notice
from gossip_grpc.cli import PROGRAM
from gossip_grpc.cli.root import root

_HEAD = f"""\
# Command line

{notice("the help of the commands")}
`{PROGRAM}` runs a node, and talks to one. Every command has `--help`, which says what is here. The node that is asked
is at 127.0.0.1:7947, unless `--address` or `GOSSIP_ADDRESS` says otherwise. `{PROGRAM} completion bash|zsh|fish` prints
what makes the shell complete commands and options.

"""


def markdown() -> str:
    """The text of docs/cli.md."""
    top = click.Context(root, info_name=PROGRAM)
    shared = [record for record in _records(top) if not record[0].startswith("--version")]
    parts = [_HEAD, fill(escape(root.epilog or "")), "\n\n", _commands(top)]
    parts += ["\n## Options of all commands\n\n", "They may stand before a command or after it.\n\n"]
    parts += [_option(*record) for record in shared]
    for command in _below(top):
        parts += _section(command, shared)
    return re.sub(r"\n{3,}", "\n\n", "".join(parts))


def _below(ctx: click.Context) -> list[click.Context]:
    """The commands of a group, in its order; none if it is no group."""
    if not isinstance(ctx.command, click.Group):
        return []
    found = []
    for name in ctx.command.list_commands(ctx):
        command = ctx.command.get_command(ctx, name)
        if command is not None and not command.hidden:
            found.append(click.Context(command, info_name=name, parent=ctx))
    return found


def _section(ctx: click.Context, shared: list[tuple[str, str]]) -> Iterator[str]:
    """A command and, if it is a group, those below it."""
    name = _name(ctx)
    yield f"\n{'##' if ' ' not in name else '###'} {name}\n\n"
    summary, *more = _paragraphs(ctx.command.help or "")
    yield summary
    yield f"```text\n{' '.join([ctx.command_path, *ctx.command.collect_usage_pieces(ctx)])}\n```\n\n"
    yield from more
    commands = _below(ctx)
    if commands:
        yield f"Commands:\n\n{_commands(ctx)}\n"
    records = _records(ctx)
    also = [f"`{record[0].split()[0]}`" for record in records if record in shared]
    if records:
        yield "Options:\n\n"
    yield from (_option(*record) for record in records if record not in shared)
    if also:
        yield f"- {', '.join(also)}: [of all commands](#options-of-all-commands)\n"
    for command in commands:
        yield from _section(command, shared)


def _name(ctx: click.Context) -> str:
    return ctx.command_path.removeprefix(f"{PROGRAM} ")


def _commands(ctx: click.Context) -> str:
    """A list of the commands of a group."""
    lines = []
    for below in _below(ctx):
        summary = (below.command.help or "").replace("\b", "").strip().partition("\n\n")[0]
        lines.append(fill(f"- [{_name(below)}](#{anchor(_name(below))}): {_prose(' '.join(summary.split()))}"))
    return "\n".join(lines) + "\n"


def _records(ctx: click.Context) -> list[tuple[str, str]]:
    """The options of a command that are shown, and what is said of them; all have `--help`."""
    options = [parameter for parameter in ctx.command.get_params(ctx) if isinstance(parameter, click.Option)]
    found = (option.get_help_record(ctx) for option in options if "--help" not in option.opts)
    return [record for record in found if record]


def _option(names: str, text: str) -> str:
    """An item for an option; what click has in brackets at the end goes into parentheses."""
    text, _, note = text.partition("  [")
    note = f" ({escape(note.removesuffix(']'))})" if note else ""
    return fill(f"- `{names.replace('INTEGER RANGE', 'INTEGER')}`: {_prose(text)}{note}") + "\n"


def _prose(text: str) -> str:
    """Text for Markdown, with options as code."""
    return re.sub(r"(?<![\w`-])--[a-z][a-z-]*(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", r"`\g<0>`", escape(text))


def _paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a help text; lines that are indented are commands, or a table, and stay as they are."""
    for paragraph in re.split(r"\n\s*\n", text.replace("\b\n", "").strip()):
        prose, _, block = paragraph.partition("\n  ")
        yield fill(_prose(" ".join(prose.split()))) + "\n\n"
        if block:
            yield _block([line.removeprefix("  ") for line in block.split("\n")])


def _block(lines: list[str]) -> str:
    if not lines[0].startswith(PROGRAM):
        return "```text\n" + "\n".join(lines) + "\n```\n\n"
    shown = [f"$ {line}" if line.startswith(PROGRAM) else line for line in lines]
    return "```console\n" + "\n".join(shown) + "\n```\n\n"
