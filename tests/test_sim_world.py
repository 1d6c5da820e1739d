"""The simulated world: what a network, clocks and processes do to real engines."""

from __future__ import annotations

import subprocess
import sys
from statistics import mean

import pytest

from gossip_grpc.core.messages import Call
from gossip_grpc.core.records import Dot, Origin
from gossip_grpc.errors import RemoteError
from gossip_grpc.sim.history import ACKNOWLEDGED, DOWN, PAUSED
from gossip_grpc.sim.host import EPOCH, Host
from gossip_grpc.sim.schedule import Action, parse
from gossip_grpc.sim.stats import RUMOR
from gossip_grpc.sim.trace import Event, Trace
from gossip_grpc.sim.world import World

SILENT = "interval=1h heartbeat=1h"
"""Of a cluster without rounds and heartbeats: what spreads does so by rumors alone."""


def world(text: str, seed: int = 1, trace: Trace | None = None) -> World:
    return World(parse(text), seed, trace=trace)


def ran(text: str, until: float, seed: int = 1) -> World:
    made = world(text, seed)
    made.run_until(until)
    return made


def values(made: World, key: str, cluster: str | None = None) -> dict[str, object]:
    """What each live node has in a register."""
    records = {host.name: host.store.register(key) for host in made.live(cluster)}
    return {name: None if record is None else record.content for name, record in records.items()}


def having(made: World, key: str) -> set[str]:
    return {name for name, value in values(made, key).items() if value is not None}


def events_of(text: str, seed: int = 1) -> list[Event]:
    events: list[Event] = []
    made = world(text, seed, Trace(events.append))
    made.run()
    return events


# The beginning


def test_a_formed_cluster_knows_all_members_and_agrees_from_the_start() -> None:
    made = world("cluster 5")
    assert made.agreed()
    for host in made.live():
        assert sorted(host.store.members()) == ["n1", "n2", "n3", "n4", "n5"]
        assert host.engine is not None
        assert host.engine.ready
    assert made.events.done == 0


def test_a_cold_cluster_joins_by_its_seeds() -> None:
    made = world("cluster 8 start=cold")
    assert not made.agreed()
    assert [len(host.store.members()) for host in made.live()] == [1] * 8
    made.run_until(5.0)
    assert made.agreed()
    assert [len(host.store.members()) for host in made.live()] == [8] * 8


def test_preloaded_registers_are_everywhere_and_no_write_of_the_history() -> None:
    made = world("cluster 3 preload=10")
    assert having(made, "preload/10") == {"n1", "n2", "n3"}
    assert made.history.preloaded == {"n": 10}
    assert not made.history.writes
    assert made.agreed()


def test_nodes_are_spread_over_the_zones_in_turn() -> None:
    zones = {host.name: host.member().zone for host in world("cluster 4 zones=2").live()}
    assert zones == {"n1": "z1", "n2": "z2", "n3": "z1", "n4": "z2"}
    assert {host.member().zone for host in world("cluster 2").live()} == {""}


def test_the_world_needs_neither_grpc_nor_numpy_nor_rich() -> None:
    script = """if True:
        import sys
        import gossip_grpc.sim.world, gossip_grpc.sim.trace
        print([name for name in ("grpc", "numpy", "matplotlib", "rich", "click", "asyncio") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Determinism


EVENTFUL = """\
cluster 4 interval=300ms
cluster B 2
network latency=1ms..20ms+5ms loss=15% duplicate=5% reorder=5% bandwidth=100KB
every 70ms from 0s to 8s any put key{i} {i}
every 90ms from 0s to 8s any set-add s e{i}
every 110ms from 0s to 8s any add hits 2
at 2s cut n1 n2 | n3 n4
at 3s crash n2
at 4s heal
at 4s restart n2
at 5s pause n3
at 5s slow n4 15ms
at 6s resume n3
at 6s swap n1 B1
at 7s crash n1 disk
at 7500ms restart n1
at 8s join n5
at 9s leave n4
end 12s
"""

PRINT_TRACE = """if True:
    import sys
    from gossip_grpc.sim.schedule import parse
    from gossip_grpc.sim.trace import Trace
    from gossip_grpc.sim.world import World
    World(parse(sys.stdin.read()), 7, trace=Trace(lambda event: print(event.line()))).run()
"""


def traced_elsewhere(hash_seed: str) -> str:
    """The trace as another process makes it."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT_TRACE],
        input=EVENTFUL,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": hash_seed, "PATH": ""},
    )
    return done.stdout


def test_the_same_schedule_and_seed_make_the_same_trace_in_every_process() -> None:
    first = traced_elsewhere("1")
    assert first.count("\n") > 1000
    assert traced_elsewhere("2") == first
    assert "".join(f"{event.line()}\n" for event in events_of(EVENTFUL, seed=7)) == first


