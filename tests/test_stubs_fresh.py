"""The committed stubs are what the pinned generator makes of the schema.

Runs the generator as `make proto-check` does; it installs itself into .cache on its first run.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def check(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "proto" / "generate.py"), "--check"]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


def copy_of_the_tree(directory: Path) -> Path:
    """Returns a copy of the schema and its stubs that shares the generator with the working tree."""
    shutil.copytree(ROOT / "proto", directory / "proto")
    shutil.copytree(ROOT / "gossip_grpc" / "gen", directory / "gossip_grpc" / "gen")
    (directory / ".cache").symlink_to(ROOT / ".cache")
    return directory


def test_committed_stubs_match_the_schema() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stderr


def test_stale_missing_and_orphaned_stubs_are_told_apart(tmp_path: Path) -> None:
    assert check(ROOT).returncode == 0  # makes the generator that the copy shares
    root = copy_of_the_tree(tmp_path)
    stubs = root / "gossip_grpc" / "gen" / "gossip" / "v1"
    with (root / "proto" / "gossip" / "v1" / "common.proto").open("a") as schema:
        schema.write("\n// Added.\nmessage Added {}\n")
    (stubs / "peer_pb2.py").unlink()
    (stubs / "gone_pb2.py").touch()

    done = check(root)

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "without source: gossip_grpc/gen/gossip/v1/gone_pb2.py",
        "stale: gossip_grpc/gen/gossip/v1/common_pb2.py",
        "stale: gossip_grpc/gen/gossip/v1/common_pb2.pyi",
        "missing: gossip_grpc/gen/gossip/v1/peer_pb2.py",
        "The stubs in gossip_grpc/gen do not match proto/: run `make proto` and commit.",
    ]
