"""Real nodes in real networks: crashes, cuts, deafness, stopped processes, moved addresses, name servers.

Each test waits for what it is about, for as long as `PATIENCE`; how long it took is printed (`pytest -s`) and never
asserted, for a busy machine is no bug.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from gossip_grpc.client.results import MemberStatus
from tests import networks, switch
from tests.networks import PATIENCE, Cluster, NameServer, Network, cluster, eventually

ALIVE, DEAD = MemberStatus.ALIVE, MemberStatus.DEAD

DETECTION = 4.0
"""Seconds that detection takes at most on an idle machine: how long a test looks whether nothing happens."""

SILENCE = 10.0
"""Seconds without a packet until an address counts as given up: an attempt repeats its first packet after 8 s."""


def say(text: str) -> None:
    print(text)  # noqa: T201  pytest -s


# --- the harness itself ---


async def ping(source: networks.Host, target: networks.Host, *flags: str) -> str:
    """What ping says, which sends a packet each 10 ms."""
    command = (*source.command(), "ping", "-i", "0.01", *flags, target.address)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return output.decode()


async def reached(network: Network, source: networks.Host, target: networks.Host, *, pings: int = 1) -> int:
    """How many of so many pings are answered."""
    output = await ping(source, target, "-q", "-W", "1", "-c", str(pings))
    return int(output.partition(" received")[0].rpartition(" ")[2])


async def round_trip(source: networks.Host, target: networks.Host) -> float:
    """Seconds until the answer to a ping comes: the least of some, for a busy machine is late at times."""
    output = await ping(source, target, "-q", "-W", str(PATIENCE), "-c", "10")
    return float(output.rpartition(" = ")[2].partition("/")[0]) / 1000


async def test_a_network_is_cut_loses_and_heals(network: Network) -> None:
    one, two, three = (network.add() for _ in range(3))
    assert await reached(network, one, two) == 1
    network.cut_one_way(one, two)
    assert await reached(network, one, two) == 0
    assert await reached(network, one, three) == 1
    network.heal()
    network.lose(one, two, share=0.5)
    assert 0 < await reached(network, one, two, pings=100) < 100
    network.lose(one, two, share=0)
    network.deafen(three)
    assert await reached(network, three, one) == await reached(network, one, three) == 0
    network.heal()
    assert await reached(network, three, one) == 1
    network.split([one], [two, three])
    assert await reached(network, two, one) == await reached(network, one, three) == 0
    assert await reached(network, two, three) == 1


async def test_a_delay_is_of_one_way_between_one_pair(network: Network) -> None:
    one, two, three = (network.add() for _ in range(3))
    network.delay(one, two, 1.0)
    network.delay(three, two, 2.0)
    there, back, other, further = await asyncio.gather(
        round_trip(one, two), round_trip(two, one), round_trip(one, three), round_trip(three, two)
    )
    assert 1.0 <= there < 2.0 <= further
    assert 1.0 <= back < 2.0
    assert other < 1.0


async def test_delays_add_up_change_and_end_at_once(network: Network) -> None:
    one, two = network.add(), network.add()
    network.delay(one, two, 1.0)
    network.delay(two, one, 1.5)
    assert 2.5 <= await round_trip(one, two) < 2.5 + PATIENCE
    network.delay(one, two, 0.0)
    assert 1.5 <= await round_trip(one, two) < 2.5
    network.delay(two, one, 0.5)
    assert 0.5 <= await round_trip(one, two) < 1.5
    network.heal()
    assert await round_trip(one, two) >= 0.5
    network.delay(two, one, 0.0)
    network.delay(two, one, 0.0)
    assert await round_trip(one, two) < 0.5


async def test_a_host_that_checks_the_way_packets_come_takes_delayed_ones(network: Network) -> None:
    one, two = network.add(), network.add()
    for host in (one, two):
        strict = "echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter"
        checks = await asyncio.create_subprocess_exec(*host.command(), "sh", "-c", strict)
        assert await checks.wait() == 0
    network.delay(one, two, 0.1)
    assert await reached(network, one, two) == await reached(network, two, one) == 1


async def test_what_is_under_way_arrives_though_the_delay_ends(network: Network) -> None:
    one, two = network.add(), network.add()
    network.delay(one, two, 1.0)
    process = await asyncio.create_subprocess_exec(
        *(*one.command(), "ping", "-W", str(PATIENCE), "-c", "1", two.address), stdout=asyncio.subprocess.PIPE
    )

    async def sent() -> bool:
        return network.under_way() > 0

    await eventually(sent, lambda: "ping sends nothing")
    network.delay(one, two, 0.0)
    output, _ = await process.communicate()
    assert b" 1 received" in output


async def test_nothing_overtakes_on_a_link_that_jitters(network: Network) -> None:
    one, two = network.add(), network.add()
    network.delay(one, two, 0.1, jitter=0.1)
    output = await ping(one, two, "-W", str(PATIENCE), "-c", "100")
    numbers = [int(line.partition("icmp_seq=")[2].split()[0]) for line in output.splitlines() if "icmp_seq" in line]
    assert numbers == list(range(1, 101))


async def test_a_delayed_link_is_cut_and_loses(network: Network) -> None:
    one, two, three = (network.add() for _ in range(3))
    for target in (two, three):
        network.delay(one, target, 0.05)
    network.lose(one, two, share=0.5)
    assert 0 < await reached(network, one, two, pings=100) < 100
    network.cut_one_way(one, two)
    assert await reached(network, one, two) == 0
    network.remove(two)
    assert await reached(network, one, two) == 0
    assert await reached(network, one, three) == 1


def test_what_a_machine_lacks_is_said(networks_possible: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "TUN", Path("/dev/net/nothing"))
    assert "/dev/net/nothing" in (networks.missing() or "")
    assert networks.leftovers(os.getpid()) == []


def test_a_network_leaves_nothing_behind_and_removes_what_a_killed_run_left(networks_possible: None) -> None:
    with Network() as network:
        host, other = network.add(), network.add()
        network.delay(host, other, 0.1)
        ours = networks.leftovers(os.getpid())
        assert {host.namespace, other.namespace} < set(ours)
        assert "switch" in {thread.name for thread in threading.enumerate()}
    assert "switch" not in {thread.name for thread in threading.enumerate()}
    assert networks.leftovers(os.getpid()) == []
    killed = os.fork()
    if killed == 0:
        network = Network().__enter__()
        network.delay(network.add(), network.add(), 0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(killed, 0)
    assert len(networks.leftovers(killed)) > 1
    networks.remove_leftovers()
    assert networks.leftovers(killed) == []


# --- crashes ---


async def test_a_killed_node_is_suspect_then_dead_to_all_and_comes_back_with_a_new_address(network: Network) -> None:
    async with cluster(network, 10) as nodes:
        old = nodes.hosts["n9"]
        killed = time.monotonic()
        await nodes.kill("n9")
        await nodes.everywhere(DEAD, ["n9"])
        say(f"DEAD at all of 9 others {time.monotonic() - killed:.1f} s after SIGKILL")
        for process in nodes.processes.values():
            await process.logged("member is dead", member="n9")
        # Whoever hears of all accusations at once finds it dead at once; the first to accuse it see it suspected first.
        lines = [line for process in nodes.processes.values() for line in process.log if line.get("member") == "n9"]
        suspected, dead = (
            min(str(line["timestamp"]) for line in lines if line["event"] == f"member is {status}")
            for status in ("suspect", "dead")
        )
        assert suspected <= dead
        assert nodes.accused().keys() == {"n9"}

        network.remove(old)
        for name in nodes.processes:
            nodes.hosts[name].watch_dials(old.address)
        await nodes.start("n9", network.add())
        started = time.monotonic()
        await nodes.everywhere(ALIVE, ["n9"])
        say(f"ALIVE at all under its new address {time.monotonic() - started:.1f} s after it serves")
        members = await nodes.client("n0").members()
        assert {member.node_id: member.peer_address for member in members}["n9"] == nodes.hosts["n9"].peer_address
        await no_dials([nodes.hosts[name] for name in nodes.processes if name != "n9"])
        await nodes.agreed()


async def no_dials(hosts: list[networks.Host]) -> None:
    """Wait until no host has dialled what it watches for `SILENCE`."""
    begun = last = time.monotonic()
    first = dials = sum(host.dials() for host in hosts)
    while (now := time.monotonic()) - last < SILENCE:
        assert now - begun < PATIENCE, f"the old address is dialled still: {dials - first} times"
        await asyncio.sleep(0.2)
        if (count := sum(host.dials() for host in hosts)) != dials:
            dials, last = count, time.monotonic()
    say(f"after that its old address was sent {dials - first} SYN packets, the last {last - begun:.1f} s later")


# --- faults of the network ---


async def test_a_deaf_monitor_kills_nobody(network: Network) -> None:
    async with cluster(network, 6) as nodes:
        healthy = [f"n{number}" for number in range(5)]
        network.deafen(nodes.hosts["n5"])
        deaf = time.monotonic()
        await nodes.everywhere(DEAD, ["n5"], at=healthy)
        say(f"the deaf node is DEAD to all others after {time.monotonic() - deaf:.1f} s")
        # By then it has missed all others for as long as they missed it, and accuses them.
        await eventually(lambda: suspects(nodes, "n5"), lambda: "the deaf node suspects nobody")
        network.heal()
        healed = time.monotonic()
        await nodes.everywhere(ALIVE, nodes.processes)
        await nodes.agreed()
        say(f"all ALIVE to all {time.monotonic() - healed:.1f} s after it hears again")
        assert nodes.killed(at=healthy) == {"n5"}


async def suspects(nodes: Cluster, name: str) -> bool:
    return any(status is not ALIVE for member, status in (await nodes.statuses(name)).items() if member != name)


async def test_links_that_work_one_way_only_kill_nobody(network: Network) -> None:
    async with cluster(network, 6) as nodes:
        host = nodes.hosts
        for source, target in (("n0", "n1"), ("n2", "n3"), ("n4", "n5"), ("n5", "n0")):
            network.cut_one_way(host[source], host[target])
        network.lose(host["n1"], host["n4"], share=0.2)
        await asyncio.sleep(3 * DETECTION)  # nothing is to happen: there is no event to wait for
        for name in nodes.processes:
            await nodes.client(name).kv.put(f"from {name}", "through the cuts")
        say(f"all agree on writes {await nodes.agreed():.1f} s after them, around four links cut one way")
        assert nodes.killed(at=nodes.processes) == set()


async def test_a_slow_link_between_two_halves_makes_nobody_suspect(network: Network) -> None:
    async with cluster(network, 6) as nodes:
        names, host = sorted(nodes.processes), nodes.hosts
        west, east = names[:3], names[3:]
        mark = nodes.logged_so_far()
        for one in west:
            for other in east:
                network.delay(host[one], host[other], 0.15)
                network.delay(host[other], host[one], 0.15)
        slow = time.monotonic()
        assert await round_trip(host["n0"], host["n5"]) >= 0.3
        assert await round_trip(host["n0"], host["n2"]) < 0.3
        for name in names:
            await nodes.client(name).kv.put(f"from {name}", "far")
            await nodes.client(name).counter.add("writes", 1)
        say(f"all agree on writes of both halves {await nodes.agreed():.1f} s after them, over 300 ms")
        for name in names:
            assert {entry.key async for entry in nodes.client(name).kv.list()} == {f"from {writer}" for writer in names}
            assert await nodes.client(name).counter.get("writes") == 6
        await asyncio.sleep(slow + 15.0 - time.monotonic())  # nothing is to happen: there is no event to wait for
        assert nodes.accused(since=mark) == {}


async def test_a_partition_heals_by_itself_and_nothing_is_lost(network: Network) -> None:
    async with cluster(network, 10) as nodes:
        names = list(nodes.processes)
        west, east = names[:5], names[5:]
        network.split([nodes.hosts[name] for name in west], [nodes.hosts[name] for name in east])
        cut = time.monotonic()
        await nodes.everywhere(DEAD, east, at=west)
        await nodes.everywhere(DEAD, west, at=east)
        say(f"both sides are DEAD to each other {time.monotonic() - cut:.1f} s after the cut")
        for name in names:
            await nodes.client(name).kv.put(f"from {name}", "cut off")
            await nodes.client(name).counter.add("writes", 1)
            await nodes.client(name).set.add("writers", name)
        await asyncio.gather(nodes.agreed(west), nodes.agreed(east))
        network.heal()
        healed = time.monotonic()
        await nodes.agreed()
        say(f"all 10 agree {time.monotonic() - healed:.1f} s after the end of a cut of {healed - cut:.1f} s")
        for name in names:
            client = nodes.client(name)
            assert {entry.key async for entry in client.kv.list()} == {f"from {writer}" for writer in names}
            assert await client.counter.get("writes") == 10
            assert await client.set.get("writers") == set(names)


# --- faults of processes ---


async def test_a_stopped_process_is_dead_and_accuses_nobody_when_it_goes_on(
    network: Network, request: pytest.FixtureRequest
) -> None:
    stopped_for: float = request.config.getoption("--stopped")
    async with cluster(network, 6) as nodes:
        others = [name for name in nodes.processes if name != "n5"]
        stopped = time.monotonic()
        nodes.processes["n5"].process.send_signal(signal.SIGSTOP)
        await nodes.everywhere(DEAD, ["n5"], at=others)
        say(f"DEAD at all {time.monotonic() - stopped:.1f} s after SIGSTOP")
        await asyncio.sleep(max(0.0, stopped + stopped_for - time.monotonic()))
        nodes.processes["n5"].process.send_signal(signal.SIGCONT)
        going = time.monotonic()
        await nodes.everywhere(ALIVE, nodes.processes)
        say(f"all ALIVE to all {time.monotonic() - going:.1f} s after SIGCONT")
        await nodes.processes["n5"].logged("this process stood still")
        await nodes.agreed()
        await asyncio.sleep(DETECTION)  # nothing is to happen: there is no event to wait for
        assert nodes.accused().keys() == {"n5"}
        assert "n5" not in nodes.accused()["n5"]


async def test_of_two_processes_with_one_id_the_older_steps_down(network: Network) -> None:
    async with cluster(network, 4) as nodes:
        older = nodes.processes["n3"]
        newer = await nodes.start("n3", network.add())
        started = time.monotonic()
        assert await older.wait() == 4
        say(f"the older process stepped down {time.monotonic() - started:.1f} s after the newer one serves")
        line = await older.logged("stepping down")
        assert "a newer node runs as n3" in line["error"]
        await nodes.everywhere(ALIVE, ["n3"])
        await nodes.agreed()
        members = await nodes.client("n0").members()
        assert {member.node_id: member.peer_address for member in members}["n3"] == nodes.hosts["n3"].peer_address
        await nodes.client("n3").kv.put("undisturbed", "yes")
        assert [line for line in newer.log if line["level"] == "error"] == []
        assert newer.process.returncode is None


async def test_a_cluster_that_was_stopped_forms_again_by_its_seeds(network: Network) -> None:
    async with cluster(network, 6) as nodes:
        names = list(nodes.processes)
        await asyncio.gather(*(nodes.stop(name) for name in names))
        await asyncio.gather(*(nodes.start(name) for name in names))
        started = time.monotonic()
        await nodes.agreed()
        await nodes.everywhere(ALIVE, names)
        say(f"6 nodes form a cluster again {time.monotonic() - started:.1f} s after all serve")


async def test_a_rolling_restart_makes_nobody_else_suspect(network: Network) -> None:
    async with cluster(network, 20) as nodes:
        begun = time.monotonic()
        for name in list(nodes.processes):
            mark = nodes.logged_so_far()
            await nodes.stop(name)
            process = await nodes.start(name)
            await process.logged("ready")
            await nodes.everywhere(ALIVE, [name])
            assert nodes.accused(since=mark).keys() <= {name}
        await nodes.agreed()
        say(f"20 nodes were restarted one by one in {time.monotonic() - begun:.0f} s")


# --- name servers ---


async def test_seeds_are_found_by_names_that_come_late_and_change(network: Network) -> None:
    first, second, third, fourth = (network.add() for _ in range(4))
    with NameServer(network) as names:
        nodes = Cluster(network, ["seeds.gossip.test:7946"])
        try:
            waiting = await nodes.start("waiting", first)
            await waiting.logged("a seed's name cannot be resolved; trying again")
            await asyncio.gather(nodes.start("a", second), nodes.start("b", third))
            names.answer({"seeds.gossip.test": [second, third]})
            say(f"three nodes agree {await nodes.agreed():.1f} s after their seeds' name has addresses")

            await asyncio.gather(nodes.kill("a"), nodes.kill("b"))
            network.remove(second)
            network.remove(third)
            await nodes.client("waiting").kv.put("kept", "all along")
            # A node that finds nobody but itself behind the name: the one that runs must see that the name has moved.
            names.answer({"seeds.gossip.test": [fourth]})
            await nodes.start("c", fourth)
            changed = time.monotonic()
            await nodes.everywhere(ALIVE, ["waiting", "c"])
            await nodes.agreed()
            assert (await nodes.client("c").kv.get("kept")).value == "all along"
            say(f"a running node found the seed that took the name over in {time.monotonic() - changed:.1f} s")
        finally:
            await nodes.close()