def test_another_seed_makes_another_trace() -> None:
    assert events_of(EVENTFUL, seed=1) != events_of(EVENTFUL, seed=2)


def test_who_watches_changes_nothing() -> None:
    quiet, watched = ran(EVENTFUL, 12.0), world(EVENTFUL, 1, Trace())
    watched.after_input.append(lambda host: host.store.digest())
    watched.run_until(12.0)
    assert quiet.stats.requests == watched.stats.requests
    assert [write.dots for write in quiet.history.writes] == [write.dots for write in watched.history.writes]


def test_leaving_out_an_action_leaves_the_others_as_they_were() -> None:
    """An independent action less, and the first seconds are the same to the byte."""
    whole, less = events_of(EVENTFUL), events_of(EVENTFUL.replace("at 5s slow n4 15ms\n", ""))
    before = [event for event in whole if event.time < 5.0]
    assert [event for event in less if event.time < 5.0] == before


# The network


def test_a_write_takes_at_least_the_latency_to_everybody() -> None:
    made = world(f"cluster 3 {SILENT}\nnetwork latency=10ms\nat 1s n1 put a 1")
    made.run_until(1.0099)
    assert having(made, "a") == {"n1"}
    made.run_until(1.0101)
    assert having(made, "a") == {"n1", "n2", "n3"}


def test_with_all_messages_lost_nothing_arrives_and_the_caller_sees_a_deadline() -> None:
    text = f"cluster 2 {SILENT} timeout=2s\nnetwork loss=100%\nat 1s n1 put a 1\nend 10s"
    made = ran(text, 10.0)
    assert having(made, "a") == {"n1"}
    assert made.stats.lost == 1
    failed = [event for event in events_of(text) if event.kind == "failed"]
    assert [(event.time, event.source, event.what) for event in failed] == [
        (3.0, "n1", "rumor: nobody answered in time")
    ]


def test_a_lost_answer_looks_like_a_lost_request_but_the_records_arrived() -> None:
    text = f"cluster 2 {SILENT} timeout=2s\nat 0s link n2 > n1 loss=100%\nat 1s n1 put a 1"
    made = ran(text, 10.0)
    assert having(made, "a") == {"n1", "n2"}
    kinds = [event.kind for event in events_of(text) if event.kind in ("call", "answer", "answer lost", "failed")]
    assert kinds == ["call", "answer lost", "failed"]


def test_an_answer_after_the_deadline_is_dropped() -> None:
    text = f"cluster 2 {SILENT} timeout=1s\nnetwork latency=700ms\nat 1s n1 put a 1\nend 5s"
    assert having(ran(text, 5.0), "a") == {"n1", "n2"}
    times = [event.time for event in events_of(text) if event.kind == "failed"]
    assert times == [2.0]


def test_a_request_that_takes_longer_than_the_deadline_is_given_up_at_the_deadline() -> None:
    text = f"cluster 2 {SILENT} timeout=1s\nnetwork latency=3s\nat 1s n1 put a 1\nend 9s"
    assert [event.time for event in events_of(text) if event.kind == "failed"] == [2.0]
    assert having(ran(text, 9.0), "a") == {"n1", "n2"}


def test_each_node_has_a_share_of_the_network_s_randomness() -> None:
    hosts = world("cluster 3").live()
    assert len({host.random.random() for host in hosts}) == 3


def test_a_duplicate_is_served_again_and_changes_nothing() -> None:
    text = f"cluster 2 {SILENT}\nnetwork duplicate=100%\nat 1s n1 put a 1\nend 5s"
    made = ran(text, 5.0)
    first, second = made.live()
    assert (first.engine, second.engine) != (None, None)
    assert second.engine is not None
    assert second.engine.counters.pushes_received == 2
    assert second.engine.counters.records_merged == 1
    assert made.stats.answers[RUMOR] == [1, made.stats.answers[RUMOR][1]]
    assert made.agreed()
    assert [event.kind for event in events_of(text) if event.target == "n2"] == ["call", "duplicate"]


def test_a_cut_stops_rumors_and_rounds_until_it_heals() -> None:
    text = "cluster 4\nat 1s cut n1 n2 | n3 n4\nat 2s n1 put a 1\nat 20s heal\nend 40s"
    made = ran(text, 19.9)
    assert having(made, "a") == {"n1", "n2"}
    made.run_until(40.0)
    assert having(made, "a") == {"n1", "n2", "n3", "n4"}
    assert made.agreed()


def test_a_partial_cut_is_bridged_by_the_others() -> None:
    made = ran("cluster 3\nat 0s cut n1 | n2\nat 1s n1 put a 1", 5.0)
    assert having(made, "a") == {"n1", "n2", "n3"}


