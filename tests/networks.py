"""Real nodes in a network of their own, and its faults: cuts, one-way cuts, loss and delay between chosen hosts.

Each `Host` is a network namespace with one address; a bridge in another namespace (the hub) connects them, and one
more link leads from the hub to the tests, so that they reach the clients' ports whatever is cut between hosts:

    tests 198.x.N.1 ─── hub (bridge) ─┬─ host 198.x.N.11
                                      ├─ host 198.x.N.12
                                      └─ ...

Cuts and losses are packet filters (nftables) inside of the host that does not hear: they drop what one host sent to
another, all of it or a random share. They work at once, on connections that exist too, and nobody is told: to both ends
it looks like a broken network. Address resolution goes on as before.

Delays do not take netem, which is not in every kernel. They are of one way between two hosts. A route to that one
address leads what is delayed around the bridge: into a TUN device of the sender, from which a switch in user space
(tests/switch.py) hands it on to that of the receiver, some time later and in order. Nothing else passes there, so pairs
that were never delayed pay nothing, and the filters apply as ever. A packet is never early; the switch wakes up on
whole milliseconds, and later on a busy machine.

What it takes: root (or the capabilities to make namespaces), `ip` with namespaces, bridges and veth pairs, nftables
with random numbers in its rules, and TUN devices (/dev/net/tun): any common kernel. A name server takes dnsmasq.
`missing` tries them out and says what is not there.

Nothing is left behind: a network ends with its `with` statement, on Ctrl-C too. Every name holds the id of the process
that made it, and whoever makes a network first removes what the networks of dead processes have left.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from gossip_grpc.client import AsyncClient, GossipError
from gossip_grpc.client.results import MemberStatus
from tests.processes import NodeProcess
from tests.switch import Switch

PATIENCE = 60.0
"""Seconds that anything may take before a test fails: never a measure of speed."""

PEER_PORT, CLIENT_PORT = 7946, 7947

_NAME = re.compile(r"gossip-(\d+)-")
_SUBNETS = ipaddress.IPv4Network("198.18.0.0/15")  # set aside for tests of networks (RFC 2544)
_RESOLVERS = Path("/etc/netns")
"""Where `ip netns exec` finds files that take the place of those in /etc, by namespace."""


def missing() -> str | None:
    """Why this machine cannot have such networks; None if it can."""
    for tool, package in (
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("dnsmasq", "dnsmasq-base"),
        ("ping", "iputils-ping"),
    ):
        if shutil.which(tool) is None:
            return f"there is no {tool} (Debian: {package})"
    try:
        with Network() as network:
            host, other = network.add(), network.add()
            network.delay(host, other, 0.001)
            _run(*host.command(), "ping", "-q", "-c", "1", "-W", str(PATIENCE), other.address)
            network.lose(other, host, share=0.5)
    except CommandError as error:
        return f"real networks take root, and a kernel with network namespaces, nftables and TUN devices: {error}"
    return None


class CommandError(Exception):
    """A command of the system failed: which, and what it said."""


class Host:
    """One host of a network: a namespace with an address. Made by `Network.add`."""

    def __init__(self, namespace: str, address: str) -> None:
        self.namespace = namespace
        self.address = address
        self.lost: dict[str, float] = {}
        """What of others' packets is dropped here: source (an address, or a network) -> share."""

    @property
    def peer_address(self) -> str:
        """Where a node on it listens for its peers."""
        return f"{self.address}:{PEER_PORT}"

    def command(self) -> tuple[str, ...]:
        """What to put before a command, so that it runs on this host."""
        # Not measured by coverage, which would take as much of the processor again: they are many, on few cores.
        return ("ip", "netns", "exec", self.namespace, "env", "-u", "COVERAGE_PROCESS_CONFIG")

    def watch_dials(self, address: str) -> None:
        """Count from now on how often this host tries to connect to an address; see `dials`."""
        rule = f"ip daddr {address} tcp flags & (syn | ack) == syn counter"
        self.filter(f"table inet dials {{ chain sent {{ type filter hook output priority 0; {rule}; }}\n}}")

    def dials(self) -> int:
        """How many packets that open a connection were sent to the addresses watched."""
        listing = json.loads(_run("ip", "netns", "exec", self.namespace, "nft", "-j", "list", "table", "inet", "dials"))
        parts = [part for item in listing["nftables"] for part in item.get("rule", {}).get("expr", ())]
        return sum(part["counter"]["packets"] for part in parts if "counter" in part)

    def filter(self, rules: str) -> None:
        """Load nftables rules."""
        _run("ip", "netns", "exec", self.namespace, "nft", "-f", "-", text=rules)

    def apply(self) -> None:
        """Make the filters say what `lost` says."""
        rules = [
            f"ip saddr {source} {'' if share >= 1 else f'numgen random mod 10000 < {round(share * 10_000)} '}drop;"
            for source, share in self.lost.items()
        ]
        chain = f"chain heard {{ type filter hook input priority 0; {' '.join(rules)} }}\n"
        # The first line makes sure that there is something to delete; all of it happens at once.
        self.filter(f"table inet faults {{ }}\ndelete table inet faults\ntable inet faults {{ {chain} }}")


