"""Failure detection of whole clusters, in the simulator: who is declared dead, by whom, when, and who is not."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import pytest

from gossip_grpc import wire
from gossip_grpc.core.detector import DetectorSettings, Phase
from gossip_grpc.core.engine import Engine, Settings
from gossip_grpc.core.limits import Limits
from gossip_grpc.core.membership import Status
from gossip_grpc.core.messages import (
    Call,
    HeartbeatReply,
    HeartbeatRequest,
    Notice,
    ProbeReply,
    ProbeRequest,
    PullRequest,
    StepDown,
)
from gossip_grpc.core.records import Kind, Member, Origin
from gossip_grpc.core.store import Store, accusation_of
from gossip_grpc.core.sync import Digest
from gossip_grpc.errors import LocalError, NotFoundError, Reason
from gossip_grpc.sim.schedule import parse
from gossip_grpc.sim.stats import PROBE
from gossip_grpc.sim.world import World
from tests.samples import A, B, C, D, accusation, member

ALIVE, SUSPECT, DEAD, LEFT = Status.ALIVE, Status.SUSPECT, Status.DEAD, Status.LEFT


class Seen(NamedTuple):
    """A change as one node saw it."""

    time: float
    at: str
    member: str
    after: Status | None


class Watched(World):
    """A world, and what its nodes think of each other."""

    def __init__(self, text: str, seed: int = 1) -> None:
        super().__init__(parse(text), seed)
        self.seen: list[Seen] = []
        self.after_change.append(
            lambda host, change: self.seen.append(Seen(self.now, host.name, change.node_id, change.after))
        )

    def of(self, host: str) -> Engine:
        engine = self.hosts[host].engine
        assert engine is not None
        return engine

    def views(self, name: str) -> set[Status | None]:
        """What all other nodes that are up, and do not stand still, take a member for."""
        standings = [
            self.of(host.name).membership.standing(name)
            for host in self.live()
            if host.name != name and not host.paused
        ]
        return {None if standing is None else standing.status for standing in standings}

    def when(self, name: str, after: Status | None) -> list[float]:
        return [one.time for one in self.seen if (one.member, one.after) == (name, after)]

    def ever(self, after: Status | None) -> set[str]:
        return {one.member for one in self.seen if one.after is after}

    def all_alive(self) -> bool:
        return all(self.views(host.name) == {ALIVE} for host in self.live())

    def accusers(self) -> set[str]:
        """Whoever has accused anybody."""
        return {
            str(slot[1])
            for host in self.hosts.values()
            for record in host.store.records()
            if record.kind is Kind.ACCUSATION and isinstance(slot := record.slot, tuple)
        }


def run(text: str, until: float, seed: int = 1) -> Watched:
    world = Watched(text, seed)
    world.run_until(until)
    return world


def reap_after(world: Watched, seconds: float) -> None:
    """Let those that are up forget the dead after so long."""
    for host in world.live():
        vigil = world.of(host.name).vigil
        vigil._settings = replace(vigil._settings, reap_after=seconds)


# Crashes


@pytest.mark.parametrize("seed", range(3))
def test_a_crashed_node_is_suspect_and_then_dead_everywhere_within_seconds(seed: int) -> None:
    world = run("cluster 20\nat 10s crash n7", 15.0, seed)
    assert world.views("n7") == {DEAD}
    assert len(world.when("n7", DEAD)) == 19
    assert max(world.when("n7", DEAD)) < 14.0
    assert min(world.when("n7", SUSPECT)) < min(world.when("n7", DEAD))
    assert world.ever(DEAD) == {"n7"}


@pytest.mark.parametrize("seed", range(3))
def test_a_host_that_just_goes_silent_is_dead_everywhere_too_in_spite_of_losses(seed: int) -> None:
    text = "cluster 20\nnetwork loss=10%\nat 10s link n7 loss=100%"
    world = run(text, 16.0, seed)
    assert {world.of(f"n{number}").membership.status("n7") for number in range(1, 21) if number != 7} == {DEAD}


@pytest.mark.parametrize("count", [2, 3, 4])
def test_in_the_smallest_clusters_too(count: int) -> None:
    world = run(f"cluster {count}\nat 10s crash n2", 20.0)
    assert world.views("n2") == {DEAD}
    assert world.ever(DEAD) == {"n2"}


def test_half_of_the_nodes_at_once_are_dead_to_the_others() -> None:
    crashes = "\n".join(f"at 10s crash n{number}" for number in range(1, 21, 2))
    world = run(f"cluster 20\n{crashes}", 25.0)
    for number in range(1, 21):
        assert world.views(f"n{number}") == {DEAD if number % 2 else ALIVE}


def test_a_dead_member_is_called_no_more_but_now_and_then() -> None:
    world = run("cluster 10\nat 5s crash n4", 10.0)
    assert all("n4" not in [peer.node_id for peer in world.of(host.name).membership.peers()] for host in world.live())
    probes = world.stats.requests[PROBE][0]
    world.run_until(60.0)
    assert world.stats.requests[PROBE][0] == probes


def test_a_node_back_from_its_disk_is_alive_at_once_and_knows_everybody() -> None:
    world = run("cluster 5\nat 5s crash n1 disk\nat 15s restart n1", 18.0)
    assert world.all_alive()
    assert max(world.when("n1", ALIVE)) < 17.0
    world.apply(parse("cluster 5\nat 1s crash n2").actions[0])
    world.run_until(30.0)
    assert world.views("n2") == {DEAD}


def test_a_node_back_without_its_disk_under_another_address_is_alive_everywhere_in_three_seconds() -> None:
    # B1 is another cluster's node: its address becomes free for n1, whose own B1 takes.
    text = "cluster 8\ncluster B 2\nat 5s crash n1\nat 5s crash B1\nat 10s swap n1 B1\nat 15s restart n1"
    world = run(text, 18.0)
    assert {world.of(f"n{number}").membership.status("n1") for number in range(2, 9)} == {ALIVE}
    assert {world.of(f"n{number}").membership.address("n1") for number in range(2, 9)} == {world.hosts["n1"].address}


def test_who_leaves_has_left_and_is_never_suspect() -> None:
    world = run("cluster 6\nat 5s leave n3", 30.0)
    assert world.views("n3") == {LEFT}
    assert not world.when("n3", SUSPECT)
    assert world.ever(DEAD) == set()


# Who is not dead


@pytest.mark.parametrize("seed", range(2))
def test_losses_and_latency_kill_nobody(seed: int) -> None:
    world = run("cluster 15\nnetwork loss=10% latency=20ms..100ms", 300.0, seed)
    assert world.ever(DEAD) == set()


def deaf(name: str, count: int, at: str = "5s") -> str:
    """Nothing gets from the others to this node; what it says gets out."""
    others = " ".join(f"n{number}" for number in range(1, count + 1) if f"n{number}" != name)
    return f"at {at} cut {others} > {name}"


def killed(world: Watched, *, but: str = "") -> set[str]:
    """Whom any node has declared dead, one node's opinion aside."""
    return {one.member for one in world.seen if one.after is DEAD and one.at != but}


