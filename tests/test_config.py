"""The configuration: where values come from, what is refused, and what is said about it."""

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from docs.pages import configuration
from gossip_grpc.config import OTHER_VARIABLES, PROFILES, SETTINGS, Config, Loaded, defaults, load
from gossip_grpc.core.detector import DetectorSettings
from gossip_grpc.core.engine import Settings
from gossip_grpc.core.limits import Limits
from gossip_grpc.core.selection import SelectorKind
from gossip_grpc.core.sync import Strategy
from gossip_grpc.errors import ConfigError
from gossip_grpc.gen.gossip.v1 import peer_pb2
from gossip_grpc.settings import Number


def loaded(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | str | None = None,
) -> Loaded:
    return load(flags=flags or {}, environ=environ or {}, file=file)


def problems(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | str | None = None,
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(flags, environ, file)
    return str(caught.value).split("\n")


def toml(directory: Path, text: str) -> Path:
    path = directory / "node.toml"
    path.write_text(text)
    return path


# Where values come from


def test_without_anything_given_all_values_are_defaults() -> None:
    result = loaded()
    expected = {**defaults(), "node_id": result.config.node_id}
    assert dataclasses.asdict(result.config) == expected
    assert result.sources == dict.fromkeys(expected, "default")


def test_node_id_defaults_to_the_host_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "host-7.example")
    assert Config().node_id == "host-7.example"
    assert loaded(environ={"GOSSIP_NODE_ID": ""}).config.node_id == "host-7.example"


def test_a_host_name_that_cannot_name_a_node_asks_for_a_node_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Ann's laptop")
    [line] = problems()
    assert line.startswith("""node_id (host name): got "Ann's laptop", allowed is 1 to 128 characters of""")
    assert line.endswith("set --node-id or GOSSIP_NODE_ID or node_id in the TOML file")
    assert Config(node_id="n1").node_id == "n1"


@pytest.mark.parametrize(
    ("flags", "environ", "text", "value", "source"),
    [
        ({"fanout": 4}, {"GOSSIP_FANOUT": "5"}, "fanout = 6", 4, "flag --fanout"),
        ({}, {"GOSSIP_FANOUT": "5"}, "fanout = 6", 5, "environment GOSSIP_FANOUT"),
        ({}, {}, "fanout = 6", 6, "file {file}"),
        ({}, {}, "", 3, "default"),
        ({"fanout": None}, {"GOSSIP_FANOUT": ""}, "fanout = 6", 6, "file {file}"),
    ],
)
def test_flags_come_before_environment_before_file_before_defaults(
    tmp_path: Path, flags: dict[str, object], environ: dict[str, str], text: str, value: int, source: str
) -> None:
    file = toml(tmp_path, text)
    result = loaded(flags, environ, file)
    assert result.config.fanout == value
    assert result.sources["fanout"] == source.format(file=file)


def test_the_environment_names_the_file_if_the_command_line_does_not(tmp_path: Path) -> None:
    file = toml(tmp_path, "fanout = 6")
    assert loaded(environ={"GOSSIP_CONFIG": str(file)}).sources["fanout"] == f"file {file}"
    other = tmp_path / "other.toml"
    other.write_text("fanout = 7")
    assert loaded(environ={"GOSSIP_CONFIG": str(file)}, file=other).config.fanout == 7