def test_what_a_one_way_cut_stops_is_one_way_only() -> None:
    made = ran(f"cluster 2 {SILENT}\nat 0s cut n1 > n2\nat 1s n1 put a 1\nat 1s n2 put b 2", 3.0)
    assert having(made, "a") == {"n1"}
    assert having(made, "b") == {"n1", "n2"}


def test_bandwidth_holds_up_what_is_large() -> None:
    value = "x" * 50_000
    text = f'cluster 2 {SILENT}\nnetwork latency=1ms bandwidth=100KB\nat 1s n1 put a "{value}"'
    made = world(text)
    made.run_until(1.48)
    assert having(made, "a") == {"n1"}
    made.run_until(1.50)
    assert having(made, "a") == {"n1", "n2"}


def test_a_fetch_of_many_chunks_takes_as_long_as_the_link_needs_and_arrives_in_order() -> None:
    made = world("cluster 3 preload=5000 chunk=4KB\nnetwork latency=1ms..50ms bandwidth=200KB\nat 1s join n4 via n1")
    made.run_until(1.6)
    held = made.hosts["n4"].store.live
    assert 0 < held < 5000
    made.run_until(6.0)
    assert made.hosts["n4"].store.live == 5000
    assert made.agreed()
    assert made.largest_message < 8192


def test_no_message_of_a_stream_overtakes_another() -> None:
    made = ran("cluster 3 preload=2000 chunk=4KB\nnetwork latency=1ms..50ms\nat 1s join n4 via n1", 2.0)
    assert made.hosts["n4"].store.live == 2000
    engine = made.hosts["n4"].engine
    assert engine is not None
    assert engine.counters.rounds_failed == 0


def test_a_fetch_of_which_a_message_is_lost_keeps_what_came_and_goes_on_later() -> None:
    text = "cluster 2 preload=5000 chunk=4KB timeout=1s\nnetwork loss=5%\nat 1s join n3 via n1\nend 60s"
    made = world(text, seed=3)
    held: list[int] = []
    for step in range(1, 240):
        made.run_until(step / 4)
        if "n3" in made.hosts:
            held.append(made.hosts["n3"].store.live)
    assert held == sorted(held)
    assert len({count for count in held if 0 < count < 5000}) > 1
    assert held[-1] == 5000


# Processes


def test_a_crash_without_a_disk_loses_the_state_and_takes_a_new_generation() -> None:
    text = "cluster 3\nat 1s n1 put a 1\nat 3s crash n1\nat 4s restart n1\nend 10s"
    made = ran(text, 3.5)
    assert not made.hosts["n1"].up
    assert made.hosts["n1"].engine is None
    made.run_until(10.0)
    first, second = (life for life in made.history.lives if life.node == "n1")
    assert (first.start, first.end, first.ended, first.written) == (0.0, 3.0, "crash", 2)
    assert (second.start, second.end, second.from_disk) == (4.0, None, False)
    assert second.origin.generation == first.origin.generation + 4000
    assert having(made, "a") == {"n1", "n2", "n3"}
    assert made.agreed()


def test_a_crash_with_its_disk_goes_on_as_the_same_origin() -> None:
    made = ran("cluster 3\nat 1s n1 put a 1\nat 3s crash n1 disk\nat 4s restart n1\nat 6s n1 put b 2\nend 8s", 8.0)
    first, second = (life for life in made.history.lives if life.node == "n1")
    assert first.origin == second.origin
    assert second.from_disk
    assert [dot.sequence for write in made.history.writes for dot in write.dots] == [2, 3]
    assert made.agreed()


def test_what_a_node_restarts_with_came_from_its_disk_and_not_from_its_memory() -> None:
    made = world("cluster 3\nat 1s n1 put a 1\nat 3s crash n1 disk\nat 4s restart n1\nend 8s")
    made.run_until(3.5)
    before = made.hosts["n1"].store
    made.run_until(4.5)
    after = made.hosts["n1"].store
    assert after is not before
    assert after.register("a") == before.register("a")
    # Whoever crashes such a node without having said so in the schedule gets the same.
    made.apply(Action(4.5, "crash", ("n2",), (True,)))
    made.apply(Action(4.6, "restart", ("n2",)))
    assert values(made, "a") == {"n1": "1", "n2": "1", "n3": "1"}


RESTORED = (
    "cluster 3\nat 1s n1 put a 1\nat 2s snapshot n1\nat 3s n1 put b 2\nat 4s crash n1\nat 5s restore n1{}\nend 12s"
)