@pytest.mark.parametrize("seed", range(3))
def test_a_deaf_monitor_kills_nobody_whatever_it_thinks_itself(seed: int) -> None:
    world = run(f"cluster 10\n{deaf('n1', 10)}", 60.0, seed)
    assert "n1" in world.accusers()
    assert killed(world, but="n1") <= {"n1"}
    for number in range(2, 11):
        assert {world.of(f"n{other}").membership.status(f"n{number}") for other in range(2, 11)} == {ALIVE}
    world.network.heal()
    world.run_until(70.0)
    assert world.all_alive()


@pytest.mark.parametrize("seed", range(3))
def test_one_way_links_kill_nobody(seed: int) -> None:
    rng = random.Random(seed)
    links = [rng.sample(range(1, 11), 2) for _ in range(8)]
    cuts = "\n".join(f"at 5s cut n{here} > n{there}" for here, there in links)
    world = run(f"cluster 10\n{cuts}", 120.0, seed)
    assert killed(world) == set()


def test_a_node_that_stood_still_for_a_minute_was_dead_accuses_nobody_and_is_alive_again_in_seconds() -> None:
    """Trap 14: as SIGSTOP and SIGCONT do."""
    world = run("cluster 10\nat 10s pause n4\nat 70s resume n4", 69.9)
    assert world.views("n4") == {DEAD}
    world.run_until(73.0)
    assert world.all_alive()
    world.run_until(100.0)
    assert world.all_alive()
    assert "n4" not in world.accusers()
    assert killed(world) == {"n4"}


