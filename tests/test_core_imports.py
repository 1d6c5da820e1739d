"""The core does no IO: what it may import and that all its randomness is handed to it. Read from the source, by ast."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gossip_grpc

CORE = Path(gossip_grpc.__file__).parent / "core"

OURS = ("gossip_grpc.core", "gossip_grpc.errors", "gossip_grpc.tokens")
OTHERS = {"xxhash"}
PURE = {
    "__future__",
    "bisect",
    "collections",
    "collections.abc",
    "dataclasses",
    "enum",
    "functools",
    "heapq",
    "itertools",
    "math",
    "operator",
    "random",
    "re",
    "typing",
}


def violations(source: str) -> list[str]:
    """What a module of the core must not do, one line each."""
    found = []
    for node in ast.walk(ast.parse(source)):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{'.' * node.level}{node.module or ''}"]
        for module in modules:
            is_ours = any(module == name or module.startswith(f"{name}.") for name in OURS)
            if not (is_ours or module in OTHERS or module in PURE):
                found.append(f"imports {module}")
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            found += [f"imports random.{alias.name}" for alias in node.names if alias.name != "Random"]
        if isinstance(node, ast.Import):
            found += [f"renames {alias.name}" for alias in node.names if alias.name == "random" and alias.asname]
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "random" and node.attr != "Random":
            found.append(f"uses random.{node.attr}")
        if isinstance(node, ast.Name) and node.id in ("__import__", "open", "eval", "exec"):
            found.append(f"uses {node.id}")
    return found


def test_there_is_a_core_to_look_at() -> None:
    assert {"engine.py", "store.py", "coverage.py"} <= {path.name for path in CORE.glob("*.py")}


@pytest.mark.parametrize("path", [*sorted(CORE.rglob("*.py")), CORE.parent / "tokens.py"], ids=lambda path: path.stem)
def test_core_module_imports_nothing_but_pure_modules_and_uses_no_global_randomness(path: Path) -> None:
    assert violations(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("import grpc.aio", "imports grpc.aio"),
        ("import asyncio", "imports asyncio"),
        ("from google.protobuf import message", "imports google.protobuf"),
        ("import sqlite3", "imports sqlite3"),
        ("def f():\n    import time", "imports time"),
        ("from datetime import datetime", "imports datetime"),
        ("import os", "imports os"),
        ("import socket", "imports socket"),
        ("import threading", "imports threading"),
        ("import structlog", "imports structlog"),
        ("from gossip_grpc import wire", "imports gossip_grpc"),
        ("from gossip_grpc.wire import PROTOCOL", "imports gossip_grpc.wire"),
        ("from gossip_grpc.corelike import x", "imports gossip_grpc.corelike"),
        ("from . import store", "imports ."),
        ("import random\nrandom.shuffle([])", "uses random.shuffle"),
        ("from random import choice", "imports random.choice"),
        ("import random as r", "renames random"),
        ("__import__('time')", "uses __import__"),
    ],
)
def test_the_rule_sees_what_it_forbids(source: str, complaint: str) -> None:
    assert complaint in violations(source)


def test_the_rule_allows_a_seeded_generator() -> None:
    assert violations("import random\nfrom gossip_grpc.core.store import Store\nrng = random.Random(1)") == []