def test_a_restored_backup_begins_a_new_life_and_loses_nothing_of_what_others_had() -> None:
    made = ran(RESTORED.format(""), 12.0)
    first, second = (life for life in made.history.lives if life.node == "n1")
    assert second.from_disk
    assert second.restored
    assert second.origin.generation == first.origin.generation + 5000
    assert having(made, "a") == having(made, "b") == {"n1", "n2", "n3"}
    assert made.agreed()


def test_a_copy_that_nobody_marked_begins_a_new_life_when_a_peer_knows_more_of_it() -> None:
    made = ran(RESTORED.format(" unmarked"), 12.0)
    first, second = (life for life in made.history.lives if life.node == "n1")
    assert second.origin == first.origin
    assert made.hosts["n1"].store.origin.generation > first.origin.generation
    assert having(made, "b") == {"n1", "n2", "n3"}
    assert made.agreed()
    lost = made.history.writes[1].dots[0]
    assert made.history.undone(lost)
    assert not made.history.undone(made.history.writes[0].dots[0])


def test_who_crashes_right_after_it_was_restored_goes_on_as_the_new_life() -> None:
    made = ran(f"{RESTORED.format('').rsplit('end', 1)[0]}at 5001ms crash n1 disk\nat 6s restart n1\nend 8s\n", 8.0)
    _, restored, restarted = (life.origin for life in made.history.lives if life.node == "n1")
    assert restarted == restored


def test_there_is_no_restoring_without_a_snapshot_or_over_a_node_that_runs() -> None:
    made = ran("cluster 2\nat 1s restore n2\nat 2s crash n1\nat 2s snapshot n1\nat 3s restore n1\nend 5s", 5.0)
    assert not made.hosts["n1"].up
    assert len(made.history.lives) == 2


def test_a_value_is_shown_until_its_time_has_come_by_each_nodes_wall_clock() -> None:
    made = world("cluster 3\nat 1s n1 put a 1 ttl=4s\nat 2s skew n3 +2s\nend 12s")
    made.run_until(2.9)
    assert having(made, "a") == {"n1", "n2", "n3"}
    made.run_until(4.0)
    assert having(made, "a") == {"n1", "n2"}
    made.run_until(5.5)
    assert having(made, "a") == set()


def test_a_clock_that_runs_away_does_not_keep_a_value() -> None:
    made = ran("cluster 2\nat 1s drift n2 0.5\nat 2s n1 put a 1 ttl=10s\nend 30s", 11.9)
    assert having(made, "a") == {"n1", "n2"}
    made.run_until(15.0)
    assert having(made, "a") == set()


def test_an_ephemeral_value_is_hidden_while_its_node_is_dead_and_gone_with_its_life() -> None:
    made = world("cluster 4\nat 1s n1 put a 1 ephemeral\nat 2s pause n1\nat 20s resume n1\nat 30s crash n1\nend 60s")
    made.run_until(15.0)
    assert having(made, "a") == {"n1"}
    made.run_until(28.0)
    assert having(made, "a") == {"n1", "n2", "n3", "n4"}
    made.run_until(50.0)
    assert having(made, "a") == set()
    made.apply(Action(50.0, "restart", ("n1",)))
    made.run_until(60.0)
    assert having(made, "a") == set()


def test_a_node_without_a_process_refuses_at_once() -> None:
    text = f"cluster 2 {SILENT}\nnetwork latency=10ms\nat 1s crash n2\nat 2s n1 put a 1\nend 5s"
    failed = [event for event in events_of(text) if event.kind == "failed"]
    assert [event.what for event in failed] == ["rumor: connection refused"]
    assert failed[0].time == pytest.approx(2.02)


def test_a_restarted_node_takes_no_writes_until_it_has_synced() -> None:
    made = ran("cluster 2\nat 1s crash n1\nat 2s restart n1\nat 2s n1 put a 1\nat 4s n1 put a 2\nend 5s", 5.0)
    assert [write.outcome for write in made.history.writes] == ["NOT_READY", ACKNOWLEDGED]
    assert values(made, "a") == {"n1": "2", "n2": "2"}


def test_the_answer_to_a_life_that_has_ended_goes_to_nobody() -> None:
    text = f"cluster 2 {SILENT}\nnetwork latency=100ms\nat 1s n1 put a 1\nat 1150ms crash n1 disk\nend 3s"
    made = ran(text, 3.0)
    assert having(made, "a") == {"n2"}
    assert not [event for event in events_of(text) if event.kind == "failed"]


def test_a_paused_node_does_what_arrived_when_it_wakes() -> None:
    text = f"cluster 2 {SILENT} timeout=2s\nat 1s pause n2\nat 2s n1 put a 1\nat 10s resume n2\nend 12s"
    made = ran(text, 9.9)
    assert having(made, "a") == {"n1"}
    assert made.hosts["n2"].paused
    made.run_until(12.0)
    assert having(made, "a") == {"n1", "n2"}
    assert [event.time for event in events_of(text) if event.kind == "failed"] == [4.0]