@pytest.mark.parametrize("jump", ["+1h", "-1h"])
def test_a_wall_clock_that_jumps_changes_nothing(jump: str) -> None:
    """Trap 14."""
    world = run(f"cluster 6\nat 5s skew n2 {jump}\nat 10s crash n5", 30.0)
    assert world.ever(SUSPECT) == {"n5"}
    assert world.views("n5") == {DEAD}


def test_a_short_pause_is_no_death() -> None:
    world = run("cluster 8\nat 5s pause n1\nat 6s resume n1\nat 10s pause n2\nat 11s resume n2", 20.0)
    assert killed(world) == set()


def test_a_pause_of_thirty_seconds_and_the_burst_after_it_leave_the_detectors_as_sharp_as_before() -> None:
    """Trap 13."""
    world = run("cluster 6\nat 10s pause n2\nat 40s resume n2", 60.0)
    assert world.all_alive()
    for host in world.live():
        for watch in world.of(host.name).vigil.detector.watches.values():
            assert watch.intervals.mean < 0.7
    world.apply(parse("cluster 6\nat 1s crash n2").actions[0])
    world.run_until(65.0)
    assert world.views("n2") == {DEAD}


# Coming back


def test_both_halves_of_a_split_take_the_other_for_dead_and_agree_again_when_it_ends() -> None:
    text = "cluster 10\nat 5s cut n1 n2 n3 n4 n5 | n6 n7 n8 n9 n10\nat 60s heal"
    world = run(text, 59.9)
    assert {world.of("n1").membership.status(f"n{number}") for number in range(6, 11)} == {DEAD}
    world.run_until(65.0)
    assert world.all_alive()
    assert world.agreed()


def test_a_split_that_lasts_until_both_sides_have_forgotten_each_other_heals_too() -> None:
    world = Watched("cluster 6\nat 5s cut n1 n2 n3 | n4 n5 n6\nat 60s heal")
    reap_after(world, 20.0)
    world.run_until(59.9)
    assert {world.of("n1").membership.standing(name) for name in ("n4", "n5", "n6")} == {None}
    world.run_until(70.0)
    assert world.all_alive()
    incarnations = [world.of(host.name).membership.incarnation() for host in world.live()]
    world.run_until(90.0)
    assert [world.of(host.name).membership.incarnation() for host in world.live()] == incarnations
    assert max(incarnations) <= 5, "once is enough"


@pytest.mark.parametrize("seed", range(4))
def test_two_that_were_cut_off_together_come_back_without_killing_anybody(seed: int) -> None:
    world = run("cluster 8\nat 5s cut n1 n2 | n3 n4 n5 n6 n7 n8\nat 40s heal", 39.9, seed)
    healthy = {f"n{number}" for number in range(3, 9)}
    before = len(world.seen)
    world.run_until(50.0)
    assert not [one for one in world.seen[before:] if one.after is DEAD and {one.at, one.member} <= healthy]
    assert world.all_alive()


