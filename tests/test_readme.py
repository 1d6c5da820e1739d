"""The pages are true: their Python programs have the right types and run, and the commands shown exist."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest
from click.testing import CliRunner

from gossip_grpc.cli.root import root
from tests.processes import DEADLINE, cluster

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = ["README.md", "docs/python.md"]


def programs_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


PROGRAMS = [(page, number, program) for page in PAGES for number, program in enumerate(programs_of(page))]


async def run(program: str) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), stdout=asyncio.subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(DEADLINE):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, f"{program}\n{stderr.decode()}"
    return stdout.decode().splitlines()


async def test_the_python_programs_run_and_print_what_they_say() -> None:
    async with cluster(3) as nodes:
        real = dict(zip(("127.0.0.1:7947", "127.0.0.1:8947", "127.0.0.1:9947"), nodes, strict=True))
        printed: dict[str, list[list[str]]] = {page: [] for page in PAGES}
        for page, _, program in PROGRAMS:
            for address, node in real.items():
                program = program.replace(address, node.client_address)  # noqa: PLW2901 - it is the same one
            printed[page].append(await run(program))
    readme, python = printed.values()
    assert readme[0] == ["hello", "5", "['apple', 'pear']"]
    assert readme[1][:1] == ["greeting hello"]
    assert "there is no value for 'missing' at this node" in readme[1][1]
    assert (readme[2], readme[3]) == (["hello"], ["1"])
    assert python[0] == ["hello", "10", "['apple', 'pear']", "n0 alive", "n1 alive", "n2 alive"]
    assert python[1][1:] == ["greeting hello"]
    assert python[2] == ["1", "1"]
    assert python[3] == ["hello"]
    assert python[4][0].endswith("KEY_NOT_FOUND")
    assert python[4][2] == "False ['127.0.0.1:1', '127.0.0.1:2']"
    assert python[5] == ["hello"]
    assert python[6] == ["up to date: ['services/web/a']"]
    assert python[7] == ["deploys/web v1.2.3"]


def test_the_python_programs_have_the_right_types(tmp_path: Path) -> None:
    names = []
    for page, number, program in PROGRAMS:
        name = tmp_path / f"{Path(page).stem.lower()}_{number}.py"
        name.write_text(program)
        names.append(str(name))
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_shown_of_embedding_is_in_the_programs_that_are_run() -> None:
    files = "".join(file.read_text() for file in (ROOT / "examples/embedding").glob("*.py"))
    shown = programs_of("docs/embedding.md")
    assert len(shown) >= 4
    for piece in shown:
        assert piece in files or indent(piece, "    ") in files, piece


COMMANDS = sorted(set(re.findall(r"^\$ gossip-grpc ([a-z]+(?: (?:put|get|add))?)", README, re.MULTILINE)))


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_shown_has_its_help(command: str) -> None:
    result = CliRunner().invoke(root, [*shlex.split(command), "--help"])
    assert result.exit_code == 0, result.output