PAUSED_CALLER = (
    f"cluster 2 {SILENT} timeout=2s\nnetwork latency=100ms\nat 1s n1 put a 1\nat 1100ms pause n1\n"
    "at {resumed} resume n1\nend 10s"
)


def test_a_paused_caller_finds_its_deadline_passed() -> None:
    text = PAUSED_CALLER.format(resumed="9s")
    failed = [(event.time, event.what) for event in events_of(text) if event.kind == "failed"]
    assert failed == [(9.0, "rumor: nobody answered in time")]


def test_a_short_pause_delays_an_answer_and_loses_nothing() -> None:
    text = PAUSED_CALLER.format(resumed="2s")
    assert not [event for event in events_of(text) if event.kind == "failed"]


def test_a_paused_node_makes_no_rounds() -> None:
    made = ran("cluster 2\nat 1s pause n1\nend 20s", 1.0)
    engine = made.hosts["n1"].engine
    assert engine is not None
    before = engine.counters.rounds
    made.run_until(20.0)
    assert engine.counters.rounds == before


def test_clients_of_a_node_that_is_down_or_paused_are_told_nothing_and_nothing_is_done() -> None:
    made = ran("cluster 3\nat 1s crash n1\nat 1s pause n2\nat 2s n1 put a 1\nat 2s n2 put a 1\nat 3s resume n2", 5.0)
    assert [(write.outcome, write.refused, write.dots) for write in made.history.writes] == [
        (DOWN, True, ()),
        (PAUSED, True, ()),
    ]
    assert having(made, "a") == set()


def test_a_slow_node_takes_its_time_for_each_input() -> None:
    made = world(f"cluster 2 {SILENT} gather=0s\nnetwork latency=1ms\nat 1s slow n2 100ms\nat 2s n1 fill k 3")
    seen: list[tuple[float, int]] = []
    made.after_input.append(
        lambda host: seen.append((round(made.now, 3), host.store.live)) if host.name == "n2" else None
    )
    made.run_until(4.0)
    assert seen[:3] == [(2.101, 1), (2.201, 2), (2.301, 3)]


def test_slowness_ends() -> None:
    made = world(f"cluster 2 {SILENT}\nnetwork latency=1ms\nat 1s slow n2 5s\nat 2s slow n2 0s\nat 3s n1 put a 1")
    made.run_until(3.01)
    assert having(made, "a") == {"n1", "n2"}


def test_a_node_that_joins_is_told_everything() -> None:
    made = ran("cluster 3\nat 1s n1 put a 1\nat 2s join n4 via n2\nend 6s", 6.0)
    assert having(made, "a") == {"n1", "n2", "n3", "n4"}
    assert all("n4" in host.store.members() for host in made.live())


def test_a_node_that_leaves_tells_the_others_and_stops() -> None:
    made = ran("cluster 3\nat 1s leave n3\nend 5s", 5.0)
    assert [host.name for host in made.live()] == ["n1", "n2"]
    assert made.hosts["n3"].left
    member = made.hosts["n1"].store.members()["n3"].content
    assert member.left
    assert made.history.lives[2].ended == "leave"


def test_a_node_that_leaves_alone_gives_up_in_the_end() -> None:
    made = ran("cluster 2\nat 1s cut n1 | n2\nat 2s leave n1\nend 9s", 9.0)
    life = made.history.lives[0]
    assert life.end is not None
    assert 4.5 < life.end < 5.5


def test_actions_that_make_no_sense_do_nothing() -> None:
    made = ran(
        "cluster 2\nat 1s restart n1\nat 1s resume n1\nat 2s crash n2\nat 3s crash n2\nat 3s pause n2\nat 3s leave n2\n"
        "at 3s rot n2 a\nat 3s rot n1 a\nend 5s",
        5.0,
    )
    for action in (
        Action(5.0, "crash", ("n9",), (False,)),
        Action(5.0, "swap", ("n1", "n9")),
        Action(5.0, "join", ("n1",)),
        Action(5.0, "join", ("x1",)),
        Action(5.0, "slow", ("n9",), (1.0,)),
        Action(5.0, "skew", ("n9",), (1.0,)),
        Action(5.0, "drift", ("n9",), (2.0,)),
        Action(5.0, "put", ("n9",), ("a", "b")),
    ):
        made.apply(action)
    assert len(made.history.lives) == 2
    assert [host.name for host in made.live()] == ["n1"]