EXAMPLES: dict[str, tuple[str, object]] = {
    "node_id": ("n-1.x_Y", "n-1.x_Y"),
    "data_dir": ("/var/lib/gossip", "/var/lib/gossip"),
    "cluster": ("c", "c"),
    "peer_listen": ("[::1]:0", "[::1]:0"),
    "client_listen": ("0.0.0.0:7", "0.0.0.0:7"),
    "advertise": ("node.example:1", "node.example:1"),
    "advertise_client": ("10.0.0.1:2", "10.0.0.1:2"),
    "join": ("a:1, [::1]:2,a:1,", ("a:1", "[::1]:2")),
    "strategy": ("pull", Strategy.PULL),
    "selector": ("zone-aware", SelectorKind.ZONE_AWARE),
    "zone": ("eu west/räck 1", "eu west/räck 1"),
    "tags": ("role=cache, note=a=b,empty=", {"role": "cache", "note": "a=b", "empty": ""}),
    "fanout": ("0", 0),
    "channelz": ("on", "on"),
    "profile": ("wan", "wan"),
    "gossip_interval": ("0.25", 0.25),
    "rumor_interval": ("0", 0.0),
    "exchange_timeout": ("1e1", 10.0),
    "bootstrap_window": ("0", 0.0),
    "tombstone_retention": ("60", 60.0),
    "event_retention": ("5", 5.0),
    "request_retention": ("5", 5.0),
    "seed_interval": ("1", 1.0),
    "heartbeat_interval": ("0.25", 0.25),
    "phi_threshold": ("12", 12.0),
    "acceptable_pause": ("2", 2.0),
    "min_deviation": ("0.05", 0.05),
    "probe_timeout": ("1", 1.0),
    "indirect_probes": ("0", 0),
    "suspicion_timeout": ("0", 0.0),
    "reap_after": ("3600", 3600.0),
    "leave_timeout": ("4", 4.0),
    "log_format": ("json", "json"),
    "log_level": ("debug", "debug"),
    "max_key_bytes": ("64", 64),
    "max_value_bytes": ("2_097_152", 2097152),
    "max_element_bytes": ("1", 1),
    "max_tags_bytes": ("100", 100),
    "max_records": ("10", 10),
    "max_inbound_syncs": ("1", 1),
    "max_event_bytes": ("1", 1),
    "max_watchers": ("0", 0),
    "max_connection_age": ("600", 600.0),
    "max_connection_age_grace": ("0.5", 0.5),
    "max_receipts": ("7", 7),
    "chunk_bytes": ("4096", 4096),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_read_from_the_environment(name: str) -> None:
    text, value = EXAMPLES[name]
    result = loaded(environ={f"GOSSIP_{name.upper()}": text})
    got = getattr(result.config, name)
    assert (got, type(got)) == (value, type(value))
    assert result.sources[name] == f"environment GOSSIP_{name.upper()}"


@pytest.mark.parametrize("name", [name for name, setting in SETTINGS.items() if setting.flag])
def test_every_flag_takes_text_as_the_environment_does(name: str) -> None:
    text, value = EXAMPLES[name]
    result = loaded(flags={name: text})
    assert getattr(result.config, name) == value
    assert result.sources[name] == f"flag {SETTINGS[name].flag}"


def test_every_setting_is_read_from_the_file_in_its_own_type(tmp_path: Path) -> None:
    def literal(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{name} = {literal(content)}" for name, content in value.items()) + "}"
        if isinstance(value, tuple):
            return f"[{', '.join(literal(item) for item in value)}]"
        return f'"{value}"' if isinstance(value, str) else str(value)

    file = toml(tmp_path, "\n".join(f"{name} = {literal(value)}" for name, (_, value) in EXAMPLES.items()))
    result = loaded(file=file)
    assert dataclasses.asdict(result.config) == {name: value for name, (_, value) in EXAMPLES.items()}
    assert set(result.sources.values()) == {f"file {file}"}


def test_whole_numbers_serve_as_fractions(tmp_path: Path) -> None:
    interval = loaded(file=toml(tmp_path, "gossip_interval = 2")).config.gossip_interval
    assert (interval, type(interval)) == (2.0, float)


def test_repeated_flags_arrive_as_sequences() -> None:
    config = loaded(flags={"join": ("a:1", "b:2"), "tags": ("k=v", "l=x,y")}).config
    assert config.join == ("a:1", "b:2")
    assert config.tags == {"k": "v", "l": "x,y"}
    assert loaded(flags={"tags": {"k": "v"}}).config.tags == {"k": "v"}


@pytest.mark.parametrize("nothing", [None, (), []])
def test_flags_that_are_not_given_leave_other_sources_alone(nothing: object) -> None:
    result = loaded(flags={"join": nothing, "tags": nothing}, environ={"GOSSIP_JOIN": "a:1"})
    assert result.config.join == ("a:1",)
    assert result.sources["tags"] == "default"


def test_only_settings_with_a_flag_can_be_given_as_one() -> None:
    flags = {name for name, setting in SETTINGS.items() if setting.flag}
    assert " ".join(sorted(flags)) == (
        "advertise advertise_client client_listen cluster data_dir fanout gossip_interval join log_format log_level "
        "node_id peer_listen profile selector strategy tags zone"
    )
    assert SETTINGS["tags"].flag == "--tag"
    for name in ("chunk_bytes", "nonsense"):
        with pytest.raises(TypeError, match=name):
            loaded(flags={name: 1})


def test_a_config_cannot_be_changed_from_outside() -> None:
    tags = {"k": "v"}
    config = Config(tags=tags)
    tags["k"] = "w"
    assert config.tags == {"k": "v"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.fanout = 4  # type: ignore[misc]  # that it is refused is the point


# What is refused

BAD_TEXT: list[tuple[str, str, str]] = [
    ("node_id", "a b", "1 to 128 characters"),
    ("node_id", "x" * 129, "1 to 128 characters"),
    ("node_id", "näme", "1 to 128 characters"),
    ("node_id", "name\n", "1 to 128 characters"),
    ("cluster", "a/b", "1 to 128 characters"),
    ("peer_listen", "127.0.0.1", "the port is missing"),
    ("peer_listen", ":7946", "the host is missing"),
    ("peer_listen", "::1:7946", "needs brackets"),
    ("peer_listen", "[::1]", "must be followed by :PORT"),
    ("peer_listen", "[::1]7946", "must be followed by :PORT"),
    ("peer_listen", "[127.0.0.1]:1", "not an IPv6 address"),
    ("peer_listen", "[fe80::1%a b]:1", "not the name of an interface"),
    ("peer_listen", "a:65536", "a number from 0 to 65535"),
    ("peer_listen", "a:-1", "a number from 0 to 65535"),
    ("peer_listen", "a:", "a number from 0 to 65535"),
    ("peer_listen", "a:٣", "a number from 0 to 65535"),
    ("peer_listen", "a:1 ", "a number from 0 to 65535"),
    ("client_listen", "256.1.1.1:1", "not an IPv4 address"),
    ("client_listen", "1.2.3:1", "not an IPv4 address"),
    ("client_listen", "-a:1", "not a name"),
    ("client_listen", "a..b:1", "not a name"),
    ("client_listen", "a b:1", "not a name"),
    ("client_listen", "http://a:1", "needs brackets"),
    ("client_listen", ".".join(["a" * 63] * 4) + ":1", "not a name"),
    ("advertise", "0.0.0.0:1", "stands for all interfaces"),
    ("advertise", "[::]:1", "stands for all interfaces"),
    ("advertise", "[::ffff:0.0.0.0]:1", "stands for all interfaces"),
    ("advertise_client", "[0::0]:1", "stands for all interfaces"),
    ("join", "a:1,b", "'b': the port is missing"),
    ("join", "a:0", "nobody can call port 0"),
    ("join", "0.0.0.0:1", "stands for all interfaces"),
    ("strategy", "gossip", "one of push, pull, push-pull"),
    ("strategy", "PUSH", "one of push, pull, push-pull"),
    ("selector", "best", "one of random, round-robin, hypercube, zone-aware"),
    ("zone", "x" * 129, "up to 128 printable characters"),
    ("zone", " x", "up to 128 printable characters"),
    ("zone", "a\x1b[2J", "up to 128 printable characters"),
    ("zone", "a\udcff", "up to 128 printable characters"),
    ("tags", "k", "'k' has no ="),
    ("tags", "=v", "'' is not a name"),
    ("tags", "k=v,k=w", "'k' is given twice"),
    ("tags", "k=\udcff", "not printable"),
    ("fanout", "-1", "an integer from 0 to 100"),
    ("fanout", "101", "an integer from 0 to 100"),
    ("fanout", "3.0", "an integer from 0 to 100"),
    ("fanout", "many", "an integer from 0 to 100"),
    ("fanout", "٣", "an integer from 0 to 100"),
    ("fanout", "1" * 5000, "an integer from 0 to 100"),
    ("gossip_interval", "0", "a number from 0.01 to 3,600 seconds"),
    ("gossip_interval", "3601", "a number from 0.01 to 3,600 seconds"),
    ("gossip_interval", "nan", "a number from 0.01 to 3,600 seconds"),
    ("gossip_interval", "inf", "a number from 0.01 to 3,600 seconds"),
    ("gossip_interval", "1s", "a number from 0.01 to 3,600 seconds"),
    ("rumor_interval", "10.1", "a number from 0 to 10 seconds"),
    ("exchange_timeout", "0", "a number from 0.01 to 300 seconds"),
    ("bootstrap_window", "-1", "a number from 0 to 3,600 seconds"),
    ("data_dir", " /data", "the path of a directory without spaces at the ends"),
    ("tombstone_retention", "0", "a number from 1 to 315,360,000 seconds"),
    ("event_retention", "0.5", "a number from 1 to 86,400 seconds"),
    ("request_retention", "0.5", "a number from 1 to 31,536,000 seconds"),
    ("seed_interval", "0", "a number from 0.01 to 3,600 seconds"),
    ("channelz", "yes", "one of off, on"),
    ("profile", "LAN", "one of lan, wan, local"),
    ("heartbeat_interval", "0", "a number from 0.01 to 60 seconds"),
    ("phi_threshold", "0", "a number from 0.5 to 100"),
    ("acceptable_pause", "0", "a number from 0.05 to 600 seconds"),
    ("min_deviation", "0", "a number from 0.001 to 60 seconds"),
    ("probe_timeout", "0", "a number from 0.01 to 60 seconds"),
    ("indirect_probes", "1.5", "an integer from 0 to 100"),
    ("suspicion_timeout", "-1", "a number from 0 to 3,600 seconds"),
    ("reap_after", "0.5", "a number from 1 to 315,360,000 seconds"),
    ("leave_timeout", "4.5", "a number from 0 to 4 seconds"),
    ("log_format", "xml", "one of auto, json, console"),
    ("log_level", "INFO", "one of debug, info, warning, error"),
    ("max_key_bytes", "0", "an integer from 1 to 4,096 bytes"),
    ("max_value_bytes", "4194304", "an integer from 1 to 2,097,152 bytes"),
    ("max_element_bytes", "1048577", "an integer from 1 to 1,048,576 bytes"),
    ("max_tags_bytes", "-1", "an integer from 0 to 65,536 bytes"),
    ("max_records", "0", "an integer from 1 to 1,000,000,000"),
    ("max_inbound_syncs", "0", "an integer from 1 to 1,024"),
    ("max_event_bytes", "0", "an integer from 1 to 1,048,576 bytes"),
    ("max_watchers", "-1", "an integer from 0 to 100,000"),
    ("max_connection_age", "-1", "a number from 0 to 604,800 seconds"),
    ("max_connection_age_grace", "1e9", "a number from 0 to 604,800 seconds"),
    ("max_receipts", "-1", "an integer from 0 to 100,000,000"),
    ("chunk_bytes", "1023", "an integer from 1,024 to 1,048,576 bytes"),
]


def test_the_table_of_bad_values_leaves_out_no_setting() -> None:
    assert {name for name, _, _ in BAD_TEXT} == set(SETTINGS) == set(EXAMPLES)


@pytest.mark.parametrize(("name", "text", "said"), BAD_TEXT)
def test_a_bad_value_is_refused_with_what_was_given_what_is_allowed_and_what_to_do(
    name: str, text: str, said: str
) -> None:
    variable = f"GOSSIP_{name.upper()}"
    [line] = problems(environ={variable: text})
    head, _, rest = line.partition(f", allowed is {SETTINGS[name].rule.allowed}; ")
    assert rest == f"change or unset {variable}"
    assert head.startswith(f"{name} (environment {variable}): got {repr(text)[:100]}")
    assert said in line
    assert len(line) < 600


BAD_TYPES = [
    ("fanout", '"3"', "'3' (its type is str)"),
    ("fanout", "true", "True (its type is bool)"),
    ("fanout", "3.0", "3.0 (its type is float)"),
    ("fanout", "0x" + "f" * 5000, "int of too many digits to show"),
    ("gossip_interval", "false", "False (its type is bool)"),
    ("gossip_interval", "nan", "nan, allowed"),
    ("gossip_interval", "-inf", "-inf, allowed"),
    ("gossip_interval", "0x" + "f" * 300, "characters), allowed"),
    ("gossip_interval", "2026-01-01", "datetime.date(2026, 1, 1) (its type is date)"),
    ("node_id", "7", "7 (its type is int)"),
    ("strategy", "['push']", "['push'] (its type is list)"),
    ("advertise", "[]", "[] (its type is list)"),
    ("join", '"a:1"', "'a:1' (its type is str)"),
    ("join", "[7946]", "[7946] (7946: its type is int)"),
    ("tags", '["k=v"]', "['k=v'] (its type is list)"),
    ("tags", "{k = 1}", "{'k': 1} (1 is not printable text)"),
    ("tags", '{"k=l" = "v"}', "{'k=l': 'v'} ('k=l' is not a name)"),
]


@pytest.mark.parametrize(("name", "literal", "got"), BAD_TYPES)
def test_values_in_a_file_must_have_the_right_type(tmp_path: Path, name: str, literal: str, got: str) -> None:
    file = toml(tmp_path, f"{name} = {literal}")
    [line] = problems(file=file)
    assert line.startswith(f"{name} (file {file}): got ")
    assert got in line
    assert line.endswith(f", allowed is {SETTINGS[name].rule.allowed}; change or remove {name} in {file}")


@pytest.mark.parametrize(
    ("arguments", "got"),
    [
        ({"fanout": -1}, "fanout (argument): got -1, "),
        ({"fanout": True}, "fanout (argument): got True (its type is bool), "),
        ({"gossip_interval": float("nan")}, "gossip_interval (argument): got nan, "),
        ({"join": "a:1"}, "join (argument): got 'a:1' (its type is str), "),
        ({"tags": None}, "tags (argument): got None (its type is NoneType), "),
        ({"strategy": "none"}, "strategy (argument): got 'none', "),
        ({"profile": "moon"}, "profile (argument): got 'moon', "),
        ({"profile": []}, "profile (argument): got [] (its type is list), "),
    ],
)
def test_construction_checks_as_loading_does(arguments: dict[str, Any], got: str) -> None:
    [name] = arguments
    with pytest.raises(ConfigError) as caught:
        Config(**arguments)
    assert str(caught.value) == f"{got}allowed is {SETTINGS[name].rule.allowed}; change or leave out {name}"


def test_words_become_members_of_their_enumeration() -> None:
    config = Config(strategy="push", selector="hypercube")  # type: ignore[arg-type]  # words are taken too
    assert config.strategy is Strategy.PUSH
    assert config.selector is SelectorKind.HYPERCUBE


def test_all_problems_of_all_sources_are_said_at_once_in_a_line_each(tmp_path: Path) -> None:
    file = toml(tmp_path, 'fanout = -1\nzonne = "a"\npeer_listen = "0.0.0.0:7946"')
    lines = problems({"log_level": "loud", "join": ("x",)}, {"GOSSIP_FANOUT": "many", "GOSSIP_TAG": "k=v"}, file)
    assert [line.partition(":")[0] for line in lines] == [
        f"fanout (file {file})",
        f"'zonne' (file {file})",
        "fanout (environment GOSSIP_FANOUT)",
        "GOSSIP_TAG (environment)",
        "log_level (flag --log-level)",
        "join (flag --join)",
        "advertise (default)",
    ]
    assert lines[4].endswith("change or leave out --log-level")


def test_construction_says_all_problems_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Config(fanout=-1, cluster="", peer_listen="nowhere", tags={"k": "v"}, max_tags_bytes=1)
    starts = [line.partition(" ")[0] for line in str(caught.value).split("\n")]
    assert starts == ["cluster", "peer_listen", "fanout", "tags"]


def test_a_bad_value_is_refused_even_where_another_overrides_it(tmp_path: Path) -> None:
    [line] = problems({"fanout": 3}, file=toml(tmp_path, "fanout = 1000"))
    assert "got 1000" in line


@pytest.mark.parametrize(
    ("key", "meant"),
    [("fan_out", "fanout"), ("gossip-interval", "gossip_interval"), ("tag", "tags"), ("Strategy", "strategy")],
)
def test_an_unknown_key_is_refused_with_the_nearest_setting(tmp_path: Path, key: str, meant: str) -> None:
    [line] = problems(file=toml(tmp_path, f"{key} = 3"))
    assert line.startswith(f"'{key}' (file ")
    assert f"there is no such setting, allowed is what docs/configuration.md lists; did you mean {meant}? " in line


def test_an_unknown_key_like_no_other_gets_no_suggestion(tmp_path: Path) -> None:
    [line] = problems(file=toml(tmp_path, '"\\n\\u001b" = 3'))
    assert line.startswith(r"'\n\x1b' (file ")
    assert "did you mean" not in line
    assert line.endswith("; correct or remove it")


def test_an_unknown_variable_is_refused_without_showing_its_value() -> None:
    [line] = problems(environ={"GOSSIP_FAN_OUT": "secret", "HOME": "x", "gossip_x": "y", "MY_GOSSIP_X": "z"})
    assert line.startswith("GOSSIP_FAN_OUT (environment): there is no such setting")
    assert line.endswith("did you mean GOSSIP_FANOUT? correct or unset GOSSIP_FAN_OUT")
    assert "secret" not in line
    [line] = problems(environ={"GOSSIP_\nX": ""})
    assert line.startswith("GOSSIP_ X (environment)")


@pytest.mark.parametrize("name", ["GOSSIP_SERVICE_HOST", "GOSSIP_GRPC_PORT_7946_TCP", "GOSSIP_PORT"])
def test_variables_that_kubernetes_makes_are_refused_with_how_to_prevent_them(name: str) -> None:
    [line] = problems(environ={name: "tcp://10.0.0.1:7946"})
    assert "enableServiceLinks: false" in line


def test_the_clients_address_is_not_the_nodes_business() -> None:
    assert set(OTHER_VARIABLES) == {"GOSSIP_CONFIG", "GOSSIP_ADDRESS"}
    assert loaded(environ={"GOSSIP_ADDRESS": "x", "GOSSIP_CONFIG": ""}) == loaded()


def test_a_bad_value_is_not_taken_for_one_that_is_missing() -> None:
    [line] = problems({"peer_listen": "0.0.0.0:7946", "advertise": "nowhere"})
    assert line.startswith("advertise (flag --advertise): got 'nowhere' (the port is missing)")


# What a file can be beside TOML


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fanout = 3\nzone = \n", ", line 2, column 8: is not TOML (Invalid value)"),
        ("fanout = 3\nfanout = 4\n", ", line 2, column 11: is not TOML (Cannot overwrite a value)"),
        ("a = 1\nzone = [1,", ", line 2, column 11: is not TOML ("),
        ("fanout", ", line 1, column 7: is not TOML ("),
        ("fanout = " + "1" * 5000, ": is not TOML (Exceeds the limit"),
        ("fanout = " + "[" * 20000, ": is nested too deeply"),
    ],
)
def test_a_file_that_is_not_toml_is_refused_with_line_and_column(tmp_path: Path, text: str, said: str) -> None:
    file = toml(tmp_path, text)
    [line] = problems(file=file)
    assert line.startswith(f"{file}{said}")
    assert line.endswith("; correct it or name another file")


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    [line] = problems(environ={"GOSSIP_CONFIG": str(tmp_path / "none.toml")})
    assert line.startswith(f"{tmp_path / 'none.toml'}: cannot be read (No such file or directory)")
    [line] = problems(file=tmp_path)
    assert "Is a directory" in line
    [line] = problems(file="a\0b")
    assert "null byte" in line
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'zone = "r\xe4ck"')
    [line] = problems(file=latin)
    assert line.startswith(f"{latin}: the byte at 9 is not UTF-8")