def test_two_mutually_dead_nodes_recover_without_a_storm() -> None:
    """Trap 11."""
    world = run("cluster 2\nat 5s cut n1 | n2\nat 60s heal", 59.9)
    assert (world.views("n1"), world.views("n2")) == ({DEAD}, {DEAD})
    world.run_until(65.0)
    assert world.all_alive()
    incarnations = [world.of(name).membership.incarnation() for name in ("n1", "n2")]
    calls = sum(count for count, _ in world.stats.requests)
    world.run_until(75.0)
    assert [world.of(name).membership.incarnation() for name in ("n1", "n2")] == incarnations == [3, 3]
    assert sum(count for count, _ in world.stats.requests) - calls < 100, "heartbeats and rounds"
    assert world.all_alive()


def test_a_whole_cluster_that_stops_and_starts_forms_again_from_disk() -> None:
    """Trap 17."""
    names = [f"n{number}" for number in range(1, 7)]
    stops = "\n".join(f"at {10 + number}s crash {name} disk" for number, name in enumerate(names))
    starts = "\n".join(f"at {30 + number}s restart {name}" for number, name in enumerate(names))
    world = run(f"cluster 6\n{stops}\n{starts}", 50.0)
    assert world.all_alive()
    assert world.agreed()


def test_clusters_whose_nodes_swap_addresses_never_meet() -> None:
    """Trap 16."""
    world = run("cluster 4\ncluster B 4\nat 5s swap n1 B1\nat 5s swap n2 B2", 60.0)
    for host in world.live():
        assert all(name.startswith(host.cluster) for name in host.store.members())


def test_two_thousand_members_fit_in_messages_of_less_than_four_mebibytes() -> None:
    """Trap 8. What is sent of so many, at once and with long names; that all converge is told by fewer, for time."""
    store = Store(A)
    origins = [Origin(f"a-node-with-quite-a-long-name-{number}", 1_700_000_000_000) for number in range(2000)]
    tags = {"role": "x" * 100}
    store.merge([member(origin, tags=tags) for origin in origins], 0.0)
    store.merge([accusation(origin, origins[0], 2 + number) for number, origin in enumerate(origins)], 0.0)
    messages = [*wire.encode_delta(store.delta(Digest()), Limits().chunk_bytes), wire.encode_digest(store.digest())]
    assert max(message.ByteSize() for message in messages) < 4 << 20
    world = run("cluster 150\nat 1s join n151\nat 5s crash n7", 10.0)
    assert {frozenset(host.store.members()) for host in world.live()} == {frozenset(world.hosts)}
    assert world.views("n7") == {DEAD}
    assert world.largest_message < 4 << 20


# Forgetting


def test_a_dead_member_is_reaped_and_not_learned_again_from_a_slow_node() -> None:
    """Trap 9."""
    world = Watched("cluster 6\nat 5s crash n3\nat 15s pause n6\nat 60s resume n6")
    reap_after(world, 30.0)
    world.run_until(59.9)
    assert world.views("n3") == {None}
    assert world.of("n6").membership.status("n3") is DEAD, "it slept"
    assert world.hosts["n6"].store.members().keys() >= {"n3"}
    world.run_until(90.0)
    assert world.views("n3") == {None}
    assert len(world.when("n3", None)) == 5
    assert not world.when("n3", ALIVE)
    assert not [host for host in world.live() if host.store.accusations("n3")]


def test_an_operator_has_a_dead_member_forgotten_everywhere_and_a_new_life_of_it_is_welcome() -> None:
    world = run("cluster 6\nat 5s crash n3\nat 40s restart n3", 20.0)
    world.of("n1").vigil.forget_member("n3", world.hosts["n1"].clock(world.now))
    world.run_until(25.0)
    assert world.views("n3") == {None}
    world.run_until(45.0)
    assert world.views("n3") == {ALIVE}