HINDERED = """\
cluster 4 interval=100ms timeout=400ms chunk=256B syncs=1 preload=60
network latency=20ms..80ms loss=5% duplicate=5%
every 30ms from 0s to 12s any put key{i} "a value that takes some room {i}"
at 1s slow n1 15ms
at 1s slow n2 15ms
at 2s pause n3
at 3s resume n3
at 3s pause n1
at 4s crash n1
at 4500ms restart n1
at 5s crash n2 disk
at 5100ms pause n4
at 6s restart n2
at 6s resume n4
at 7s slow n4 30ms
at 7s join n5
at 8s pause n1
at 8500ms crash n4
at 9s resume n1
at 9s restart n4
at 9s leave n3
at 12s slow n1 0s
at 12s slow n2 0s
at 12s slow n4 0s
at 13s agree 25s
end 40s
"""


@pytest.mark.parametrize("seed", range(3))
def test_calls_end_whatever_hinders_either_side(seed: int) -> None:
    made = world(HINDERED, seed)
    assert made.run() == []
    made.network.heal()
    for host in made.live():
        assert host.engine is not None
        assert host.engine.counters.rounds > 50


# Clocks


def test_a_clock_that_drifts_makes_more_rounds() -> None:
    made = ran("cluster 2\nat 0s drift n1 2\nend 200s", 200.0)
    fast, right = (host.engine.counters.rounds for host in made.live() if host.engine is not None)
    assert fast / right == pytest.approx(2.0, rel=0.1)
    assert made.agreed()


def test_a_clock_never_goes_back_when_its_rate_changes() -> None:
    host = world("cluster 1").hosts["n1"]
    clocks = []
    for step, rate in enumerate((1.5, 0.5, 1.0, 0.7)):
        host.drift(rate, float(step))
        clocks += [host.clock(step + part / 4) for part in range(4)]
        assert host.when(host.clock(step + 0.5)) == pytest.approx(step + 0.5)
    assert clocks == sorted(clocks)


def test_a_wall_clock_that_jumps_changes_the_generation_of_the_next_life_only() -> None:
    made = ran("cluster 2\nat 1s skew n1 +1h\nat 2s crash n1\nat 3s restart n1\nend 10s", 10.0)
    generations = [life.origin.generation for life in made.history.lives if life.node == "n1"]
    assert generations == [int(EPOCH * 1000), int(EPOCH * 1000) + 3_603_000]
    assert made.agreed()


# Faults of their own


def test_rot_lets_a_record_vanish_that_stays_covered_and_the_backstop_brings_it_back() -> None:
    made = ran("cluster 3\nat 1s n1 put a 1\nat 3s rot n2 a\nend 10s", 3.0)
    assert having(made, "a") == {"n1", "n3"}
    assert not made.agreed()
    made.run_until(10.0)
    assert having(made, "a") == {"n1", "n2", "n3"}
    assert made.history.rots == [(3.0, "n2", "a")]
    assert made.history.heals >= 1


def test_clusters_that_swap_addresses_refuse_each_other() -> None:
    text = (
        "cluster 2 interval=200ms\ncluster B 2 interval=200ms\nat 1s n1 put a 1\nat 1s B1 put a 2\n"
        "at 2s swap n1 B1\nat 2s swap n2 B2\nend 10s"
    )
    made = ran(text, 10.0)
    assert values(made, "a", "n") == {"n1": "1", "n2": "1"}
    assert values(made, "a", "B") == {"B1": "2", "B2": "2"}
    refused = [event for event in events_of(text) if event.kind == "refused"]
    assert refused
    assert all("sender.cluster" in event.what for event in refused)
    engine = made.hosts["n2"].engine
    assert engine is not None
    assert not engine.membership.reachable("n1")  # a stranger's refusal is no answer


def test_a_swapped_node_announces_its_new_address_when_it_starts_again() -> None:
    text = "cluster 3\ncluster B 1\nat 1s swap n1 B1\nat 2s crash n1 disk\nat 3s restart n1\nend 12s"
    made = ran(text, 12.0)
    assert (made.hosts["n1"].address, made.hosts["B1"].address) == ("10.2.0.1:7946", "10.1.0.1:7946")
    assert made.hosts["n2"].store.members()["n1"].content.peer_address == "10.2.0.1:7946"
    assert made.agreed()


# The engine's errors


def test_a_bug_in_the_engine_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world("cluster 2\nat 1s n1 put a 1")
    engine = made.hosts["n2"].engine
    assert engine is not None

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(engine, "on_push", broken)
    with pytest.raises(ZeroDivisionError):
        made.run_until(3.0)


def test_a_refusal_ends_the_call_as_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world("cluster 2\nat 1s n1 put a 1")
    first, second = (host.engine for host in made.live())
    assert first is not None
    assert second is not None
    outcomes: list[bool] = []

    def refuse(*_: object) -> None:
        raise RemoteError("no")

    def failed(call: Call, error: str, now: float, *, answered: bool = False) -> None:
        outcomes.append(answered)

    monkeypatch.setattr(second, "on_push", refuse)
    monkeypatch.setattr(first, "on_failure", failed)
    made.run_until(1.5)
    assert outcomes == [True]
    assert second.counters.refused == 1


