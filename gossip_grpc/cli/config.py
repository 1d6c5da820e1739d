"""`gossip-grpc config`: what a node would make of its flags, its environment and its file.

Also the flags themselves, which `gossip-grpc node` takes too: they are made of the table of settings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from gossip_grpc.cli import show
from gossip_grpc.cli.base import USAGE, Group, Settings, fail, output_option
from gossip_grpc.config import SETTINGS, Loaded, defaults, load
from gossip_grpc.errors import ConfigError
from gossip_grpc.settings import AddressList, AddressText, Choice, Number, Tags

F = TypeVar("F", bound=Callable[..., Any])


def load_options(function: F) -> F:
    """Adds the flags of a node and `--config`; hands the function what was given, as `loaded_from` takes it."""
    standard = defaults()
    for name, setting in reversed(SETTINGS.items()):
        if setting.flag:
            repeatable = isinstance(setting.rule, AddressList | Tags)
            more = f"default: {setting.default or standard[name]}{'; repeatable' if repeatable else ''}"
            # Text throughout: the configuration checks flags by the rules that hold for all its sources.
            function = click.option(
                setting.flag,
                name,
                type=click.Choice(list(map(str, setting.rule.words))) if isinstance(setting.rule, Choice) else str,
                metavar=_metavar(setting.rule),
                multiple=repeatable,
                help=f"{setting.help}  [{more}]",
            )(function)
    return click.option(
        "--config",
        "file",
        metavar="FILE.toml",
        help="Read settings from a TOML file; the environment and flags go before it.  [env: GOSSIP_CONFIG]",
    )(function)


def loaded_from(file: str | None, flags: dict[str, object]) -> Loaded:
    """The configuration from all its sources; if anything is wrong with it, says all of it and exits."""
    try:
        return load(flags=flags, environ=os.environ, file=file)
    except ConfigError as error:
        fail(*str(error).splitlines(), code=USAGE)


def _metavar(rule: object) -> str | None:
    match rule:
        case AddressText() | AddressList():
            return "HOST:PORT"
        case Tags():
            return "NAME=VALUE"
        case Number(kind=kind, unit=unit):
            return unit.upper() or ("INTEGER" if kind is int else "NUMBER")
    return None


@click.group(cls=Group)
@output_option(hidden=True)
def config() -> None:
    """Check and print a node's configuration.

    Flags go before environment variables (GOSSIP_ and the setting's name), those before the TOML file, that before
    the profile, that before the defaults.
    """


@config.command()
@load_options
@output_option()
@click.pass_obj
def check(settings: Settings, /, file: str | None, **flags: object) -> None:
    """Say whether a node would start with this configuration.

    Says OK, or a line for each thing that is wrong, and exits with 2.

    Examples:
      gossip-grpc config check --config node.toml
    """
    loaded_from(file, flags)
    if settings.json:
        show.as_json({"ok": True})
    else:
        click.echo("OK")


@config.command("print")
@load_options
@output_option()
@click.pass_obj
def print_config(settings: Settings, /, file: str | None, **flags: object) -> None:
    """Print every setting, its value and where the value comes from.

    Examples:
      gossip-grpc config print
      gossip-grpc config print --config node.toml --output json
    """
    loaded = loaded_from(file, flags)
    values = {name: getattr(loaded.config, name) for name in SETTINGS}
    if settings.json:
        show.as_json(
            {
                name: {"value": dict(value) if isinstance(value, Mapping) else value, "source": loaded.sources[name]}
                for name, value in values.items()
            }
        )
    else:
        rows = ((name, show.cell(_in_words(value)), show.cell(loaded.sources[name])) for name, value in values.items())
        show.table(["setting", "value", "source"], rows)


def _in_words(value: object) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={text}" for name, text in value.items())
    return ",".join(value) if isinstance(value, tuple) else str(value)