def test_a_member_that_was_to_be_forgotten_and_is_not_dead_after_all_comes_back() -> None:
    world = run("cluster 6\nat 5s cut n3 | n1 n2 n4 n5 n6\nat 30s heal", 15.0)
    world.of("n1").vigil.forget_member("n3", world.hosts["n1"].clock(world.now))
    world.run_until(29.9)
    assert world.views("n3") == {None}
    world.run_until(40.0)
    assert world.all_alive()


def test_only_members_that_are_dead_or_have_left_can_be_forgotten() -> None:
    world = run("cluster 3", 5.0)
    with pytest.raises(LocalError, match="n2 is ALIVE; only members that are DEAD or LEFT") as alive:
        world.of("n1").vigil.forget_member("n2", 5.0)
    assert alive.value.reason is Reason.MEMBER_ALIVE
    with pytest.raises(NotFoundError, match="there is no member 'n9'") as unknown:
        world.of("n1").vigil.forget_member("n9", 5.0)
    assert unknown.value.reason is Reason.MEMBER_NOT_FOUND


# One engine by hand


def engine_of(*peers: Origin, detector: DetectorSettings | None = None) -> Engine:
    """Node a at 0, ready, among some members; without rounds."""
    settings = Settings(gossip_interval=1e9, fanout=0, detector=detector or DetectorSettings())
    engine = Engine(A, Member(0, "a:1"), settings, random.Random(1), 0.0)
    engine.store.merge([member(peer) for peer in peers], 0.0)
    engine.tick(0.0)
    engine.effects()
    return engine


def probes(engine: Engine) -> list[Call]:
    return [one for one in engine.effects() if isinstance(one, Call) and isinstance(one.request, ProbeRequest)]


def until(engine: Engine, end: float) -> list[Call]:
    """Let time pass as a driver does; returns the probes asked for."""
    asked: list[Call] = []
    while engine.deadline() <= end:
        engine.tick(engine.deadline())
        asked += probes(engine)
    return asked


def beat(engine: Engine, origin: Origin, now: float, *, incarnation: int = 1) -> HeartbeatReply:
    request = HeartbeatRequest(incarnation, 1 + int(now * 1000), engine.digest_hash())
    return engine.on_heartbeat(origin, f"{origin.node_id}:1", request, now)


def accused(engine: Engine, name: str = "b") -> bool:
    return "a" in engine.membership.accusations(name)


def accusing() -> Engine:
    """Node a at 3.6, which accuses b, its only peer."""
    engine = engine_of(B)
    (ping,) = until(engine, 3.5)
    engine.on_failure(ping, "lost", 3.6)
    assert accused(engine)
    return engine


def test_the_silent_are_pinged_then_others_are_asked_and_only_then_they_are_accused() -> None:
    engine = engine_of(B, C)
    pings = until(engine, 3.0)
    assert {call.peer.node_id for call in pings} == {"b", "c"}
    ping = next(call for call in pings if call.peer.node_id == "b")
    assert ping.request == ProbeRequest(B)
    engine.on_failure(ping, "lost", 3.1)
    (asked,) = probes(engine)
    assert (asked.peer.node_id, asked.request) == ("c", ProbeRequest(B, relay=True))
    assert not accused(engine)
    engine.on_probe_reply(asked, C, "c:1", ProbeReply(reached=False), 3.2)
    assert accused(engine)
    assert engine.membership.status("b") is SUSPECT


def test_each_question_is_waited_for_whatever_comes_late() -> None:
    engine = engine_of(B, C, D)
    ping = next(call for call in until(engine, 3.0) if call.peer.node_id == "b")
    engine.on_failure(ping, "lost", 3.1)
    first, second = probes(engine)
    engine.on_failure(ping, "late", 3.15)
    engine.on_failure(first, "lost", 3.2)
    assert not accused(engine)
    engine.on_failure(second, "lost", 3.3)
    assert accused(engine)


