"""docs/configuration.md: the settings in gossip_grpc/config.py."""

from __future__ import annotations

import re

from docs.pages.text import escape, fill, notice
from gossip_grpc.config import OTHER_VARIABLES, PREFIX, PROFILES, SETTINGS, defaults

_HEAD = f"""\
# Configuration

{notice("gossip_grpc/config.py")}
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
            f"\n## {name}\n\n{fill(_linked(setting.help, name))}\n\n",
            fill(f"- {flag}environment `{PREFIX}{name.upper()}`") + "\n",
            fill(f"- default: {_linked(default, name)}") + "\n",
            _profiles(name, unit),
            fill(f"- allowed: {escape(setting.rule.allowed)}") + "\n",
            f"\n{fill(_linked(setting.trade_off, name))}\n",
        ]
    return "".join(parts)


def _linked(text: str, here: str) -> str:
    """Text for Markdown in which the names of other settings are links to them."""

    def link(found: re.Match[str]) -> str:
        return f"[{found[0]}](#{found[1]})" if found[1] in SETTINGS and found[1] != here else found[0]

    return re.sub(r"`(\w+)`", link, escape(text))


def _profiles(name: str, unit: str) -> str:
    """The line for what the profiles make of a setting, if they do."""
    found = [f"{profile} `{_plain(values[name])}`" for profile, values in PROFILES.items() if name in values]
    return fill(f"- by `profile`: {', '.join(found)} {unit}") + "\n" if found else ""


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
