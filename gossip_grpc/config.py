"""Every setting of a node: what it is, what it may be, and where its value comes from.

`Config` is the one table; `load`, the command line's flags and docs/configuration.md (by docs/generate.py) are
made of it. The network is not touched here: addresses are checked as text.
"""

from __future__ import annotations

import dataclasses
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from gossip_grpc import addresses, toml_file
from gossip_grpc.core.detector import DetectorSettings
from gossip_grpc.core.limits import Limits, is_name
from gossip_grpc.core.selection import SelectorKind
from gossip_grpc.core.sync import Strategy
from gossip_grpc.errors import ConfigError
from gossip_grpc.settings import AddressList, AddressText, Choice, Number, Rule, Setting, Tags, Text, shown

LogFormat = Literal["auto", "json", "console"]
Profile = Literal["lan", "wan", "local"]
Switch = Literal["off", "on"]
LogLevel = Literal["debug", "info", "warning", "error"]

PREFIX = "GOSSIP_"
OTHER_VARIABLES = {
    "GOSSIP_CONFIG": "names the TOML file, if the command line does not",
    "GOSSIP_ADDRESS": "is read by client commands: the node they talk to",
}
"""Variables of that prefix that are no settings of a node."""

_OF_KUBERNETES = re.compile(r"_(SERVICE|PORT)(_|$)")
_SERVICE_LINK = (
    "unset it (Kubernetes sets such variables for a Service whose name begins with gossip; enableServiceLinks: false "
    "in the pod's spec prevents it)"
)


def _setting(value: Any, **known: Any) -> Any:
    """A field with a default and what is known of it, as `Setting` takes it."""
    metadata = {"setting": Setting(**known)}
    if isinstance(value, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=value, metadata=metadata)


PROFILES: dict[str, dict[str, float]] = {
    "lan": {
        "gossip_interval": 1.0,
        "exchange_timeout": 5.0,
        "heartbeat_interval": 0.5,
        "acceptable_pause": 1.5,
        "probe_timeout": 0.3,
        "suspicion_timeout": 3.0,
    },
    "wan": {
        "gossip_interval": 2.0,
        "exchange_timeout": 10.0,
        "heartbeat_interval": 1.0,
        "acceptable_pause": 5.0,
        "probe_timeout": 1.5,
        "suspicion_timeout": 10.0,
    },
    "local": {
        "gossip_interval": 0.5,
        "exchange_timeout": 5.0,
        "heartbeat_interval": 0.2,
        "acceptable_pause": 0.5,
        "probe_timeout": 0.1,
        "suspicion_timeout": 1.0,
    },
}
"""Profile -> the settings that it sets, where they are not given themselves. All set the same ones."""


class _ByProfile(float):
    """The default of a setting that profiles set, by its type told apart from the same number given on purpose."""


def _by_profile(name: str) -> Any:
    return _ByProfile(PROFILES["lan"][name])


_LIMITS = Limits()
_DETECTOR = DetectorSettings()
# The ranges of the limits keep a full chunk, one more record of the largest key and value, and the digests of a large
# cluster below the 4 MiB that gRPC accepts in one message.
_NAME = "1 to 128 characters of A-Z, a-z, 0-9, '.', '_' and '-'"


def _is_name_or_empty(text: str) -> bool:
    return not text or is_name(text)


def _is_zone(text: str) -> bool:
    return len(text) <= 128 and text == text.strip()


def _is_path(text: str) -> bool:
    return text == text.strip()


def _bytes(low: int, high: int) -> Number:
    return Number(kind=int, low=low, high=high, unit="bytes")