# History and expectations


def test_the_history_tells_what_each_writer_had_seen() -> None:
    made = ran(
        f"cluster 3 {SILENT}\nnetwork latency=10ms\nat 1s n1 put a 1\nat 1s n2 put a 2\nat 1s n3 put b 3\n"
        "at 2s n3 put a 4\nat 3s n1 set-add s x y\nat 3s n2 set-add s x\nat 4s n2 set-remove s x",
        5.0,
    )
    first, second, other, third, add, again, removal = made.history.writes
    assert not first.seen
    assert not second.seen
    assert set(third.seen) == {*first.dots, *second.dots}
    assert other.dots[0] not in third.seen
    assert third.dots[0] not in first.seen
    assert Dot(Origin("n1", int(EPOCH * 1000)), 1) not in third.seen  # covered, and about something else
    assert (add.keys, len(add.dots)) == ((("set", "s", "x"), ("set", "s", "y")), 2)
    assert not again.seen
    assert set(removal.seen) == {*add.dots, *again.dots}
    assert "seen" not in repr(first)
    assert list(made.history.about(("register", "a"))) == [first, second, third]
    assert first.origin == Origin("n1", int(EPOCH * 1000))


def test_what_a_writer_had_seen_may_have_holes() -> None:
    made = ran(
        f"cluster 2 {SILENT}\nat 0s cut n1 | n2\nat 1s n1 put a 1\nat 2s heal\nat 3s n1 put a 2\nat 4s n2 put a 3",
        5.0,
    )
    first, second, third = made.history.writes
    assert first.dots[0] not in third.seen
    assert list(third.seen) == list(second.dots)
    assert repr(third.seen) == f"{{{second.dots[0]}}}"
    assert Dot(Origin("n9", 1), 1) not in third.seen


def test_what_was_refused_is_in_the_history_with_its_reason() -> None:
    made = ran(f'cluster 1\nat 1s n1 put "{"k" * 600}" 1\nat 1s n1 add hits {2**62}\nat 2s n1 add hits {2**62}\n'
               "at 3s n1 add hits 0\nat 3s n1 delete nothing", 4.0)  # fmt: skip
    assert [write.outcome for write in made.history.writes] == [
        "INVALID_ARGUMENT", ACKNOWLEDGED, "COUNTER_OVERFLOW", ACKNOWLEDGED, ACKNOWLEDGED,
    ]  # fmt: skip
    assert [len(write.records) for write in made.history.writes] == [0, 1, 0, 0, 0]


def test_purges_are_noted() -> None:
    text = "cluster 3 retention=2s\nat 1s n1 put a 1\nat 2s n1 delete a\nend 30s"
    made = ran(text, 3.0)
    assert not made.history.purged
    made.run_until(30.0)
    assert made.history.purged


def test_any_is_a_node_that_takes_writes() -> None:
    text = "cluster 4\nat 1s crash n1\nat 1s pause n2\nevery 10ms from 2s to 4s any put key{i} {i}"
    made = ran(text, 5.0)
    assert {write.node for write in made.history.writes} == {"n3", "n4"}
    assert [write.args for write in made.history.writes][:2] == [("key1", "1"), ("key2", "2")]
    assert len(made.history.writes) == 201
    nobody = ran("cluster 1\nat 1s crash n1\nat 2s any put a 1", 3.0)
    assert nobody.history.writes == []


def test_an_expected_agreement_that_does_not_come_is_a_failure() -> None:
    text = "cluster 4\nat 1s cut n1 n2 | n3 n4\nat 2s n1 put a 1\nat 3s agree 2s\nend 8s"
    assert ran(text, 8.0).failures == ["agreement: none within 2 s: n1 n2 | n3 n4 (at 5.000 s)"]
    assert ran(text.replace("at 3s agree", "at 1s agree"), 8.0).failures == []
    assert ran(text.replace("end 8s", "at 4s heal\nend 20s").replace("agree 2s", "agree 9s"), 20.0).failures == []


def test_agreement_is_of_each_cluster_by_itself() -> None:
    made = ran("cluster 2\ncluster B 2\nat 1s n1 put a 1\nat 1s B1 put b 1\nat 1s agree 1s", 3.0)
    assert made.failures == []
    assert made.agreed()
    made.write("n1", "put", "c", "1")
    assert not made.agreed()