@pytest.mark.parametrize("who", ["itself", "another"])
def test_whoever_can_be_reached_is_not_accused(who: str) -> None:
    engine = engine_of(B, C)
    ping = next(call for call in until(engine, 3.0) if call.peer.node_id == "b")
    if who == "another":
        engine.on_failure(ping, "lost", 3.1)
        (ping,) = probes(engine)
    sender = C if who == "another" else B
    engine.on_probe_reply(ping, sender, f"{sender.node_id}:1", ProbeReply(reached=True), 3.2)
    assert engine.vigil.detector.watches["b"].phase is Phase.LISTENING
    assert engine.vigil.phi("b", 3.2) == pytest.approx(0.0, abs=1e-6)
    engine.on_failure(ping, "late", 3.3)
    assert not accused(engine)


def test_another_life_that_answers_is_not_whom_was_asked_for() -> None:
    engine = engine_of(B)
    (ping,) = until(engine, 3.0)
    engine.on_probe_reply(ping, Origin("b", 2), "b:1", ProbeReply(reached=False), 3.1)
    assert accused(engine)


def test_what_comes_of_a_probe_of_a_member_no_longer_watched_is_nothing() -> None:
    engine = engine_of(B)
    (ping,) = until(engine, 3.0)
    engine.store.merge([member(B, 2, left=True, incarnation=2)], 0.0)
    engine.tick(3.05)
    engine.on_failure(ping, "lost", 3.1)
    assert not accused(engine)


def test_heartbeats_of_the_same_incarnation_withdraw_an_accusation() -> None:
    engine = accusing()
    beat(engine, B, 3.7)
    assert not accused(engine)
    assert engine.membership.status("b") is ALIVE
    assert [one for one in engine.store.accusations("b").values() if accusation_of(one).withdrawn]


def test_a_late_answer_to_a_probe_withdraws_an_accusation_too() -> None:
    engine = engine_of(B)
    (ping,) = until(engine, 3.0)
    engine.on_failure(ping, "lost", 3.1)
    engine.on_probe_reply(ping, B, "b:1", ProbeReply(reached=True), 3.2)
    assert not accused(engine)


def test_only_the_only_monitors_accusation_that_has_lasted_kills() -> None:
    engine = accusing()
    until(engine, 6.59)
    assert engine.membership.status("b") is SUSPECT
    until(engine, 6.6)
    assert engine.membership.status("b") is DEAD


def test_relayed_or_replayed_digests_and_rumors_of_a_member_are_no_sign_of_its_life() -> None:
    """Trap 10."""
    engine = engine_of(B, C)
    for second in range(1, 3):
        until(engine, float(second))
        engine.on_push(C, "c:1", [member(B, 1 + second, incarnation=1 + second)], None, float(second))
        beat(engine, C, float(second))
    assert engine.vigil.detector.watches["b"].heard == 0.0
    assert "b" in {call.peer.node_id for call in until(engine, 3.0)}


def test_a_process_that_stood_still_takes_no_open_question_for_an_answer() -> None:
    engine = engine_of(B)
    (ping,) = until(engine, 3.0)
    engine.on_failure(ping, "lost", 63.0)
    assert not accused(engine)
    assert engine.deadline() >= 63.0


def test_a_process_that_stood_still_says_so_once_and_beats_at_once() -> None:
    engine = engine_of(B)
    until(engine, 1.0)
    engine.tick(61.0)
    effects = engine.effects()
    assert [one.event for one in effects if isinstance(one, Notice)] == ["this process stood still"]
    assert [one for one in effects if isinstance(one, Call) and isinstance(one.request, HeartbeatRequest)]
    engine.tick(61.5)
    assert not [one for one in engine.effects() if isinstance(one, Notice)]


def test_heartbeats_go_to_the_monitors_every_interval_and_none_once_a_node_leaves() -> None:
    engine = engine_of(B, C)
    sent = engine.counters.heartbeats_sent
    until(engine, 10.0)
    assert engine.counters.heartbeats_sent - sent == 2 * 20
    engine.leave(10.0)
    until(engine, 20.0)
    assert engine.counters.heartbeats_sent - sent == 2 * 20


