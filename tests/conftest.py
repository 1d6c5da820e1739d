"""Options, profiles and fixtures that several test files share."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import networks

# Without a deadline: a busy machine is no bug. In CI the examples are the same in each run, so that it fails for a
# change and not for luck; elsewhere they are new ones each time, and Hypothesis keeps what failed.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")
settings.load_profile("ci" if IN_CI else "local")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gossip-grpc")
    group.addoption("--schedules", type=int, default=2000, help="how many random schedules to run (default 2000)")
    group.addoption("--first-seed", type=int, default=0, help="seed of the first random schedule (default 0)")
    group.addoption("--simulated", type=int, default=1000, help="how many random clusters to simulate (default 1000)")
    group.addoption("--kills", type=int, default=3, help="how many nodes are killed under load (default 3)")
    group.addoption(
        "--stopped", type=float, default=10.0, metavar="SECONDS", help="how long a node stands still (default 10)"
    )
    group.addoption(
        "--rewrite-scenarios",
        action="store_true",
        help="write what the scenarios of tests/scenarios/ print now as what is expected of them",
    )


@pytest.fixture
def schedules(request: pytest.FixtureRequest) -> range:
    """The seeds of the random schedules to run."""
    first: int = request.config.getoption("--first-seed")
    count: int = request.config.getoption("--schedules")
    return range(first, first + count)


@pytest.fixture
def simulated(request: pytest.FixtureRequest) -> range:
    """The seeds of the random clusters to simulate."""
    first: int = request.config.getoption("--first-seed")
    count: int = request.config.getoption("--simulated")
    return range(first, first + count)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB of its own. Without root the test is skipped; in CI, where nothing may be, it fails."""
    path = tmp_path / "small"
    path.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", path], capture_output=True, text=True, check=False
    )
    if made.returncode and IN_CI:
        pytest.fail(f"{made.stderr.strip()}, and CI=true does not allow a test to be skipped", pytrace=False)
    if made.returncode:
        pytest.skip(f"no file system can be mounted: {made.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture(scope="session")
def grpcurl() -> str:
    """Path of grpcurl. Without it the test is skipped; in CI, where nothing may be skipped, it fails."""
    path = shutil.which("grpcurl")
    if path is not None:
        return path
    if IN_CI:
        pytest.fail("grpcurl is not on PATH, and CI=true does not allow a test to be skipped", pytrace=False)
    pytest.skip("grpcurl is not on PATH")


@pytest.fixture(scope="session")
def networks_possible() -> None:
    """Skips what needs network namespaces where there are none. In CI, where nothing may be skipped, it fails."""
    reason = networks.missing()
    if reason is not None and IN_CI:
        pytest.fail(f"{reason}, and CI=true does not allow a test to be skipped", pytrace=False)
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def network(networks_possible: None) -> Iterator[networks.Network]:
    """A network of its own, without hosts; see tests/networks.py."""
    with networks.Network() as made:
        yield made