def _seconds(low: float, high: float) -> Number:
    return Number(kind=float, low=low, high=high, unit="seconds")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one node, checked: constructing it raises ConfigError with a line for each wrong value."""

    node_id: str = _setting(
        "",
        rule=Text(accepts=_is_name_or_empty, allowed=f"{_NAME}; empty for the host name"),
        help="The node's name, unique in its cluster and the same after a restart.",
        trade_off="Of two live nodes of one name the older stops, with exit code 4; a name that changes at every "
        "start leaves a dead member behind each time.",
        flag="--node-id",
        default="the host name",
    )
    cluster: str = _setting(
        "default",
        rule=Text(accepts=is_name, allowed=_NAME),
        help="The cluster's name; nodes of other clusters are refused before any state is exchanged.",
        trade_off="Two clusters of one name merge for good as soon as one node of each meets the other.",
        flag="--cluster",
    )
    peer_listen: str = _setting(
        "127.0.0.1:7946",
        rule=AddressText(wildcard=True, port_zero=True),
        help="Where the node listens for its peers; port 0 takes any free port.",
        trade_off="On the loopback interface only nodes of the same machine get through; on all interfaces everybody "
        "who reaches the machine does.",
        flag="--peer-listen",
    )
    client_listen: str = _setting(
        "127.0.0.1:7947",
        rule=AddressText(wildcard=True, port_zero=True),
        help="Where the node listens for clients; port 0 takes any free port.",
        trade_off="On the loopback interface only clients of the same machine get through; on all interfaces everybody "
        "who reaches the machine can read and write.",
        flag="--client-listen",
    )
    advertise: str = _setting(
        "",
        rule=AddressText(empty=True, port_zero=True),
        help="Where peers reach the node; port 0 stands for the port it listens on. Required if `peer_listen` is "
        "0.0.0.0 or [::], which nobody can call.",
        trade_off="If peers cannot reach it, the node hears of others but is soon taken for dead.",
        flag="--advertise",
        default="the address of `peer_listen`",
    )
    advertise_client: str = _setting(
        "",
        rule=AddressText(empty=True, port_zero=True),
        help="Where clients reach the node; port 0 stands for the port it listens on.",
        trade_off="If it is wrong, clients that find nodes by the list of members cannot reach this one.",
        flag="--advertise-client",
        default="the address of `client_listen`, with the host of `advertise` if that is 0.0.0.0 or [::]",
    )
    data_dir: str = _setting(
        "",
        rule=Text(accepts=_is_path, allowed="empty, or the path of a directory without spaces at the ends"),
        help="Where the node keeps its state, in a directory of its own that is made if it is not there. Then writes "
        "are acknowledged once they are on disk, unless the client asks for less.",
        trade_off="With none, what a node has acknowledged in the last moments before it is killed is lost with it, "
        "and all state is once no node of the cluster runs. With one, each write waits for the disk.",
        flag="--data-dir",
        default="none: in memory only",
    )
    join: tuple[str, ...] = _setting(
        (),
        rule=AddressList(),
        help="Seeds: peer addresses of some nodes of the cluster. Names are resolved again and again; the node's own "
        "address does no harm.",
        trade_off="With none, the node starts a cluster of its own and waits to be joined; with one, nobody can join "
        "while that one is down.",
        flag="--join",
        default="none",
    )
    strategy: Strategy = _setting(  # noqa: RUF009 - it makes the field
        Strategy.PUSH_PULL,
        rule=Choice(words=tuple(Strategy), enum=Strategy),
        help="Which way records flow in a round of anti-entropy.",
        trade_off="Push alone is slow to reach the last nodes, pull alone is slow to spread what is new; push-pull "
        "does both in one round for one call more.",
        flag="--strategy",
    )
    selector: SelectorKind = _setting(  # noqa: RUF009 - it makes the field
        SelectorKind.RANDOM,
        rule=Choice(words=tuple(SelectorKind), enum=SelectorKind),
        help="How the node selects the peer of a round.",
        trade_off="random is robust but may pass a peer over for a while; round-robin bounds that wait; hypercube "
        "spreads fastest while all agree on who is there; zone-aware spares the links between zones and takes "
        "longer across them.",
        flag="--selector",
    )
    zone: str = _setting(
        "",
        rule=Text(
            accepts=_is_zone,
            allowed="empty, or up to 128 printable characters without spaces at the ends",
        ),
        help="Where the node stands, such as a rack or a data centre; zone-aware selection prefers peers of the same "
        "zone.",
        trade_off="Zones too small leave most peers far, zones too large hide the slow links inside.",
        flag="--zone",
        default="none",
    )
    tags: Mapping[str, str] = _setting(
        {},
        rule=Tags(),
        help="What the node says of itself to all others, as names with values.",
        trade_off="Every node keeps the tags of every member, and a change travels to all of them.",
        flag="--tag",
        default="none",
    )
    fanout: int = _setting(
        3,
        rule=Number(kind=int, low=0, high=100),
        help="How many peers a fresh write is pushed to at once, by its writer and by each node it is new to; 0 turns "
        "rumors off.",
        trade_off="Too low: writes spread by rounds of anti-entropy, in seconds rather than milliseconds. Too high: "
        "each write is sent many times to nodes that have it.",
        flag="--fanout",
    )
    channelz: Switch = _setting(  # noqa: RUF009 - it makes the field
        "off",
        rule=Choice(words=get_args(Switch)),
        help="Whether clients may ask for the connections of this process, by the service grpc.channelz.v1: who is "
        "connected, and what each connection has sent, received and waits for.",
        trade_off="on: everybody who reaches `client_listen` sees the addresses of all clients and peers, and if the "
        "node is embedded in a program, of all else that this program does by gRPC. off: connections can be looked at "
        "from outside only.",
    )
    profile: Profile = _setting(  # noqa: RUF009 - it makes the field
        "lan",
        rule=Choice(words=tuple(PROFILES)),
        help="Sets the intervals and timeouts together, for the network that the nodes are on: lan within a data "
        "centre, wan across the internet, local on one machine. A setting that is given itself goes before its "
        "profile.",
        trade_off="local on a network, or lan across the internet: delays that are usual there are taken for failures. "
        "wan within a data centre: a node that is down is found out about three times as late.",
        flag="--profile",
    )
    gossip_interval: float = _setting(
        _by_profile("gossip_interval"),
        rule=_seconds(0.01, 3600),
        help="Time between two rounds of anti-entropy that the node starts.",
        trade_off="Too low: processor and network are busy with comparing equal states. Too high: what rumors have "
        "missed stays missing for long.",
        flag="--gossip-interval",
    )
    rumor_interval: float = _setting(
        0.005,
        rule=_seconds(0, 10),
        help="How long fresh writes are gathered before they are pushed together.",
        trade_off="Too low: under load each write costs calls of its own. Too high: every write arrives that much "
        "later at each hop.",
    )
    exchange_timeout: float = _setting(
        _by_profile("exchange_timeout"),
        rule=_seconds(0.01, 300),
        help="Deadline of one call to a peer.",
        trade_off="Too low: large deltas break off and slow peers seem unreachable. Too high: a peer that hangs "
        "holds up a round for long.",
    )
    bootstrap_window: float = _setting(
        10.0,
        rule=_seconds(0, 3600),
        help="How long a starting node that has seeds waits for a first sync before it takes writes without one.",
        trade_off="Too low: writes taken before the first sync may lose to older ones. Too high: if all seeds are "
        "down, the node refuses writes for that long.",
    )
    tombstone_retention: float = _setting(
        86400.0,
        rule=_seconds(1, 315_360_000),
        help="How long deletions are remembered.",
        trade_off="Too low: a node that was away for longer needs a full sync, which sends everything. Too high: "
        "memory and full syncs hold deletions that all nodes know.",
    )
    event_retention: float = _setting(
        60.0,
        rule=_seconds(1, 86_400),
        help="How long events are kept for subscribers that come late, and for nodes that were cut off.",
        trade_off="Too low: a node that was cut off for longer misses events. Too high: every node holds all events of "
        "that time in memory.",
    )
    request_retention: float = _setting(
        3600.0,
        rule=_seconds(1, 31_536_000),
        help="How long the node remembers by which `request_id` it or others have added to a counter.",
        trade_off="Too low: what was added twice, at nodes that could not reach each other for longer, counts twice. "
        "Too high: memory and disk hold a receipt of each such addition for that long, up to `max_receipts`.",
    )
    seed_interval: float = _setting(
        5.0,
        rule=_seconds(0.01, 3600),
        help="How often the names of seeds are resolved again.",
        trade_off="Too low: needless work for the name server. Too high: a seed that has moved is found late.",
    )
    heartbeat_interval: float = _setting(
        _by_profile("heartbeat_interval"),
        rule=_seconds(0.01, 60),
        help="How often the node sends a heartbeat to each of its monitors, 3 at most whatever the cluster's size.",
        trade_off="A node sends 3 / heartbeat_interval messages a second, and its phi crosses the threshold after mean "
        "+ acceptable_pause + margin * deviation seconds without one, where the mean of the gaps is about "
        "heartbeat_interval. Too low: processor and network are busy with heartbeats. Too high: a crash is found out "
        "that much later. Give all nodes the same: a monitor expects of others what it does itself until it has "
        "learned their gaps.",
    )
    phi_threshold: float = _setting(
        _DETECTOR.phi_threshold,
        rule=Number(kind=float, low=0.5, high=100),
        help="From which phi on a monitor doubts that a member is alive, and asks it and others. phi = -log10(Q(z)), "
        "where z = (time since its last sign of life - mean - acceptable_pause) / deviation, and Q is the tail of the "
        "normal distribution: at phi 1 one doubt in ten is unfounded, at 8 one in 10^8, as far as gaps are normal.",
        trade_off="The threshold stands for a margin of so many deviations: 8 for 5.6, 4 for 3.7, 12 for 7.0. Too low: "
        "heartbeats that are merely late lead to probes, which cost messages. Too high: a crash is found out later, by "
        "a fraction of a second.",
    )
    acceptable_pause: float = _setting(
        _by_profile("acceptable_pause"),
        rule=_seconds(0.05, 600),
        help="For how long a member may be silent beyond the usual gap, such as in a collection of garbage or on a "
        "busy machine, without any doubt. It is added to the mean that phi is computed with; and a node whose own "
        "timer is late by more than that takes its own silence for the cause.",
        trade_off="Too low: members that pause are doubted, and if they do not answer probes either, accused. Too "
        "high: every crash is found out that much later.",
    )
    min_deviation: float = _setting(
        _DETECTOR.min_deviation,
        rule=_seconds(0.001, 60),
        help="The least standard deviation of the gaps between heartbeats that phi is computed with.",
        trade_off="The deviation counts 5.6 times at the default threshold. Too low: on a quiet network the measured "
        "one is so small that the first delay crosses the threshold. Too high: a crash is found out later, by 5.6 "
        "times as much.",
    )
    probe_timeout: float = _setting(
        _by_profile("probe_timeout"),
        rule=_seconds(0.01, 60),
        help="How long a monitor in doubt waits for the member to answer a probe; for the others that it asks then to "
        "probe it too, twice as long.",
        trade_off="From doubt to accusation it takes up to 3 * probe_timeout; give it several round trips. Too "
        "low: members that can be reached, but are far away or busy, are accused. Too high: a crash is found out "
        "later, by three times as much.",
    )
    indirect_probes: int = _setting(
        _DETECTOR.indirect_probes,
        rule=Number(kind=int, low=0, high=100),
        help="How many others a monitor asks to probe a member that does not answer it; 0 for none.",
        trade_off="If a round trip fails with probability p, all probes fail with p * (1 - (1 - p)^2)^indirect_probes. "
        "Too low: a monitor that cannot reach a member itself accuses it, though others can. Too high: when many nodes "
        "fail at once, each costs that many calls more.",
    )
    suspicion_timeout: float = _setting(
        _by_profile("suspicion_timeout"),
        rule=_seconds(0, 3600),
        help="How long a member is suspect until it is dead if it has one monitor only, as in a cluster of two, or if "
        "those who accuse it are accused themselves. If two accuse it whom nobody accuses, it is dead at once.",
        trade_off="Too low: in a cluster of two an accused member has no time to refute, and neither has anybody when "
        "a partition ends. Too high: there, or when many nodes fail at once, a crash is found out that much later.",
    )
    reap_after: float = _setting(
        _DETECTOR.reap_after,
        rule=_seconds(1, 315_360_000),
        help="How long a member that is dead or has left is remembered, from the last accusation, or from when it "
        "left. While it is, the node tries to reach it now and then.",
        trade_off="Too low: the two sides of a longer partition forget each other; then only seeds bring them "
        "together, and who has none there stays away. Too high: lists of members are full of those that will not "
        "come back.",
    )
    leave_timeout: float = _setting(
        3.0,
        rule=_seconds(0, 4),
        help="How long a stopping node tries to tell its peers that it leaves; stopping takes 5 seconds at most.",
        trade_off="Too low: its peers take it for crashed until they find out otherwise. Too high: stopping takes that "
        "long if no peer answers.",
    )
    log_format: LogFormat = _setting(  # noqa: RUF009 - it makes the field
        "auto",
        rule=Choice(words=get_args(LogFormat)),
        help="Form of the log on stderr; auto is console on a terminal and json elsewhere.",
        trade_off="json is for machines and hard to read; console is for people and has no fixed form.",
        flag="--log-format",
    )
    log_level: LogLevel = _setting(  # noqa: RUF009 - it makes the field
        "info",
        rule=Choice(words=get_args(LogLevel)),
        help="The least important events that are logged.",
        trade_off="Too low (debug): several lines a round, at a cost. Too high (error): warnings that announce "
        "trouble are not seen.",
        flag="--log-level",
    )
    max_key_bytes: int = _setting(
        _LIMITS.max_key_bytes,
        rule=_bytes(1, 4096),
        help="Longest key that clients may write, in UTF-8.",
        trade_off="Too low: clients are refused. Too high: keys, which every delta repeats, fill memory and network.",
    )
    max_value_bytes: int = _setting(
        _LIMITS.max_value_bytes,
        rule=_bytes(1, 2 * 1024 * 1024),
        help="Largest value of a register that clients may write.",
        trade_off="Too low: clients are refused. Too high: one value holds up all else on its connection, and each "
        "rumor of it is sent `fanout` times.",
    )
    max_element_bytes: int = _setting(
        _LIMITS.max_element_bytes,
        rule=_bytes(1, 1024 * 1024),
        help="Largest element of a set that clients may add.",
        trade_off="Too low: clients are refused. Too high: sets of large elements fill memory, and removed elements "
        "keep theirs until they are purged.",
    )
    max_tags_bytes: int = _setting(
        _LIMITS.max_tags_bytes,
        rule=_bytes(0, 65536),
        help="Most that the names and values of `tags` may take together, in UTF-8.",
        trade_off="Too low: the node does not start with its tags. Too high: the list of members grows by as much for "
        "each member.",
    )
    max_records: int = _setting(
        _LIMITS.max_records,
        rule=Number(kind=int, low=1, high=1_000_000_000),
        help="Most records the node holds before it refuses writes that would add one.",
        trade_off="Too low: writes are refused though there is memory. Too high: the node runs out of memory first "
        "and is killed.",
    )
    max_inbound_syncs: int = _setting(
        _LIMITS.max_inbound_syncs,
        rule=Number(kind=int, low=1, high=1024),
        help="How many syncs that peers have begun the node takes part in at a time; others are told to try later.",
        trade_off="Too low: nodes that join together wait for each other. Too high: when many join, all of them are "
        "served slowly, and so are clients.",
    )
    max_event_bytes: int = _setting(
        _LIMITS.max_event_bytes,
        rule=_bytes(1, 1024 * 1024),
        help="Largest payload of an event that clients may publish.",
        trade_off="Too low: clients are refused. Too high: every node keeps every event for `event_retention`, and "
        "large ones fill its memory.",
    )
    max_watchers: int = _setting(
        _LIMITS.max_watchers,
        rule=Number(kind=int, low=0, high=100_000),
        help="How many clients may watch at a time: members, entries, counters and sets together.",
        trade_off="Too low: clients are refused. Too high: when much changes at once, the node is busy telling all of "
        "them; those that it cannot tell in time are cut off, with a token to go on with.",
    )
    max_receipts: int = _setting(
        _LIMITS.max_receipts,
        rule=Number(kind=int, low=0, high=100_000_000),
        help="How many receipts of additions with a `request_id` the node keeps; of more it forgets the oldest first.",
        trade_off="Too low: an addition that is made again after that many others counts twice. Too high: each takes "
        "about half a kilobyte of memory.",
    )
    max_connection_age: float = _setting(
        3600.0,
        rule=_seconds(0, 604_800),
        help="After how long a client's connection takes no more calls, give or take a tenth; the client opens another "
        "one for those that follow, and resolves the node's name again. Calls in progress go on. 0 for never.",
        trade_off="Too low: connections are opened again and again. Too high: clients that reach the cluster by one "
        "name, or by a load balancer, stay with the nodes that they have, and new nodes have nothing to do.",
    )
    max_connection_age_grace: float = _setting(
        0.0,
        rule=_seconds(0, 604_800),
        help="How long calls in progress may go on after `max_connection_age`; then they end with UNAVAILABLE. 0 for "
        "as long as they like, so that whoever watches is never cut off for the age of the connection.",
        trade_off="Too low: large backups break off, and whoever watches must resume often: the clients of this "
        "package do so by themselves, others must with their last token. Too high: those who watch stay with "
        "the node that they have.",
    )
    chunk_bytes: int = _setting(
        _LIMITS.chunk_bytes,
        rule=_bytes(1024, 1024 * 1024),
        help="Size from which on a delta is split into messages.",
        trade_off="Too low: more calls for the same records. Too high: each message holds up others for longer and "
        "takes more memory.",
    )

    def __post_init__(self) -> None:
        values: dict[str, Any] = {}
        problems = []
        profile = PROFILES[self.profile] if self.profile in tuple(PROFILES) else {}
        for name, setting in SETTINGS.items():
            given = getattr(self, name)
            if isinstance(given, _ByProfile):
                given = profile.get(name, float(given))
            try:
                values[name] = setting.rule.check(given)
            except ValueError as error:
                problems.append(_refused(name, "argument", given, str(error)))
        problems += _complete(values, lambda _: "argument")
        _raise(problems)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def limits(self) -> Limits:
        """The limits, as the core takes them."""
        return Limits(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Limits)})

    @property
    def detector(self) -> DetectorSettings:
        """The knobs of failure detection, as the core takes them."""
        return DetectorSettings(
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(DetectorSettings)}
        )

    def peer_address(self, port: int) -> str:
        """Where peers reach the node, HOST:PORT, once it listens for them on `port`."""
        host, given = addresses.parse(self.advertise or self.peer_listen)
        return addresses.join(host, given or port)

    def client_address(self, port: int) -> str:
        """Where clients reach the node, HOST:PORT, once it listens for them on `port`."""
        host, given = addresses.parse(self.advertise_client or self.client_listen)
        if addresses.is_wildcard(host):
            host = addresses.parse(self.advertise or self.peer_listen).host
        return addresses.join(host, given or port)


SETTINGS: dict[str, Setting] = {field.name: field.metadata["setting"] for field in dataclasses.fields(Config)}
"""All settings by name, in the order of `Config`."""


@dataclass(frozen=True)
class Loaded:
    """A configuration, and where each value of it came from.

    Attributes:
        config: the settings.
        sources: name -> "flag --fanout", "environment GOSSIP_FANOUT", "file node.toml", "profile wan" or "default".
    """

    config: Config
    sources: dict[str, str]


def load(*, flags: Mapping[str, object], environ: Mapping[str, str], file: Path | str | None) -> Loaded:
    """Gather the configuration: flags before environment before TOML file before profile before defaults.

    Every value given is checked, whether or not another one overrides it.

    Args:
        flags: setting -> value from the command line, typed or text; None and empty sequences are not given. Tags
            may be a sequence of NAME=VALUE.
        environ: the environment; variables that do not begin with GOSSIP_ are ignored, empty ones are not given.
        file: the TOML file; None for the one that GOSSIP_CONFIG names, if it does.

    Raises:
        ConfigError: one line for each thing that is wrong.
    """
    origin = str(file) if file is not None else environ.get("GOSSIP_CONFIG", "")
    table: dict[str, Any] = {}
    problems: list[str] = []
    readable = True
    if origin:
        try:
            table = toml_file.read(origin)
        except ConfigError as error:
            problems.append(str(error))
            readable = False
    sources = dict.fromkeys(SETTINGS, "default")
    values = defaults()

    broken: set[str] = set()

    def take(name: str, source: str, given: object, convert: Callable[[Any], object]) -> None:
        try:
            values[name] = convert(given)
            sources[name] = source
        except ValueError as error:
            problems.append(_refused(name, source, given, str(error)))
            broken.add(name)

    for name, given in table.items():
        if name in SETTINGS:
            take(name, f"file {origin}", given, SETTINGS[name].rule.check)
        else:
            problems.append(_unknown(shown(name), f"file {origin}", name, SETTINGS, "correct or remove it"))
    variables = {PREFIX + name.upper(): name for name in SETTINGS}
    for variable, text in sorted(environ.items()):
        if variable in variables and text:
            name = variables[variable]
            take(name, f"environment {variable}", text, SETTINGS[name].rule.parse)
        elif variable.startswith(PREFIX) and variable not in variables and variable not in OTHER_VARIABLES:
            # Its value is not shown: it may be somebody's secret.
            advice = _SERVICE_LINK if _OF_KUBERNETES.search(variable) else f"correct or unset {variable}"
            problems.append(_unknown(variable, "environment", variable, variables, advice))
    for name, given in flags.items():
        setting = SETTINGS.get(name)
        if setting is None or not setting.flag:
            raise TypeError(f"there is no flag for {name!r}")
        if given not in (None, (), []):
            take(name, f"flag {setting.flag}", given, _flag_converter(setting.rule, given))
    if readable:
        sound = {name: value for name, value in values.items() if name not in broken}
        problems += _complete(sound, lambda name: sources[name])
    _raise(problems)
    config = Config(**values)
    set_by_profile = PROFILES[config.profile] if sources["profile"] != "default" else {}
    by_profile = {name: f"profile {config.profile}" for name in set_by_profile if sources[name] == "default"}
    return Loaded(config, sources | by_profile)


def defaults() -> dict[str, Any]:
    """Name -> default, as declared: nothing in it depends on the machine."""
    return {
        field.name: {} if field.default is dataclasses.MISSING else field.default
        for field in dataclasses.fields(Config)
    }


def _flag_converter(rule: Rule, given: object) -> Callable[[Any], object]:
    if isinstance(given, str):
        return rule.parse
    if isinstance(rule, Tags) and not isinstance(given, Mapping):
        return rule.parse_each
    return rule.check


def _complete(values: dict[str, Any], source: Callable[[str], str]) -> list[str]:
    """Fill in what the machine knows, and check what no setting can check alone.

    Args:
        values: name -> value, each sound in itself; names whose values are not are left out.
        source: where the value of a name came from.
    """
    problems = []
    if values.get("node_id") == "":
        host_name = socket.gethostname()
        if is_name(host_name):
            values["node_id"] = host_name
        else:
            problems.append(f"node_id (host name): got {shown(host_name)}, allowed is {_NAME}; {_give('node_id')}")
    listen = {name: addresses.parse(values[name]) for name in ("peer_listen", "client_listen") if name in values}
    peer, client = listen.get("peer_listen"), listen.get("client_listen")
    if peer and peer.is_wildcard and values.get("advertise") == "":
        problems.append(
            f"advertise ({source('advertise')}): got nothing, but peer_listen ({source('peer_listen')}) is "
            f"{shown(values['peer_listen'])}, which stands for all interfaces and which peers cannot call; allowed is "
            f"HOST:PORT; {_give('advertise')} to where peers reach this node"
        )
    overlap = peer and client and (peer.host == client.host or peer.is_wildcard or client.is_wildcard)
    if peer and client and overlap and peer.port == client.port != 0:
        problems.append(
            f"client_listen ({source('client_listen')}): got {shown(values['client_listen'])}, but peer_listen "
            f"({source('peer_listen')}) is {shown(values['peer_listen'])}, allowed is a port that is not taken; "
            f"{_give('client_listen')} to another port"
        )
    if "tags" in values and "max_tags_bytes" in values:
        size = sum(len(text.encode()) for pair in values["tags"].items() for text in pair)
        if size > values["max_tags_bytes"]:
            problems.append(
                f"tags ({source('tags')}): got {size:,} bytes of names and values, allowed is up to "
                f"{values['max_tags_bytes']:,}; shorten them or raise max_tags_bytes"
            )
    return problems


def _raise(problems: list[str]) -> None:
    if problems:
        raise ConfigError("\n".join(" ".join(problem.splitlines()) for problem in problems))


def _refused(name: str, source: str, given: object, detail: str) -> str:
    """The line for a value that its rule refuses."""
    kind, _, place = source.partition(" ")
    advice = {
        "argument": f"change or leave out {name}",
        "flag": f"change or leave out {place}",
        "environment": f"change or unset {place}",
        "file": f"change or remove {name} in {place}",
    }[kind]
    because = f" ({detail})" if detail else ""
    return f"{name} ({source}): got {shown(given)}{because}, allowed is {SETTINGS[name].rule.allowed}; {advice}"


def _unknown(name: str, source: str, given: str, names: Iterable[str], advice: str) -> str:
    """The line for a name that no setting has."""
    similar = get_close_matches(given, names, 1)
    meant = f"did you mean {similar[0]}? " if similar else ""
    return f"{name} ({source}): there is no such setting, allowed is what docs/configuration.md lists; {meant}{advice}"


def _give(name: str) -> str:
    """How to set a setting that has a flag."""
    return f"set {SETTINGS[name].flag} or {PREFIX}{name.upper()} or {name} in the TOML file"