def test_who_is_accused_refutes_it_once_and_a_huge_incarnation_is_nobodys() -> None:
    engine = engine_of(B, C)
    engine.on_push(B, "b:1", [accusation(A, B, incarnation=2**64 - 1)], None, 1.0)
    assert engine.membership.own() == Member(1, "a:1")
    engine.on_push(B, "b:1", [accusation(A, B, 3)], None, 1.0)
    assert engine.membership.own() == Member(2, "a:1")
    engine.on_push(C, "c:1", [accusation(A, C)], None, 1.0)
    assert engine.membership.own() == Member(2, "a:1")


def test_a_wish_to_forget_a_node_that_lives_is_refuted() -> None:
    engine = engine_of(B)
    engine.on_push(B, "b:1", [accusation(A, B, incarnation=9, forget=True)], None, 1.0)
    assert engine.membership.own() == Member(10, "a:1")


def test_who_leaves_refutes_nothing() -> None:
    engine = engine_of(B)
    engine.leave(1.0)
    engine.on_push(B, "b:1", [accusation(A, B, incarnation=2)], None, 1.0)
    assert engine.membership.own() == Member(2, "a:1", left=True, left_at=1.0)


def test_the_older_of_two_processes_of_one_name_steps_down_and_the_newer_does_not() -> None:
    monitor = engine_of(B)
    monitor.on_push(B, "b:1", [member(Origin("b", 2))], None, 1.0)
    assert beat(monitor, Origin("b", 2), 1.0).newer == 0
    assert beat(monitor, B, 1.0).newer == 2

    older = engine_of(B)
    until(older, 0.0)
    older.tick(0.5)
    call = next(one for one in older.effects() if isinstance(one, Call))
    older.on_heartbeat_reply(call, B, "b:1", HeartbeatReply(0, newer=1), 0.6)
    assert not [one for one in older.effects() if isinstance(one, StepDown)], "its own generation is not newer"
    for _ in range(2):
        older.on_heartbeat_reply(call, B, "b:1", HeartbeatReply(0, newer=2), 0.6)
    (step,) = [one for one in older.effects() if isinstance(one, StepDown)]
    assert "a newer node runs as a, as b:1 says (its generation is 2, this one has 1)" in step.reason
    with pytest.raises(LocalError):
        older.put("k", "v", 0.7)


def test_a_monitor_answers_a_probe_of_itself_and_relays_one_of_another() -> None:
    engine = engine_of(B, C)
    assert engine.on_probe(B, "b:1", ProbeRequest(A)) == ProbeReply(reached=True)
    assert engine.on_probe(B, "b:1", ProbeRequest(Origin("a", 2))) == ProbeReply(reached=False)
    relayed = engine.on_probe(B, "b:1", ProbeRequest(C, relay=True))
    assert isinstance(relayed, Call)
    assert (relayed.peer, relayed.request) == (("c:1", "c"), ProbeRequest(C))


def test_a_probe_that_led_to_somebody_else_goes_no_further() -> None:
    engine = engine_of(B, C)
    assert engine.on_probe(B, "b:1", ProbeRequest(C)) == ProbeReply(reached=False)
    assert engine.on_probe(B, "b:1", ProbeRequest(D, relay=True)) == ProbeReply(reached=False), (
        "it knows no such member"
    )


def test_an_older_process_stops_as_soon_as_a_newer_one_of_its_id_speaks_or_answers() -> None:
    """With two nodes of one id and nobody else there is no monitor that could tell."""
    newer = Origin("a", 2)
    ways: list[Callable[[Engine], object]] = [
        lambda engine: engine.on_push(newer, "a:2", [], None, 0.6),
        lambda engine: engine.on_push(B, "b:1", [member(newer)], None, 0.6),
        lambda engine: engine.on_pull(newer, "a:2", PullRequest(digest_hash=1)),
    ]
    for way in ways:
        engine = engine_of(B)
        way(engine)
        (step,) = [one for one in engine.effects() if isinstance(one, StepDown)]
        assert "its generation is 2, this one has 1" in step.reason
    newest = engine_of(B)
    newest.on_push(Origin("a", 0), "a:2", [], None, 0.6)
    assert [type(one) for one in newest.effects()] == [Notice], "it is not disturbed"


