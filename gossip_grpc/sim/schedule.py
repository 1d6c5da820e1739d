"""The scenario language: what a simulated world is made of and what happens in it, as a text that people read.

    # Split and heal: both halves go on writing.
    cluster 6 interval=500ms
    network latency=1ms..5ms loss=10%
    every 100ms from 1s to 20s any put key{i} {i}
    at 5s   cut n1 n2 n3 | n4 n5 n6
    at 15s  heal
    at 20s  agree 5s
    end 30s

`parse` and `format` are inverse: parsing what was formatted gives an equal schedule. A schedule is data; it makes
sense whichever of its actions are left out, so a failing one can be shortened. docs/simulation.md describes each line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple, NoReturn, TypeVar

from gossip_grpc.core.selection import SelectorKind
from gossip_grpc.core.sync import Strategy
from gossip_grpc.sim.links import Latency, Link

ANY = "any"
"""In place of a node's name: one that is up, chosen by the seed."""

CLIENT_VERBS = ("put", "delete", "add", "reset", "set-add", "set-remove", "fill", "get")
"""What clients do at a node."""

MAX_NODES = 100_000

_LONGEST = 60
"""Letters of a wrong word that a message shows."""


class ScheduleError(ValueError):
    """A scenario is wrong. The message names the line, the word and what is allowed."""


class Start(StrEnum):
    """How a cluster begins."""

    FORMED = "formed"
    COLD = "cold"


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """One cluster: `cluster NAME COUNT option=value ...`. Its nodes are NAME1, NAME2, ...

    Attributes:
        nodes: how many there are at the start.
        name: letters; those of the nodes' names, and the name of the cluster that goes with every message.
        strategy: see `Config.strategy`; the same holds for those that follow.
        selector: which peers are chosen.
        fanout: how many peers a rumor goes to.
        interval: seconds between rounds.
        heartbeat: seconds between heartbeats, `heartbeat_interval`; an hour is as good as none.
        threshold: `phi_threshold`.
        pause: seconds, `acceptable_pause`.
        gather: seconds for which rumors are gathered, `rumor_interval`.
        retention: seconds for which tombstones are kept.
        bootstrap: seconds that a node waits for a seed until it takes writes, `bootstrap_window`.
        timeout: seconds that a peer may take to answer, `exchange_timeout`.
        syncs: how many syncs a node serves at a time, `max_inbound_syncs`.
        chunk: bytes of a chunk of a delta, about.
        zones: the nodes are spread over so many zones in turn.
        start: `formed`: all know all from the beginning; `cold`: they join by their seeds, the first three nodes.
        preload: so many registers `preload/1` ... are at every node of a formed cluster from the beginning.
    """

    nodes: int
    name: str = "n"
    strategy: Strategy = Strategy.PUSH_PULL
    selector: SelectorKind = SelectorKind.RANDOM
    fanout: int = 3
    interval: float = 1.0
    heartbeat: float = 0.5
    threshold: float = 8.0
    pause: float = 1.5
    gather: float = 0.005
    retention: float = 86_400.0
    bootstrap: float = 10.0
    timeout: float = 5.0
    syncs: int = 16
    chunk: int = 1 << 20
    zones: int = 1
    start: Start = Start.FORMED
    preload: int = 0


class Action(NamedTuple):
    """One thing that happens at one time.

    | verb                        | nodes            | args                                             |
    | --------------------------- | ---------------- | ------------------------------------------------ |
    | put                         | (node or `any`,) | (key, text), or (key, text, seconds, ephemeral)  |
    | delete, reset               | (node or `any`,) | (key,)                                           |
    | add                         | (node or `any`,) | (key, amount), or (key, amount, request_id)      |
    | set-add, set-remove         | (node or `any`,) | (key, element, ...)                              |
    | fill                        | (node or `any`,) | (prefix, count)                                  |
    | get                         | (node or `any`,) | (key,); of a session                             |
    | crash                       | (node,)          | (keeps its disk,): a bool                        |
    | restart, pause, resume, leave, snapshot | (node,) | ()                                            |
    | restore                     | (node,)          | (as an unmarked copy: a bool,)                   |
    | join                        | (node,)          | (name of the seed,) or ()                        |
    | slow                        | (node,)          | (seconds that each input takes,)                 |
    | skew                        | (node,)          | (seconds that its wall clock jumps by,)          |
    | drift                       | (node,)          | (rate of its steady clock,)                      |
    | rot                         | (node,)          | (key of a register,)                             |
    | swap                        | (node, node)     | ()                                               |
    | cut                         | ()               | (one way: a bool, group of names, group, ...)    |
    | heal, check                 | ()               | ()                                               |
    | link                        | (node,) or two   | (one way: a bool, ((attribute of Link, value), ...)) |
    | agree                       | ()               | (seconds,)                                       |
    """

    time: float
    verb: str
    nodes: tuple[str, ...] = ()
    args: tuple[Any, ...] = ()
    session: str = ""
    """The name of the session in which a client does it, if any."""