def test_other_sources_are_checked_even_if_the_file_is_not_toml_but_nothing_is_said_of_what_it_may_hold(
    tmp_path: Path,
) -> None:
    lines = problems({"peer_listen": "0.0.0.0:1", "fanout": 101}, file=toml(tmp_path, "advertise = "))
    assert [line.partition(" ")[0] for line in lines] == [f"{tmp_path / 'node.toml'},", "fanout"]


# What settings mean together


@pytest.mark.parametrize("listen", ["0.0.0.0:7946", "[::]:7946"])
def test_a_node_that_listens_everywhere_must_say_where_it_is_reached(listen: str) -> None:
    [line] = problems({"peer_listen": listen})
    assert line == (
        f"advertise (default): got nothing, but peer_listen (flag --peer-listen) is '{listen}', which stands for all "
        "interfaces and which peers cannot call; allowed is HOST:PORT; set --advertise or GOSSIP_ADVERTISE or "
        "advertise in the TOML file to where peers reach this node"
    )
    loaded({"peer_listen": listen, "advertise": "10.0.0.1:7946"})


@pytest.mark.parametrize(
    ("peer", "client", "clash"),
    [
        ("127.0.0.1:7", "127.0.0.1:7", True),
        ("127.0.0.1:7", "0.0.0.0:7", True),
        ("0.0.0.0:7", "127.0.0.1:7", True),
        ("[::1]:7", "[0:0::1]:7", True),
        ("127.0.0.1:7", "127.0.0.2:7", False),
        ("127.0.0.1:7", "127.0.0.1:8", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_peers_and_clients_cannot_share_a_port(peer: str, client: str, clash: bool) -> None:
    flags = {"peer_listen": peer, "client_listen": client, "advertise": "a:1"}
    if not clash:
        loaded(flags)
        return
    [line] = problems(flags)
    assert line.startswith(f"client_listen (flag --client-listen): got '{client}', but peer_listen")
    assert "allowed is a port that is not taken; set --client-listen" in line


def test_tags_may_take_as_many_bytes_as_the_limit_says() -> None:
    assert Config(tags={"ä": "12"}, max_tags_bytes=4).tags == {"ä": "12"}
    [line] = problems({"tags": ("ä=123",)}, {"GOSSIP_MAX_TAGS_BYTES": "4"})
    assert line == (
        "tags (flag --tag): got 5 bytes of names and values, allowed is up to 4; shorten them or raise max_tags_bytes"
    )


@pytest.mark.parametrize(
    ("settings", "peer", "client"),
    [
        ({}, "127.0.0.1:7946", "127.0.0.1:7947"),
        ({"peer_listen": "[::1]:0", "client_listen": "[::1]:0"}, "[::1]:1001", "[::1]:1002"),
        ({"advertise": "a:5"}, "a:5", "127.0.0.1:7947"),
        ({"peer_listen": "0.0.0.0:0", "advertise": "a:0"}, "a:1001", "127.0.0.1:7947"),
        ({"client_listen": "[::]:0"}, "127.0.0.1:7946", "127.0.0.1:1002"),
        ({"client_listen": "0.0.0.0:9", "advertise": "a:5"}, "a:5", "a:9"),
        ({"client_listen": "0.0.0.0:9", "advertise_client": "b:7"}, "127.0.0.1:7946", "b:7"),
        ({"client_listen": "0.0.0.0:0", "advertise_client": "b:0"}, "127.0.0.1:7946", "b:1002"),
    ],
)
def test_a_node_says_where_it_is_reached(settings: dict[str, Any], peer: str, client: str) -> None:
    config = Config(**settings)
    assert config.peer_address(1001) == peer
    assert config.client_address(1002) == client


def test_limits_reach_the_core() -> None:
    assert Config().limits == Limits()
    assert Config(max_records=7, chunk_bytes=4096).limits == Limits(max_records=7, chunk_bytes=4096)


def test_the_knobs_of_failure_detection_reach_the_core() -> None:
    assert Config().detector == DetectorSettings()
    assert Config(phi_threshold=5, reap_after=60).detector == DetectorSettings(phi_threshold=5.0, reap_after=60.0)


# Profiles


def test_the_profile_lan_is_what_the_core_does_by_default() -> None:
    core = Settings()
    for name, value in PROFILES["lan"].items():
        if name != "exchange_timeout":  # the driver's, not the core's
            assert getattr(core if hasattr(core, name) else core.detector, name) == value


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_sets_its_settings_together(profile: Any) -> None:
    config = Config(profile=profile)
    assert {name: getattr(config, name) for name in PROFILES["lan"]} == PROFILES[profile]


def test_what_is_given_goes_before_its_profile_even_if_it_is_the_default() -> None:
    default = Config().heartbeat_interval
    config = Config(profile="wan", heartbeat_interval=default)
    assert config.heartbeat_interval == default != PROFILES["wan"]["heartbeat_interval"]
    assert config.acceptable_pause == PROFILES["wan"]["acceptable_pause"]


def test_sources_tell_what_the_profile_has_set(tmp_path: Path) -> None:
    file = toml(tmp_path, 'profile = "wan"\nheartbeat_interval = 0.5')
    result = loaded(environ={"GOSSIP_PROBE_TIMEOUT": "2"}, file=file)
    assert (result.config.heartbeat_interval, result.sources["heartbeat_interval"]) == (0.5, f"file {file}")
    assert (result.config.probe_timeout, result.sources["probe_timeout"]) == (2.0, "environment GOSSIP_PROBE_TIMEOUT")
    assert (result.config.acceptable_pause, result.sources["acceptable_pause"]) == (5.0, "profile wan")
    assert result.sources["phi_threshold"] == "default"
    assert loaded(flags={"profile": "lan"}).sources["acceptable_pause"] == "profile lan"
    assert loaded().sources["acceptable_pause"] == "default"


def most(name: str) -> int:
    rule = SETTINGS[name].rule
    assert isinstance(rule, Number)
    return int(rule.high)


def test_the_largest_record_allowed_fits_into_a_message_beside_a_full_chunk() -> None:
    delta = peer_pb2.Delta()
    delta.origins.add(node_id="x" * 128, generation=2**64 - 1)
    wide = {"origin": 0, "sequence": 2**64 - 1, "clock": 2**62, "key": "x" * most("max_key_bytes")}
    delta.registers.add(**wide, data=b"x" * most("max_value_bytes"))
    register = delta.ByteSize()
    delta.ClearField("registers")
    delta.set_elements.add(**wide, data=b"x" * most("max_element_bytes"))
    # What is left is for two digests of 2,000 members of names with 128 characters.
    assert max(register, delta.ByteSize()) + most("chunk_bytes") + 2 * 2000 * 160 < 4 * 1024 * 1024


# Documentation


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_says_what_it_is_and_what_it_trades(name: str) -> None:
    setting = SETTINGS[name]
    assert re.fullmatch(r"[A-Z].*\.", setting.help)
    assert re.fullmatch(r"[A-Za-z].*\.", setting.trade_off)
    if isinstance(setting.rule, Number):
        assert "Too low:" in setting.trade_off
        assert "Too high:" in setting.trade_off
    assert setting.flag in ("", "--tag", f"--{name.replace('_', '-')}")


def test_the_documentation_names_every_setting_once() -> None:
    headings = re.findall(r"^## (.*)$", configuration.markdown(), re.MULTILINE)
    assert headings == list(SETTINGS)


def test_the_examples_of_the_documentation_load(tmp_path: Path) -> None:
    text = configuration.markdown()
    [example] = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    variables = dict(re.findall(r"`(GOSSIP_[A-Z]+)=([^`]+)`", text))
    result = loaded(file=toml(tmp_path, example))
    assert {name for name, source in result.sources.items() if source != "default"} == set(tomllib.loads(example))
    assert loaded(environ=variables).config.tags == {"role": "cache", "a": "b"}
