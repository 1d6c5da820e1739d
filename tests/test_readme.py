"""The README is true: its Python programs run, and the commands it shows exist."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gossip_grpc.cli.root import root
from tests.processes import DEADLINE, NodeProcess

README = (Path(__file__).parent.parent / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


async def test_the_python_programs_run_and_print_what_they_say() -> None:
    node = await NodeProcess.start("--node-id", "a")
    try:
        printed = []
        for program in PROGRAMS:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", program.replace("127.0.0.1:7947", node.client_address)),
                stdout=asyncio.subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            async with asyncio.timeout(DEADLINE):
                stdout, stderr = await process.communicate()
            assert process.returncode == 0, stderr.decode()
            printed.append(stdout.decode().splitlines())
        assert printed[0] == ["hello", "5", "['apple', 'pear']"]
        assert printed[1][:1] == ["greeting hello"]
        assert printed[2] == ["hello"]
        assert "there is no value for 'missing' at this node" in printed[1][1]
    finally:
        await node.close()


COMMANDS = sorted(set(re.findall(r"^\$ gossip-grpc ([a-z]+(?: (?:put|get|add))?)", README, re.MULTILINE)))


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_shown_has_its_help(command: str) -> None:
    result = CliRunner().invoke(root, [*shlex.split(command), "--help"])
    assert result.exit_code == 0, result.output