class Repeat(NamedTuple):
    """A client's action again and again, from `action.time` to `until`; `{i}` in its words counts from 1."""

    every: float
    until: float
    action: Action


@dataclass(frozen=True, slots=True)
class Schedule:
    """A scenario."""

    clusters: tuple[ClusterSpec, ...] = (ClusterSpec(5),)
    network: Link = field(default_factory=Link)
    repeats: tuple[Repeat, ...] = ()
    actions: tuple[Action, ...] = ()
    end: float = 60.0
    title: str = ""

    def names(self) -> list[str]:
        """Names of the nodes that there are at the start."""
        return [f"{spec.name}{number}" for spec in self.clusters for number in range(1, spec.nodes + 1)]

    def with_nodes(self, nodes: int) -> Schedule:
        """The same with another size of the first cluster."""
        first, *others = self.clusters
        return replace(self, clusters=(replace(first, nodes=nodes), *others))


# Words


class _WordError(ValueError):
    """What is wrong with a word, to which the parser adds the place."""


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)\Z")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(B|KB|MB|GB)?\Z")
_UNITS = {"us": Decimal("1e-6"), "ms": Decimal("1e-3"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_SIZES = {"": 1, "B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
_NODE = re.compile(r"([A-Za-z]+)([1-9]\d*)\Z")
_PLAIN = re.compile(r'[^\s"#|>][^\s"]*\Z')


def _duration(word: str, low: float = 0.0) -> float:
    match = _DURATION.match(word)
    if match is None:
        raise _WordError("a duration is wanted, such as 5ms, 3s, 2m or 1h")
    seconds = float(Decimal(match[1]) * _UNITS[match[2]])
    if not low <= seconds <= 1e9:
        raise _WordError(f"at least {_format_duration(low)} is wanted" if seconds < low else "this is too long")
    return seconds


def _signed(word: str) -> float:
    if word[:1] not in ("+", "-"):
        raise _WordError("a jump is wanted, such as +30s or -2m")
    return _duration(word[1:]) * (-1 if word[0] == "-" else 1)


def _share(word: str, name: str = "a share") -> float:
    text = word.removesuffix("%")
    if text == word or not re.fullmatch(r"\d+(\.\d+)?", text):
        raise _WordError(f"{name} must be 0% to 100%")
    share = Decimal(text) / 100
    if share > 1:
        raise _WordError(f"{name} must be 0% to 100%")
    return float(share)


def _size(word: str) -> int:
    match = _SIZE.match(word)
    size = int(Decimal(match[1]) * _SIZES[match[2] or ""]) if match else 0
    if not 1 <= size <= 1 << 50:
        raise _WordError("a size of at least one byte is wanted, such as 4096, 64KB or 1MB")
    return size


def _count(word: str, low: int, high: int) -> int:
    if not re.fullmatch(r"\d{1,12}", word) or not low <= int(word) <= high:
        raise _WordError(f"a number from {low} to {high} is wanted")
    return int(word)


def _amount(word: str) -> int:
    if not re.fullmatch(r"[+-]?\d{1,19}", word):
        raise _WordError("an amount is wanted, such as 3 or -3")
    return int(word)


def _threshold(word: str) -> float:
    try:
        threshold = float(word)
    except ValueError:
        threshold = 0.0
    if not 0.1 <= threshold <= 100:
        raise _WordError("a threshold of phi from 0.1 to 100 is wanted, such as 8")
    return threshold


def _rate(word: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", word) or not 0.1 <= float(word) <= 10:
        raise _WordError("a rate from 0.1 to 10 is wanted; 1 is a right clock")
    return float(word)


def _latency(word: str) -> Latency:
    span, _, tail = word.partition("+")
    low, between, high = span.partition("..")
    try:
        first = _duration(low)
        latency = Latency(first, _duration(high) if between else first, _duration(tail, 1e-6) if tail else 0.0)
    except _WordError:
        latency = Latency(1.0, 0.0)
    if latency.high < latency.low:
        raise _WordError("a latency is 5ms, or 1ms..5ms, or 1ms..5ms+10ms with a tail of 10ms on average")
    return latency


def _bandwidth(word: str) -> float | None:
    return None if word == "unbounded" else float(_size(word))


def _choice(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    def read(word: str) -> StrEnum:
        try:
            return kind(word)
        except ValueError:
            raise _WordError(f"one of {', '.join(kind)} is wanted") from None

    return read


def _number(low: int, high: int) -> Callable[[str], int]:
    return lambda word: _count(word, low, high)


def _exact(value: float) -> Decimal:
    return Decimal(repr(value))


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"


def _format_duration(seconds: float) -> str:
    exact = _exact(seconds)
    unit = "s"
    if seconds and seconds < 1:
        unit = "ms" if seconds >= 0.001 else "us"
    elif seconds >= 120 and seconds % 60 == 0:
        unit = "h" if seconds % 3600 == 0 else "m"
    return f"{_plain(exact / _UNITS[unit])}{unit}"


def _format_signed(seconds: float) -> str:
    return f"{'-' if seconds < 0 else '+'}{_format_duration(abs(seconds))}"


def _format_share(share: float) -> str:
    return f"{_plain(_exact(share) * 100)}%"


def _format_size(size: float) -> str:
    for unit in ("GB", "MB", "KB"):
        if size >= _SIZES[unit] and size % _SIZES[unit] == 0:
            return f"{int(size) // _SIZES[unit]}{unit}"
    return f"{int(size)}B"


def _format_latency(latency: Latency) -> str:
    text = _format_duration(latency.low)
    if latency.high != latency.low:
        text += f"..{_format_duration(latency.high)}"
    return f"{text}+{_format_duration(latency.tail)}" if latency.tail else text


def _format_bandwidth(bandwidth: float | None) -> str:
    return "unbounded" if bandwidth is None else _format_size(bandwidth)


def _quote(word: str) -> str:
    return word if _PLAIN.match(word) else json.dumps(word, ensure_ascii=False)


def _shown(text: str) -> str:
    """A word, or a line, of a scenario in a message: on one line, and not longer than people read."""
    short = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in short)


class _Option(NamedTuple):
    read: Callable[[str], Any]
    write: Callable[[Any], str]


_CLUSTER_OPTIONS = {
    "strategy": _Option(_choice(Strategy), str),
    "selector": _Option(_choice(SelectorKind), str),
    "fanout": _Option(_number(0, 1000), str),
    "interval": _Option(lambda word: _duration(word, 0.01), _format_duration),
    "heartbeat": _Option(lambda word: _duration(word, 0.01), _format_duration),
    "threshold": _Option(_threshold, lambda value: _plain(_exact(value))),
    "pause": _Option(_duration, _format_duration),
    "gather": _Option(_duration, _format_duration),
    "retention": _Option(lambda word: _duration(word, 1.0), _format_duration),
    "bootstrap": _Option(_duration, _format_duration),
    "timeout": _Option(lambda word: _duration(word, 0.01), _format_duration),
    "syncs": _Option(_number(1, 10_000), str),
    "chunk": _Option(_size, _format_size),
    "zones": _Option(_number(1, 1000), str),
    "start": _Option(_choice(Start), str),
    "preload": _Option(_number(0, 10_000_000), str),
}
_LINK_OPTIONS = {
    "latency": _Option(_latency, _format_latency),
    "loss": _Option(lambda word: _share(word, "loss"), _format_share),
    "duplicate": _Option(lambda word: _share(word, "duplicate"), _format_share),
    "reorder": _Option(lambda word: _share(word, "reorder"), _format_share),
    "bandwidth": _Option(_bandwidth, _format_bandwidth),
}


class _Word(NamedTuple):
    text: str
    column: int
    quoted: bool


# Parsing


def parse(text: str, name: str = "scenario") -> Schedule:
    """Read a scenario.

    Raises:
        ScheduleError: it is wrong; the message begins with `name` and the number of the line.
    """
    parser = _Parser(name)
    for number, line in enumerate(text.split("\n"), 1):
        parser.line(number, line.rstrip("\r"))
    return parser.finish()


class _Parser:
    def __init__(self, name: str) -> None:
        self._name = name
        self._number = 0
        self._line = ""
        self._words: list[_Word] = []
        self._next = 0
        self._clusters: list[ClusterSpec] = []
        self._network: Link | None = None
        self._repeats: list[Repeat] = []
        self._actions: list[Action] = []
        self._end: float | None = None
        self._title = ""
        self._joined: set[str] = set()
        self._named: list[tuple[int, str, _Word]] = []

    def line(self, number: int, line: str) -> None:
        self._number, self._line = number, line
        if number == 1 and line.startswith("#"):
            self._title = line.lstrip("#").strip()
        self._words = self._split(line)
        self._next = 0
        if not self._words:
            return
        first = self._take("a line")
        handlers = {
            "cluster": self._cluster,
            "network": self._network_line,
            "at": self._at,
            "every": self._every,
            "end": self._end_line,
        }
        if first.text not in handlers:
            self._fail(first, f"a line begins with one of {', '.join(handlers)}, or with # for a comment")
        handlers[first.text]()
        if self._next < len(self._words):
            self._fail(self._words[self._next], "the line should end before this word")

    def finish(self) -> Schedule:
        clusters = tuple(self._clusters)
        if not clusters:
            raise ScheduleError(f"{self._name}: there is no line `cluster COUNT`")
        schedule = Schedule(
            clusters,
            self._network or Link(),
            tuple(self._repeats),
            tuple(self._actions),
            60.0 if self._end is None else self._end,
            self._title,
        )
        known = {*schedule.names(), *self._joined, ANY}
        for number, line, word in self._named:
            if word.text not in known:
                self._number, self._line = number, line
                spans = ", ".join(f"{spec.name}1 to {spec.name}{spec.nodes}" for spec in clusters)
                self._fail(word, f"there is no such node; there are {spans}, and those that join")
        return schedule

    # Lines

    def _cluster(self) -> None:
        word = self._take("how many nodes there are")
        name = "n"
        if not word.text.isdigit():
            name = word.text
            if not re.fullmatch(r"[A-Za-z]{1,20}", name) or name == ANY:
                self._fail(word, "a cluster's name is of letters; or else the number of nodes is wanted")
            word = self._take("how many nodes there are")
        if any(spec.name == name for spec in self._clusters):
            self._fail(word, f"there is a cluster {name} already; give this one a name: cluster B {_shown(word.text)}")
        nodes = self._read(word, _number(1, MAX_NODES))
        options = self._options(_CLUSTER_OPTIONS)
        self._clusters.append(ClusterSpec(nodes, name, **options))

    def _network_line(self) -> None:
        if self._network is not None:
            self._fail(self._words[0], "there is a line `network` already")
        self._network = Link(**self._options(_LINK_OPTIONS))

    def _end_line(self) -> None:
        if self._end is not None:
            self._fail(self._words[0], "there is a line `end` already")
        self._end = self._read(self._take("a time"), _duration)

    def _at(self) -> None:
        time = self._read(self._take("a time"), _duration)
        self._actions.append(self._action(time))

    def _every(self) -> None:
        every = self._read(self._take("a duration"), lambda word: _duration(word, 0.001))
        self._expect("from")
        start = self._read(self._take("a time"), _duration)
        self._expect("to")
        last = self._take("a time")
        until = self._read(last, _duration)
        if until < start:
            self._fail(last, f"this is before {_format_duration(start)}, when it begins")
        word = self._peek()
        action = self._action(start)
        if action.verb not in CLIENT_VERBS:
            self._fail(word or self._words[0], f"only a client's action repeats: NODE {'|'.join(CLIENT_VERBS)} ...")
        self._repeats.append(Repeat(every, until, action))

    def _action(self, time: float) -> Action:
        word = self._take("what happens")
        if word.text in _VERBS:
            nodes, args = _VERBS[word.text].read(self)
            return Action(time, word.text, nodes, args)
        if word.text != ANY and not _NODE.match(word.text):
            self._fail(word, f"wanted is NODE {'|'.join(CLIENT_VERBS)}, or one of {', '.join(_VERBS)}")
        self._check_name(word)
        session = self._session() if self.maybe("as") else ""
        verb = self._take("what a client does there")
        if verb.text not in CLIENT_VERBS:
            self._fail(verb, f"a client does one of {', '.join(CLIENT_VERBS)}")
        if verb.text == "get" and not session:
            self._fail(verb, "only a session has something to expect of what it reads: NODE as s1 get KEY")
        if verb.text == "fill" and session:
            self._fail(verb, "a session does one thing at a time")
        return Action(time, verb.text, (word.text,), self._client(verb.text), session)

    def _session(self) -> str:
        word = self._take("the name of a session")
        if not re.fullmatch(r"[A-Za-z0-9-]{1,20}", word.text):
            self._fail(word, "the name of a session is of letters and digits, such as s1")
        return word.text

    def _client(self, verb: str) -> tuple[Any, ...]:
        key = self.text("a key")
        if verb == "put":
            return key, self.text("a value"), *self._lease()
        if verb == "add":
            return key, self._read(self._take("an amount"), _amount), *self._request()
        if verb == "fill":
            return key, self._read(self._take("a number of keys"), _number(1, 1_000_000))
        if verb in ("set-add", "set-remove"):
            elements = [self.text("an element")]
            while self._peek():
                elements.append(self.text("an element"))
            return key, *elements
        return (key,)

    def _request(self) -> tuple[str, ...]:
        """The request that a client may have made before."""
        word = self._peek()
        if word is None or word.quoted or not word.text.startswith("id="):
            return ()
        self._next += 1
        return (word.text.removeprefix("id="),)

    def _lease(self) -> tuple[Any, ...]:
        """How long a value is to stay, if that is not for ever."""
        ttl, ephemeral = 0.0, False
        while word := self._peek():
            if not ttl and not word.quoted and word.text.startswith("ttl="):
                self._next += 1
                ttl = self._read(word, lambda text: _duration(text.removeprefix("ttl="), 0.001))
            elif not ephemeral and self.maybe("ephemeral"):
                ephemeral = True
            else:
                break
        return (ttl, ephemeral) if ttl or ephemeral else ()

    # What verbs read

    def text(self, what: str) -> str:
        """A word that clients write."""
        return self._take(what).text

    def value(self, what: str, read: Callable[[str], Any]) -> Any:
        """A word of a form of its own."""
        return self._read(self._take(what), read)

    def node(self) -> str:
        """The name of a node."""
        word = self._take("a node")
        if not _NODE.match(word.text):
            self._fail(word, "the name of a node is wanted, such as n1")
        self._check_name(word)
        return word.text

    def newcomer(self) -> str:
        """The name of a node that is still to come."""
        word = self._take("a node")
        match = _NODE.match(word.text)
        spec = next((spec for spec in self._clusters if match and spec.name == match[1]), None)
        if match is None or spec is None:
            self._fail(word, "the name of a node of one of the clusters above is wanted, such as n6")
        if int(match[2]) <= spec.nodes or word.text in self._joined:
            self._fail(word, "there is such a node already; a newcomer has a number of its own")
        self._joined.add(word.text)
        return word.text

    def maybe(self, text: str) -> bool:
        """Whether this word is the next one; it is taken then."""
        word = self._peek()
        if word is None or word.quoted or word.text != text:
            return False
        self._next += 1
        return True

    def groups(self) -> tuple[bool, tuple[tuple[str, ...], ...]]:
        """Groups of nodes between `|`, or two between `>`; whether it was that."""
        groups: list[list[str]] = [[self.node()]]
        one_way = False
        while word := self._peek():
            if word.text in ("|", ">") and not word.quoted:
                if (one_way or word.text == ">") and len(groups) > 1:
                    self._fail(word, "a cut is GROUP | GROUP | ..., or GROUP > GROUP")
                one_way = word.text == ">"
                self._next += 1
                groups.append([])
            groups[-1].append(self.node())
        names = [name for group in groups for name in group]
        if len(groups) < 2:
            self._fail(self._words[-1], "a cut has two groups at least: n1 n2 | n3 n4, or n1 > n2")
        if len(set(names)) < len(names):
            self._fail(self._words[-1], "each node stands in one group only")
        return one_way, tuple(tuple(group) for group in groups)

    def link_options(self) -> tuple[tuple[str, Any], ...]:
        """What changes on a link, in the order of Link's attributes."""
        options = self._options(_LINK_OPTIONS)
        if not options:
            self._fail(self._words[-1], f"say what changes: {', '.join(f'{name}=...' for name in _LINK_OPTIONS)}")
        return tuple((name, options[name]) for name in _LINK_OPTIONS if name in options)

    def at_option(self) -> bool:
        """Whether the next word is of the form name=value."""
        word = self._peek()
        return word is not None and "=" in word.text

    # Words

    def _options(self, known: Mapping[str, _Option]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while word := self._peek():
            self._next += 1
            name, equals, value = word.text.partition("=")
            if not equals or name not in known:
                self._fail(word, f"wanted is one of {', '.join(f'{option}=...' for option in known)}")
            if name in values:
                self._fail(word, f"{name} is given twice")
            values[name] = self._read(_Word(value, word.column, word.quoted), known[name].read, word)
        return values

    def _check_name(self, word: _Word) -> None:
        self._named.append((self._number, self._line, word))

    def _peek(self) -> _Word | None:
        return self._words[self._next] if self._next < len(self._words) else None

    def _take(self, what: str) -> _Word:
        word = self._peek()
        if word is None:
            raise ScheduleError(
                f"{self._name}, line {self._number}: `{_shown(self._line.strip())}` ends where {what} is wanted"
            )
        self._next += 1
        return word

    def _expect(self, text: str) -> None:
        word = self._take(f"`{text}`")
        if word.text != text:
            self._fail(word, f"`{text}` is wanted here: every 100ms from 1s to 5s any put key{{i}} {{i}}")

    def _read(self, word: _Word, read: Callable[[str], _T], shown: _Word | None = None) -> _T:
        try:
            return read(word.text)
        except _WordError as problem:
            self._fail(shown or word, str(problem))

    def _fail(self, word: _Word, problem: str) -> NoReturn:
        place = f"{self._name}, line {self._number}, column {word.column}"
        raise ScheduleError(f"{place}: `{_shown(word.text)}`: {problem}") from None

    def _split(self, line: str) -> list[_Word]:
        words = []
        index = 0
        while index < len(line):
            if line[index].isspace():
                index += 1
            elif line[index] == "#":
                break
            elif line[index] == '"':
                try:
                    text, end = json.JSONDecoder().raw_decode(line, index)
                except json.JSONDecodeError:
                    self._fail(_Word(line[index:], index + 1, quoted=True), "a text ends with a quote, as in JSON")
                words.append(_Word(text, index + 1, quoted=True))
                index = end
            else:
                end = index
                while end < len(line) and not line[end].isspace():
                    end += 1
                words.append(_Word(line[index:end], index + 1, quoted=False))
                index = end
        return words


_T = TypeVar("_T")
_Read = tuple[tuple[str, ...], tuple[Any, ...]]


class _Verb(NamedTuple):
    read: Callable[[_Parser], _Read]
    write: Callable[[Action], Iterable[str]]


def _one(parser: _Parser) -> _Read:
    return (parser.node(),), ()


def _none(_: _Parser) -> _Read:
    return (), ()


def _crash(parser: _Parser) -> _Read:
    return (parser.node(),), (parser.maybe("disk"),)


def _restore(parser: _Parser) -> _Read:
    return (parser.node(),), (parser.maybe("unmarked"),)


def _join(parser: _Parser) -> _Read:
    name = parser.newcomer()
    return (name,), (parser.node(),) if parser.maybe("via") else ()


def _cut(parser: _Parser) -> _Read:
    one_way, groups = parser.groups()
    return (), (one_way, *groups)


def _link(parser: _Parser) -> _Read:
    nodes = [parser.node()]
    one_way = parser.maybe(">")
    if one_way or not parser.at_option():
        nodes.append(parser.node())
    return tuple(nodes), (one_way, parser.link_options())


def _valued(what: str, read: Callable[[str], Any]) -> Callable[[_Parser], _Read]:
    return lambda parser: ((parser.node(),), (parser.value(what, read),))


def _agree(parser: _Parser) -> _Read:
    return (), (parser.value("a duration", _duration),)


def _swap(parser: _Parser) -> _Read:
    return (parser.node(), parser.node()), ()


def _rot(parser: _Parser) -> _Read:
    return (parser.node(),), (parser.text("a key"),)


def _write_nodes(action: Action) -> Iterable[str]:
    return action.nodes


def _write_cut(action: Action) -> Iterable[str]:
    one_way, *groups = action.args
    return (f" {'>' if one_way else '|'} ".join(" ".join(group) for group in groups),)


def _write_link(action: Action) -> Iterable[str]:
    one_way, options = action.args
    names = " > ".join(action.nodes) if one_way else " ".join(action.nodes)
    return names, *(f"{name}={_LINK_OPTIONS[name].write(value)}" for name, value in options)


def _write_valued(write: Callable[[Any], str]) -> Callable[[Action], Iterable[str]]:
    return lambda action: (*action.nodes, *(write(value) for value in action.args))


_VERBS = {
    "crash": _Verb(_crash, lambda action: (*action.nodes, "disk") if action.args[0] else action.nodes),
    "restart": _Verb(_one, _write_nodes),
    "snapshot": _Verb(_one, _write_nodes),
    "restore": _Verb(_restore, lambda action: (*action.nodes, "unmarked") if action.args[0] else action.nodes),
    "pause": _Verb(_one, _write_nodes),
    "resume": _Verb(_one, _write_nodes),
    "cut": _Verb(_cut, _write_cut),
    "heal": _Verb(_none, _write_nodes),
    "link": _Verb(_link, _write_link),
    "slow": _Verb(_valued("a duration", _duration), _write_valued(_format_duration)),
    "skew": _Verb(_valued("a jump", _signed), _write_valued(_format_signed)),
    "drift": _Verb(_valued("a rate", _rate), _write_valued(lambda rate: _plain(_exact(rate)))),
    "join": _Verb(_join, lambda action: (*action.nodes, *(f"via {name}" for name in action.args))),
    "leave": _Verb(_one, _write_nodes),
    "rot": _Verb(_rot, _write_valued(_quote)),
    "swap": _Verb(_swap, _write_nodes),
    "agree": _Verb(_agree, _write_valued(_format_duration)),
    "check": _Verb(_none, _write_nodes),
}


# Formatting


def format_action(action: Action) -> str:
    """An action as it stands in a scenario, its time aside."""
    if action.verb in CLIENT_VERBS:
        session = ["as", action.session] if action.session else []
        words = [action.nodes[0], *session, action.verb, *_written_args(action)]
    else:
        words = [action.verb, *_VERBS[action.verb].write(action)]
    return " ".join(words)


def _written_args(action: Action) -> list[str]:
    """What a client's verb is done with."""
    if action.verb == "add":
        key, amount, *request = action.args
        return [_quote(key), str(amount), *(f"id={request_id}" for request_id in request)]
    if action.verb != "put":
        return [_quote(str(arg)) for arg in action.args]
    key, text, *lease = action.args
    ttl, ephemeral = lease or (0.0, False)
    words = [_quote(key), _quote(text)]
    return [*words, *([f"ttl={_format_duration(ttl)}"] if ttl else []), *(["ephemeral"] if ephemeral else [])]


def format(schedule: Schedule) -> str:  # noqa: A001 - the counterpart of parse
    """A schedule as the text that `parse` reads."""
    lines = [f"# {schedule.title}"] if schedule.title else []
    for spec in schedule.clusters:
        name = [] if spec.name == "n" else [spec.name]
        options = _written(spec, ClusterSpec(spec.nodes, spec.name), _CLUSTER_OPTIONS)
        lines.append(" ".join(["cluster", *name, str(spec.nodes), *options]))
    changed = _written(schedule.network, Link(), _LINK_OPTIONS)
    if changed:
        lines.append(" ".join(["network", *changed]))
    for every, until, action in schedule.repeats:
        span = f"from {_format_duration(action.time)} to {_format_duration(until)}"
        lines.append(f"every {_format_duration(every)} {span} {format_action(action)}")
    lines += [f"at {_format_duration(action.time):<7} {format_action(action)}" for action in schedule.actions]
    return "\n".join([*lines, f"end {_format_duration(schedule.end)}", ""])


def _written(value: Any, default: Any, options: Mapping[str, _Option]) -> list[str]:
    names = [item.name for item in fields(value) if item.name in options]
    return [
        f"{name}={options[name].write(getattr(value, name))}"
        for name in names
        if getattr(value, name) != getattr(default, name)
    ]
