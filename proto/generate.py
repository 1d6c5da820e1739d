"""Generates the stubs under gossip_grpc/gen from the schema; `--check` only says whether they are fresh.

`--descriptors FILE` writes the schema itself, with its comments, for docs/pages/api.py.

Needs nothing but the standard library: the pinned generator (requirements.txt beside this file) is installed into
a virtual environment of its own, .cache/generator, the first time and whenever a pin changes.
"""

import argparse
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

SCHEMA = Path(__file__).resolve().parent
ROOT = SCHEMA.parent
REQUIREMENTS = SCHEMA / "requirements.txt"
CACHE = ROOT / ".cache"
GENERATOR = CACHE / "generator"
PACKAGE = "gossip_grpc.gen"
TARGET = ROOT / "gossip_grpc" / "gen"

# protoc writes modules that expect the schema's root on sys.path. Only names of modules are to change: `gossip.v1`
# alone, as in a full method name, is the schema's package and stays.
MODULE = re.compile(r"\bgossip\.v1\.(?=\w+_pb2\b)")
IMPORT_FROM = re.compile(r"^from gossip\.v1 import (?=\w+_pb2\b)", re.MULTILINE)
SERVICE = re.compile(r"^service ", re.MULTILINE)


def main() -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Generate the gRPC stubs from proto/.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="change nothing; exit 1 if the stubs are not fresh")
    what.add_argument("--descriptors", metavar="FILE", help="write the schema with its comments (FileDescriptorSet)")
    arguments = parser.parse_args()
    check = arguments.check
    try:
        if arguments.descriptors:
            describe(ensure_generator(), arguments.descriptors)
            return 0
        wanted = generate(ensure_generator())
    except subprocess.CalledProcessError as error:
        print(f"proto/generate.py: the generator failed with exit status {error.returncode}", file=sys.stderr)
        return 2
    changes = compare(wanted)
    if not check:
        write(wanted)
    for change in changes:
        print(change, file=sys.stderr if check else sys.stdout)
    if check and changes:
        print("The stubs in gossip_grpc/gen do not match proto/: run `make proto` and commit.", file=sys.stderr)
        return 1
    if not changes:
        print("The stubs in gossip_grpc/gen are fresh.")
    return 0


def ensure_generator() -> Path:
    """Returns the Python of the generator's environment, after making it if it is missing or has other pins."""
    python = GENERATOR / "bin" / "python"
    stamp = GENERATOR / "stamp"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "generator.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests and make may both want it made
        if stamp.exists() and stamp.read_text() == wanted:
            return python
        venv.create(GENERATOR, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--requirement", str(REQUIREMENTS)], check=True, stdout=sys.stderr)
        stamp.write_text(wanted)
    return python


def generate(python: Path) -> dict[str, str]:
    """Returns every file that belongs under gossip_grpc/gen: its path there and its text."""
    protos = sorted(path.relative_to(SCHEMA) for path in SCHEMA.rglob("*.proto"))
    services = [path for path in protos if SERVICE.search((SCHEMA / path).read_text(encoding="utf-8"))]
    with tempfile.TemporaryDirectory() as directory:
        protoc(python, protos, f"--python_out={directory}", f"--mypy_out={directory}")
        protoc(python, services, f"--grpc_python_out={directory}", f"--mypy_grpc_out={directory}")
        out = Path(directory)
        files = {str(path.relative_to(out)): path.read_text(encoding="utf-8") for path in out.rglob("*.py*")}
    files = {name: rewrite(text) for name, text in files.items()}
    packages = {str(parent) for name in files for parent in Path(name).parents}
    note = '"""Generated from proto/ by proto/generate.py; do not edit."""\n'
    return files | {str(Path(package) / "__init__.py"): note for package in packages}


def protoc(python: Path, protos: list[Path], *options: str) -> None:
    """Runs the pinned protoc over some files of the schema."""
    environment = os.environ | {"PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [str(python), "-m", "grpc_tools.protoc", f"--proto_path={SCHEMA}", *options, *map(str, protos)]
    # mypy-protobuf reports every file on stderr; protoc's own errors go there too, so it is shown on failure only.
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()


def describe(python: Path, file: str) -> None:
    """Writes the schema into a file: its descriptors, and the comments beside them."""
    protos = sorted(path.relative_to(SCHEMA) for path in SCHEMA.rglob("*.proto"))
    protoc(python, protos, "--include_source_info", f"--descriptor_set_out={file}")


def rewrite(text: str) -> str:
    """Returns a generated module with its references to other modules of the schema moved below gossip_grpc.gen."""
    text = IMPORT_FROM.sub(f"from {PACKAGE}.gossip.v1 import ", text)
    text = MODULE.sub(f"{PACKAGE}.gossip.v1.", text)
    return text.rstrip() + "\n"


def existing() -> set[str]:
    """Returns the paths, below gossip_grpc/gen, of the stubs that are there now."""
    return {str(path.relative_to(TARGET)) for path in TARGET.rglob("*.py*") if "__pycache__" not in path.parts}


def compare(wanted: dict[str, str]) -> list[str]:
    """Returns one line for each file that is missing, stale or without a source."""
    changes = [f"without source: gossip_grpc/gen/{name}" for name in sorted(existing() - wanted.keys())]
    for name, text in sorted(wanted.items()):
        path = TARGET / name
        if not path.exists():
            changes.append(f"missing: gossip_grpc/gen/{name}")
        elif path.read_text(encoding="utf-8") != text:
            changes.append(f"stale: gossip_grpc/gen/{name}")
    return changes


def write(wanted: dict[str, str]) -> None:
    """Makes the files below gossip_grpc/gen the wanted ones."""
    for name in existing() - wanted.keys():
        (TARGET / name).unlink()
    for name, text in wanted.items():
        path = TARGET / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
