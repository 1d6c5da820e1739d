"""Prints docs/configuration.md, made of the settings in gossip_grpc/config.py.

python docs/generate.py > docs/configuration.md
"""

from __future__ import annotations

import sys
import textwrap

from gossip_grpc.config import OTHER_VARIABLES, PREFIX, PROFILES, SETTINGS, defaults

_HEAD = """\
# Configuration

<!-- Generated from gossip_grpc/config.py: python docs/generate.py > docs/configuration.md -->

A value comes from the first of these that has it:

1. a flag of `gossip-grpc node`; the settings below that have one name it
2. the environment: `GOSSIP_` and the name in capitals. An empty variable counts as not set
3. a TOML file, named by `--config` or `GOSSIP_CONFIG`: the names as keys at the top level
4. the `profile`, if it sets it: the sections below name the values
5. the default

Everything that is wrong is reported at once, a line for each value: where it came from, what was given, what is
allowed and what to do. A value that another one overrides is checked too. Names that are not listed here are refused,
in the file and among the variables that begin with `GOSSIP_`. Two of these are not settings:

"""

_EXAMPLE = """\

In TOML numbers are numbers, lists are lists and tags are a table:

```toml
node_id = "node-1"
cluster = "shop"
peer_listen = "0.0.0.0:7946"
advertise = "10.0.0.5:7946"
join = ["node-2.example:7946", "node-3.example:7946"]
gossip_interval = 0.5

[tags]
role = "cache"
```

In the environment they are text: `GOSSIP_JOIN=node-2.example:7946,node-3.example:7946`, `GOSSIP_TAGS=role=cache,a=b`.
On the command line `--join` and `--tag` are repeated: `--tag role=cache --tag disk=ssd`.

Each node holds its own clients to the limits (`max_...`); from peers it takes what the highest limits allow.
"""


def markdown() -> str:
    """The text of docs/configuration.md."""
    parts = [_HEAD, *(f"- `{name}` {meaning}\n" for name, meaning in OTHER_VARIABLES.items()), _EXAMPLE]
    values = defaults()
    for name, setting in SETTINGS.items():
        unit = getattr(setting.rule, "unit", "")
        default = setting.default or f"`{_plain(values[name])}`{unit and ' ' + unit}"
        flag = f"flag `{setting.flag}`, " if setting.flag else ""
        parts += [
            f"\n## {name}\n\n{fill(setting.help)}\n\n",
            fill(f"- {flag}environment `{PREFIX}{name.upper()}`") + "\n",
            fill(f"- default: {default}") + "\n",
            _profiles(name, unit),
            fill(f"- allowed: {setting.rule.allowed}") + "\n",
            f"\n{fill(setting.trade_off)}\n",
        ]
    return "".join(parts)


def fill(text: str) -> str:
    """The text in lines of at most 120 characters; what follows the first line of a list item is indented."""
    indent = "  " if text.startswith("- ") else ""
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _profiles(name: str, unit: str) -> str:
    """The line for what the profiles make of a setting, if they do."""
    found = [f"{profile} `{_plain(values[name])}`" for profile, values in PROFILES.items() if name in values]
    return fill(f"- by `profile`: {', '.join(found)} {unit}") + "\n" if found else ""


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.stdout.write(markdown())