class Network:
    """Hosts on one bridge: `with Network() as network: ...`."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []
        self._prefix = f"gossip-{os.getpid()}-"
        self._hub = f"{self._prefix}hub"
        self._link = f"gsp{os.getpid()}"
        self._tun = f"{self._link}tun"
        self._net = ipaddress.IPv4Network("0.0.0.0/0")
        self._made = 0
        self._services: list[subprocess.Popen[bytes]] = []
        self._switch: Switch | None = None
        self._delayed: set[Host] = set()
        """Which hosts are attached to the switch."""

    def __enter__(self) -> Self:
        remove_leftovers()
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process in it, and remove it."""
        if self._switch is not None:
            self._switch.close()
            self._switch = None
        _remove(self._prefix, self._link)
        for service in self._services:
            service.wait()

    def add(self) -> Host:
        """One more host. Its name server is the hub's (see `NameServer`)."""
        self._made += 1
        number = 10 + self._made
        host = Host(f"{self._prefix}h{number}", str(self._net[number]))
        resolver = _RESOLVERS / host.namespace / "resolv.conf"
        resolver.parent.mkdir(parents=True)
        resolver.write_text(f"nameserver {self.hub_address}\noptions timeout:1 attempts:1\n")
        _run("ip", "netns", "add", host.namespace)
        self.hosts.append(host)
        _batch(
            self._hub,
            f"link add p{number} type veth peer name eth0 netns {host.namespace}",
            f"link set p{number} master bridge up",
        )
        _batch(
            host.namespace,
            f"address add {host.address}/{self._net.prefixlen} dev eth0",
            "link set lo up",
            "link set eth0 up",
        )
        return host

    def remove(self, host: Host) -> None:
        """Take a host away, and its address: what is sent to it gets no answer at all."""
        self.hosts.remove(host)
        if self._switch is not None:
            self._switch.detach(host.address)
        _remove(host.namespace, "")

    # Faults

    def lose(self, source: Host, target: Host, *, share: float) -> None:
        """Drop a random share of what `source` sends to `target`; 0 ends it."""
        target.lost[source.address] = share
        if not share:
            del target.lost[source.address]
        target.apply()

    def cut_one_way(self, source: Host, target: Host) -> None:
        """Nothing of `source` reaches `target`; the other direction works."""
        self.lose(source, target, share=1.0)

    def cut(self, one: Host, other: Host) -> None:
        """Nothing passes between two hosts."""
        self.cut_one_way(one, other)
        self.cut_one_way(other, one)

    def split(self, side: Iterable[Host], other_side: Sequence[Host]) -> None:
        """Nothing passes between the hosts of the two sides."""
        for one in side:
            for other in other_side:
                self.cut(one, other)

    def deafen(self, host: Host) -> None:
        """Nothing of any other host reaches this one."""
        for other in self.hosts:
            if other is not host:
                host.lost[other.address] = 1.0
        host.apply()

    def heal(self) -> None:
        """End all cuts and losses. Delays stay."""
        for host in self.hosts:
            if host.lost:
                host.lost = {}
                host.apply()

    def delay(self, source: Host, target: Host, seconds: float, *, jitter: float = 0.0) -> None:
        """Hold back whatever `source` sends to `target`, each packet up to `jitter` longer, in order; 0 ends it."""
        if self._switch is None:
            self._switch = Switch()
        self._switch.delay(source.address, target.address, seconds, jitter)
        for host in {source, target} - self._delayed:
            self._attach(host, self._switch)
        _batch(source.namespace, f"route replace {target.address} dev {self._tun} src {source.address}")

    def under_way(self) -> int:
        """How many delayed packets have been sent and have not arrived."""
        return 0 if self._switch is None else self._switch.under_way()

    def _attach(self, host: Host, switch: Switch) -> None:
        try:
            switch.attach(host.address, self._tun)
        except OSError as error:
            raise CommandError(f"a TUN device cannot be made: {error}") from error
        self._delayed.add(host)
        _run("ip", "link", "set", self._tun, "netns", host.namespace)
        # What one device sends, another may answer.
        trust = "for filter in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $filter; done"
        _run("ip", "netns", "exec", host.namespace, "sh", "-c", trust)
        # A queue as long as it may get while the switch does not run, for it is to lose nothing.
        _batch(host.namespace, f"link set {self._tun} txqueuelen 10000 up")

    # The hub

    @property
    def hub_address(self) -> str:
        """Of the hub itself; of the name server, if there is one."""
        return str(self._net[2])

    def serve(self, *command: str) -> subprocess.Popen[bytes]:
        """Run a command on the hub until the network ends."""
        service = subprocess.Popen(
            ("ip", "netns", "exec", self._hub, *command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._services.append(service)
        return service

    def _build(self) -> None:
        routes = {route["dst"] for route in json.loads(_run("ip", "-json", "-4", "route") or "[]")}
        subnets = list(_SUBNETS.subnets(new_prefix=24))
        first = os.getpid() % len(subnets)  # two that begin at once do not choose the same
        self._net = next(net for net in [*subnets[first:], *subnets[:first]] if str(net) not in routes)
        _run("ip", "netns", "add", self._hub)
        _batch(
            self._hub,
            "link set lo up",
            # Without a multicast querier, snooping only delays; the tree protocol would hold up new ports.
            # And with an address of its own it keeps it: else it takes that of a port, and changes it when one goes.
            "link add bridge address 02:00:5e:00:00:01 type bridge stp_state 0 mcast_snooping 0",
            f"address add {self.hub_address}/{self._net.prefixlen} dev bridge",
            "link set bridge up",
        )
        _run("ip", "link", "add", self._link, "type", "veth", "peer", "name", "tests", "netns", self._hub)
        _batch(self._hub, "link set tests master bridge up")
        _run("ip", "address", "add", f"{self._net[1]}/{self._net.prefixlen}", "dev", self._link)
        _run("ip", "link", "set", self._link, "up")


class NameServer:
    """A DNS server (dnsmasq) on the hub of a network: names with several addresses, which change while it runs."""

    def __init__(self, network: Network) -> None:
        self._hosts = Path(tempfile.mkdtemp(prefix="gossip-names-")) / "hosts"
        self._hosts.touch()
        self._process = network.serve(
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root"),
            *("--no-resolv", "--no-hosts", "--local=/test/", f"--addn-hosts={self._hosts}"),
            *("--bind-interfaces", f"--listen-address={network.hub_address}"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._hosts.parent)

    def answer(self, names: Mapping[str, Sequence[Host]]) -> None:
        """From now on these names, which end in `.test`, have these hosts' addresses, and all others have none."""
        lines = [f"{host.address} {name}\n" for name, hosts in names.items() for host in hosts]
        self._hosts.write_text("".join(lines))
        self._process.send_signal(signal.SIGHUP)


class Cluster:
    """Nodes on the hosts of a network, by node_id: `async with cluster(network, 5) as nodes: ...`.

    Attributes:
        processes: the present process of each node that runs.
        ended: the processes there were before.
        hosts: where each node runs.
    """

    def __init__(self, network: Network, seeds: Sequence[str]) -> None:
        self.network = network
        self.seeds = seeds
        self.processes: dict[str, NodeProcess] = {}
        self.ended: list[NodeProcess] = []
        self.hosts: dict[str, Host] = {}
        self._clients: dict[str, AsyncClient] = {}

    async def start(self, name: str, host: Host | None = None, *flags: str) -> NodeProcess:
        """Start a node: on the host given, else on the one it ran on before, else on a new one."""
        host = self.hosts[name] = host or self.hosts.get(name) or self.network.add()
        process = await NodeProcess.start(
            *("--node-id", name, "--log-format", "json"),
            *("--peer-listen", host.peer_address, "--client-listen", f"{host.address}:{CLIENT_PORT}"),
            *(part for seed in self.seeds for part in ("--join", seed)),
            *flags,
            listen=False,
            command=host.command(),
        )
        if (former := self.processes.pop(name, None)) is not None:
            self.ended.append(former)
        self.processes[name] = process
        await self._forget_client(name)
        return process

    def client(self, name: str) -> AsyncClient:
        """A client of a node; the same one each time."""
        if name not in self._clients:
            self._clients[name] = AsyncClient(f"{self.hosts[name].address}:{CLIENT_PORT}", timeout=PATIENCE)
        return self._clients[name]

    async def kill(self, name: str) -> None:
        """SIGKILL a node."""
        self.processes[name].kill()
        await self._end(name)

    async def stop(self, name: str) -> None:
        """SIGTERM a node, and wait until it has ended."""
        self.processes[name].terminate()
        await self._end(name)

    async def statuses(self, name: str) -> dict[str, MemberStatus]:
        """What each member is to a node."""
        return {member.node_id: member.status for member in await self.client(name).members()}

    async def everywhere(self, status: MemberStatus, members: Iterable[str], at: Iterable[str] | None = None) -> float:
        """Wait until the members have this status at all nodes (or those given); returns how many seconds it took."""
        members, waiting = list(members), set(self.processes if at is None else at)

        async def seen() -> bool:
            for name in list(waiting):
                statuses = await self.statuses(name)
                if all(member == name or statuses.get(member) is status for member in members):
                    waiting.discard(name)
            return not waiting

        return await eventually(seen, lambda: f"{members} are not {status} at {sorted(waiting)}")

    async def agreed(self, names: Iterable[str] | None = None) -> float:
        """Wait until nodes (all that run) hold the same and take each other for alive; returns the seconds it took."""
        names = list(self.processes if names is None else names)
        found: list[object] = []

        async def same() -> bool:
            statuses = [await self.client(name).status() for name in names]
            found[:] = [(s.node_id, s.ready, s.members, s.fingerprint, s.coverage) for s in statuses]
            return (
                all(s.ready and s.members >= len(names) for s in statuses)
                and len({s.fingerprint for s in statuses}) == 1
                and all(s.coverage == statuses[0].coverage for s in statuses)
            )

        return await eventually(same, lambda: f"they do not agree: {found}")

    def accused(self, since: Mapping[NodeProcess, int] | None = None) -> dict[str, set[str]]:
        """Who was SUSPECT or DEAD to whom: member -> nodes that logged it, all along or after `now_logged`."""
        found: dict[str, set[str]] = {}
        for process in [*self.ended, *self.processes.values()]:
            for line in process.log[(since or {}).get(process, 0) :]:
                if line["event"] in {"member is suspect", "member is dead"}:
                    found.setdefault(line["member"], set()).add(line["node_id"])
        return found

    def killed(self, at: Iterable[str]) -> set[str]:
        """Who was DEAD to any of these nodes."""
        return {line["member"] for name in at for line in self.processes[name].log if line["event"] == "member is dead"}

    def logged_so_far(self) -> dict[NodeProcess, int]:
        """A mark in all logs, for `accused`."""
        return {process: len(process.log) for process in [*self.ended, *self.processes.values()]}

    async def close(self) -> None:
        """End all nodes by force."""
        for name in list(self._clients):
            await self._forget_client(name)
        await asyncio.gather(*(process.close() for process in [*self.ended, *self.processes.values()]))

    async def _end(self, name: str) -> None:
        process = self.processes.pop(name)
        self.ended.append(process)
        await process.wait()
        await self._forget_client(name)

    async def _forget_client(self, name: str) -> None:
        if (client := self._clients.pop(name, None)) is not None:
            await client.close()


@asynccontextmanager
async def cluster(network: Network, count: int, *, seeds: int = 3) -> AsyncIterator[Cluster]:
    """Nodes n0, n1, ... on hosts of their own; all know the first few as seeds. Waits until all agree."""
    hosts = {f"n{number}": network.add() for number in range(count)}
    nodes = Cluster(network, [host.peer_address for host in list(hosts.values())[:seeds]])
    try:
        await asyncio.gather(*(nodes.start(name, host) for name, host in hosts.items()))
        print(f"\n{count} nodes agree {await nodes.agreed():.1f} s after their start")  # noqa: T201  pytest -s
        yield nodes
    finally:
        await nodes.close()


async def eventually(check: Callable[[], Awaitable[bool]], why: Callable[[], str]) -> float:
    """Wait until something holds, while nodes may be out of reach; returns how many seconds it took."""
    begun = time.monotonic()
    while True:
        with contextlib.suppress(GossipError):
            if await check():
                return time.monotonic() - begun
        assert time.monotonic() - begun < PATIENCE, why()
        await asyncio.sleep(0.05)  # between two looks at processes: there is no event to wait for


def leftovers(pid: int) -> list[str]:
    """The names of what the networks of a process have made and not removed."""
    return [name for name in _names() if name.startswith(f"gossip-{pid}-")]


def remove_leftovers() -> None:
    """Remove what the networks of processes that have ended left behind."""
    for pid in {int(found[1]) for name in _names() if (found := _NAME.match(name))}:
        if not Path(f"/proc/{pid}").exists():
            _remove(f"gossip-{pid}-", f"gsp{pid}")


def _names() -> list[str]:
    namespaces = [entry["name"] for entry in json.loads(_run("ip", "-json", "netns") or "[]")]
    return [*namespaces, *(path.name for path in _RESOLVERS.glob("*"))]


def _remove(prefix: str, link: str) -> None:
    ours = {name for name in _names() if name.startswith(prefix)}
    namespaces = [entry["name"] for entry in json.loads(_run("ip", "-json", "netns") or "[]")]
    for name in ours.intersection(namespaces):
        for pid in _run("ip", "netns", "pids", name).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    if link:
        # At once: with its namespace it would go some time later.
        subprocess.run(["ip", "link", "del", link], check=False, capture_output=True)
    for name in ours.intersection(namespaces):
        _run("ip", "netns", "del", name)
    for name in ours:
        shutil.rmtree(_RESOLVERS / name, ignore_errors=True)


def _batch(namespace: str, *commands: str) -> None:
    _run("ip", "-netns", namespace, "-batch", "-", text="\n".join(commands))


def _run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=text)
    if done.returncode:
        raise CommandError(f"`{' '.join(command)}`: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