def test_a_check_reports_what_the_checkers_find() -> None:
    made = ran("cluster 2\nat 0s cut n1 | n2\nat 1s n1 put a 1\nat 3s check", 2.0)
    made.hosts["n2"].store.coverage.add(Origin("n1", int(EPOCH * 1000)), 2)  # of a record that never came
    made.run_until(3.0)
    assert made.failures
    assert all(failure.endswith("(at 3.000 s)") for failure in made.failures)


def test_harness_code_runs_at_its_time() -> None:
    made, times = world("cluster 1"), list[float]()
    made.at(2.5, lambda: times.append(made.now))
    made.run_until(4.0)
    assert (times, made.now) == ([2.5], 4.0)


def test_hooks_see_every_input_of_every_engine() -> None:
    made = world(f"cluster 2 {SILENT}\nat 1s n1 put a 1")
    seen: list[str] = []
    made.after_input.append(lambda host: seen.append(host.name))
    made.run_until(3.0)
    assert seen == ["n1", "n2", "n1"]  # the write, the push, its answer


# Statistics


def test_a_write_has_agreed_when_the_last_live_node_covers_it() -> None:
    made = ran(f"cluster 3 {SILENT}\nnetwork latency=10ms\nat 1s n1 put a 1", 2.0)
    (spread,) = made.stats.spreads
    assert spread.agreed_at == pytest.approx(1.01)
    assert list(spread.delays) == pytest.approx([0.01, 0.01])


def test_a_write_that_not_all_cover_has_not_agreed_until_they_do_or_are_gone() -> None:
    text = f"cluster 3 {SILENT}\nat 0s cut n3 | n1 n2\nat 1s n1 put a 1\nat 5s crash n3\nend 9s"
    made = ran(text, 4.9)
    (spread,) = made.stats.spreads
    assert spread.agreed_at is None
    made.run_until(9.0)
    assert spread.agreed_at == 5.0


def test_a_node_that_comes_back_without_its_disk_is_waited_for_again() -> None:
    text = "cluster 3\nat 0s cut n3 | n1 n2\nat 1s n1 put a 1\nat 2s crash n2\nat 3s restart n2\nat 6s heal\nend 30s"
    made = ran(text, 5.9)
    (spread,) = made.stats.spreads
    assert spread.lacking == 1
    made.run_until(30.0)
    assert spread.agreed_at is not None
    assert spread.agreed_at > 6.0


def test_samples_tell_each_second_s_rounds_and_who_is_up_to_date() -> None:
    text = "cluster 4\nat 1500ms cut n1 | n2 n3 n4\nat 2500ms n2 put a 1\nat 10s heal\nend 30s"
    made = ran(text, 30.0)
    samples = {sample.time: sample for sample in made.stats.samples}
    assert len(samples) == 30
    assert mean(sample.rounds for sample in samples.values()) == pytest.approx(4.0, rel=0.3)
    assert samples[3.0].informed == 0.75
    assert samples[30.0].informed == 1.0
    assert samples[30.0].agreed == samples[30.0].rounds


def test_what_nodes_count_is_what_the_world_counts() -> None:
    """All traffic of a world without losses is in the nodes' own counters, as real nodes report them."""
    made = ran("cluster 5\nevery 100ms from 1s to 5s any put key{i} {i}\nat 2s n1 fill bulk 100\nend 10s", 10.0)
    counters = [host.engine.counters for host in made.live() if host.engine is not None]
    calls = sum(count.pushes_sent + count.pulls_sent + count.heartbeats_sent for count in counters)
    assert calls == sum(n for n, _ in made.stats.requests)
    assert sum(count.bytes_sent for count in counters) == made.stats.bytes
    assert sum(count.bytes_received for count in counters) == pytest.approx(made.stats.bytes, rel=0.01)


def test_a_host_says_what_it_is() -> None:
    made = ran("cluster 2\nat 1s crash n1\nat 1s pause n2", 2.0)
    assert [repr(host) for host in made.hosts.values()] == ["Host(n1, down)", "Host(n2, paused)"]
    assert isinstance(made.hosts["n1"], Host)


def test_what_comes_to_a_slow_node_is_done_in_order_even_if_it_is_slow_no_more() -> None:
    # If the last chunk of a delta overtook one that waits still, the delta would seem complete without that one.
    world = World(parse("cluster 2\nend 10s\n"), 0)
    host = world.hosts["n2"]
    done: list[int] = []
    world.apply(Action(0.0, "slow", ("n2",), (1.0,)))
    for number in (1, 2):
        world._calls.wait(host, done.append, number)
    world.apply(Action(0.0, "slow", ("n2",), (0.0,)))
    assert host.hindered, "two inputs wait still"
    world._calls.wait(host, done.append, 3)
    world.run_until(1.5)
    assert done == [1]
    world.run_until(3.0)
    assert done == [1, 2, 3]
    assert not host.hindered