def test_an_older_process_says_nothing_more_of_itself_once_a_newer_one_has_spoken_for_its_id() -> None:
    engine = engine_of(B)
    engine.on_push(B, "b:1", [member(Origin("a", 2))], None, 0.6)
    written = engine.store.coverage.sequence(A)
    engine.announce_again(1.0)
    until(engine, 5.0)
    assert engine.store.coverage.sequence(A) == written
    assert not [one for one in engine.effects() if isinstance(one, Call) and isinstance(one.request, HeartbeatRequest)]


def test_accusations_that_count_for_nothing_are_forgotten_in_the_end() -> None:
    engine = engine_of(B)
    engine.on_push(C, "c:1", [accusation(B, C, incarnation=0)], None, 0.6)
    engine.vigil.reap(1.0)
    engine.vigil.reap(86_400.9)
    assert engine.store.accusations("b")
    engine.vigil.reap(86_401.1)
    assert not engine.store.accusations("b")
    assert engine.membership.status("b") is ALIVE


def test_what_was_found_out_of_an_incarnation_says_nothing_of_the_next_one() -> None:
    engine = accusing()
    engine.on_push(C, "c:1", [member(B, 2, incarnation=2), accusation(B, C, 2, incarnation=2)], None, 4.0)
    assert engine.membership.status("b") is SUSPECT
    assert engine.vigil.detector.watches["b"].phase is Phase.LISTENING
    (ping,) = until(engine, 6.8)
    engine.on_failure(ping, "lost", 6.9)
    assert accused(engine)


def test_an_only_monitor_that_wakes_up_gives_its_suspect_time_to_refute() -> None:
    engine = accusing()
    engine.tick(60.0)
    assert engine.membership.status("b") is SUSPECT
    until(engine, 65.0)
    assert engine.membership.status("b") is DEAD


def test_timers_that_are_a_little_late_are_no_standstill_however_short_the_pause_allowed() -> None:
    engine = engine_of(B, detector=DetectorSettings(acceptable_pause=0.05))
    asked: list[Call] = []
    for beats in range(20):
        engine.tick(beats * 0.5 + 0.06)
        asked += probes(engine)
    assert asked


def test_phi_is_known_of_the_members_a_node_monitors_only() -> None:
    engine = engine_of(B)
    assert engine.vigil.phi("b", 0.1) == pytest.approx(0.0, abs=1e-6)
    assert engine.vigil.phi("a", 0.1) is None


def test_a_heartbeat_that_lastingly_says_something_else_leads_to_a_round() -> None:
    engine = engine_of(B)
    for now, rounds in ((1.0, 0), (1.2, 0), (1.3, 1)):
        engine.on_heartbeat(B, "b:1", HeartbeatRequest(1, 1, 99), now)
        assert (now, engine.counters.rounds) == (now, rounds)


def test_strangers_and_our_own_word_lead_to_no_round() -> None:
    engine = engine_of(B)
    for now in (1.0, 2.0):
        engine.vigil.compare(Origin("nobody", 1), 99, now)
        engine.vigil.compare(A, 99, now)
    assert engine.counters.rounds == 0


@pytest.mark.parametrize("end", [3.0, 30.0])
def test_a_driver_never_spins(end: float) -> None:
    engine = engine_of(B, C)
    ticks = 0
    while engine.deadline() <= end:
        engine.tick(engine.deadline())
        for ping in probes(engine):
            engine.on_failure(ping, "lost", engine.deadline())
        ticks += 1
    assert ticks < 12 * end
