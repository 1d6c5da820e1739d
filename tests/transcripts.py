"""Pages that show a session with grpcurl: their commands are run at real nodes, and what they print is compared.

    python -m tests.transcripts PAGE.md     runs the commands, and puts what they print into the page

A page starts its nodes with `$ gossip-grpc node ...`, and asks them with `$ grpcurl ...`, in blocks of ```console.
What differs from run to run (`MASKS`) is left out of the comparison. Where a later command names such a value of an
earlier output, as a token to resume with, it is given that of the run. Between two commands the nodes come to agree, as
they do while a person types.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tests.processes import DEADLINE, NodeProcess, agree

_BLOCK = re.compile(r"(?<=^```console\n)(.*?)(?=^```$)", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"^\$ ((?:[^'\\\n]|\\.|\\\n|'[^']*')*\n)", re.MULTILINE)
"""From a prompt to the end of the line in which the command ends: after a backslash and in quotes it goes on."""

CARRIED = r'"(generation|clock|sequence|resume_token|(?:next_)?page_token)": "([^"]*)"'
"""Values that differ from run to run, and that a command may name after an output did."""

MASKS: tuple[tuple[str, str], ...] = (
    (CARRIED, r'"\1": "*"'),
    (r'"(\w+_unix_milliseconds|context|previous|fingerprint|used|heartbeats|version)": "[^"]*"', r'"\1": "*"'),
    (r'"(\w+_seconds|round_trip_milliseconds)": [\d.e+-]+', r'"\1": *'),
    # In columns, one to each write.
    (r'"(clocks|sequences)": \[[^\]]*\]', r'"\1": *'),
    # Counters that are 0 are left out, and so is a phi of 0.
    (r'"gossip": \{[^}]*\}', '"gossip": *'),
    (r'^ *"phi": .*\n', ""),
    # The node and grpcurl watch the same deadline; either may be the first.
    (r"Message: (?:context deadline exceeded|Deadline Exceeded)", "Message: the deadline has passed"),
)

_MAX_TIME = re.compile(r"-max-time \d+")

PATIENCE = (1, 4, 16)
"""Seconds that a stream is given instead of the page's `-max-time`; more, if not all has come that should."""


def mask(output: str) -> str:
    """An output without what differs from run to run."""
    for pattern, replacement in MASKS:
        output = re.sub(pattern, replacement, output, flags=re.MULTILINE)
    return output


@dataclass
class Step:
    """A command of a page, what the page shows of its output, and what it has printed."""

    command: str
    shown: str
    printed: str = ""

    @property
    def same(self) -> bool:
        return mask(self.shown) == mask(self.printed)


@dataclass
class Page:
    """The text of a page, and its commands in order."""

    text: str
    steps: list[Step] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str) -> Page:
        """Find the commands, and after each what it is shown to print."""
        page = cls(text)
        for block in _BLOCK.findall(text):
            lead, *parts = _COMMAND.split(block)
            if lead:
                raise ValueError(f"a block begins with no command: {lead!r}")
            page.steps += [Step(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
        return page

    def rewritten(self, run: Run) -> str:
        """The page as it is after a run. What has not changed keeps the values it had."""
        if all(step.same for step in self.steps):
            return self.text
        steps = iter(self.steps)

        def block(match: re.Match[str]) -> str:
            count = len(_COMMAND.findall(match[1]))
            return "".join(f"$ {run.carry(step.command)}{step.printed}" for step in islice(steps, count))

        return _BLOCK.sub(block, self.text)


@dataclass
class Run:
    """One run of a page: its nodes, where they are, and the values that stand for those of the page."""

    patience: tuple[int, ...] = PATIENCE
    nodes: list[NodeProcess] = field(default_factory=list)
    addresses: dict[str, str] = field(default_factory=dict)
    carried: dict[tuple[str, str], str] = field(default_factory=dict)

    async def go(self, page: Page) -> None:
        """Run all commands; afterwards each step has what it printed, as it would stand in the page."""
        try:
            for step in page.steps:
                if step.command.startswith("gossip-grpc node "):
                    await self._start(step.command)
                elif step.command.startswith("grpcurl "):
                    await self._ask(step)
                else:
                    raise ValueError(f"neither grpcurl nor a node: {step.command}")
        finally:
            await asyncio.gather(*(node.close() for node in self.nodes))

    def carry(self, command: str) -> str:
        """A command with this run's values."""

        def value(match: re.Match[str]) -> str:
            name, old = match.groups()
            return f'"{name}": "{self.carried.get((name.removeprefix("next_"), old), old)}"'

        return re.sub(CARRIED, value, command)

    def in_page(self, text: str) -> str:
        """A text with the addresses of the page in the place of those of the run."""
        for shown, real in self.addresses.items():
            text = text.replace(real, shown)
        return text

    async def _start(self, command: str) -> None:
        """Start a node of the page, at ports that are free; wait until its peers and it know all of each other."""
        words = shlex.split(command)[2:]
        flags = dict(zip(words[::2], words[1::2], strict=True))
        peer, client = flags.pop("--peer-listen", "127.0.0.1:7946"), flags.pop("--client-listen", "127.0.0.1:7947")
        if "--join" in flags:
            flags["--join"] = self.addresses[flags["--join"]]
        # Events are to be there at the page's end, however slow the machine.
        env = {"GOSSIP_EVENT_RETENTION": "3600"}
        node = await NodeProcess.start(*(word for flag in flags.items() for word in flag), env=env)
        self.nodes.append(node)
        self.addresses |= {peer: node.peer_address, client: node.client_address}
        await agree(self.nodes, members=len(self.nodes))
        async with asyncio.timeout(DEADLINE):
            while True:
                if await self._heard():
                    return
                await asyncio.sleep(0.05)  # between two looks at processes: there is no event to wait for

    async def _heard(self) -> bool:
        """Whether each node has had a round, and hears the others, if there are any."""
        if len(self.nodes) == 1:
            return True
        for node in self.nodes:
            async with node.client() as client:
                status, members = await client.status(), await client.members()
            others = [member for member in members if member.node_id != status.node_id]
            if not status.last_round_peer or any(member.phi is None for member in others):
                return False
            if status.gossip.heartbeats_received < 3:
                return False
        return True

    async def _ask(self, step: Step) -> None:
        command = self.carry(step.command)
        for shown, real in self.addresses.items():
            command = command.replace(shown, real)
        for times in self.patience:
            await agree(self.nodes)
            printed = await _output(_MAX_TIME.sub(f"-max-time {times}", command))
            step.printed = self.in_page(printed).rstrip("\n") + "\n"
            if step.same or not _MAX_TIME.search(command):
                break
        before, now = re.findall(CARRIED, step.shown), re.findall(CARRIED, step.printed)
        if [name for name, _ in before] == [name for name, _ in now]:
            for (name, old), (_, new) in zip(before, now, strict=True):
                self.carried[name.removeprefix("next_"), old] = new


async def _output(command: str) -> str:
    """What a terminal shows of a command."""
    process = await asyncio.create_subprocess_shell(
        command, env=dict(os.environ), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(DEADLINE):
        stdout, _ = await process.communicate()
    return stdout.decode()


def main(path: Path) -> None:
    page, run = Page.parse(path.read_text(encoding="utf-8")), Run(patience=(2,))
    asyncio.run(run.go(page))
    path.write_text(page.rewritten(run), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
