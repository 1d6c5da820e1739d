"""The documentation is true where a program can tell: pages are fresh, links lead somewhere, commands exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from docs.generate import PAGES
from docs.pages.text import anchor
from gossip_grpc.cli.root import root

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/clients/README.md"]
"""What is read beside docs/."""


def run(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=tree, check=False, capture_output=True, text=True, timeout=300
    )


def check(tree: Path, *pages: str) -> subprocess.CompletedProcess[str]:
    return run(tree, "docs.generate", "--check", *pages)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the documentation and the schema that shares everything else with the working tree."""
    for entry in ROOT.iterdir():
        if entry.name in ("docs", "proto"):
            shutil.copytree(entry, tmp_path / entry.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "build").unlink(missing_ok=True)
    return tmp_path


# Generated pages


def test_the_generated_pages_are_fresh() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_comment_of_the_schema_that_changes_makes_the_api_reference_stale(tree: Path) -> None:
    schema = tree / "proto" / "gossip" / "v1" / "kv.proto"
    schema.write_text(schema.read_text().replace("// The entry asked for; always set.", "// The entry; always set."))

    done = check(tree)

    assert done.returncode == 1
    assert done.stdout.splitlines() == ["stale: docs/api.md"]
    assert "run `make docs` and commit" in done.stderr


def test_pages_that_were_edited_by_hand_are_stale_until_they_are_generated_again(tree: Path) -> None:
    paths = [tree / "docs" / f"{page}.md" for page in PAGES]
    fresh = [path.read_text() for path in paths]
    for path, text in zip(paths, fresh, strict=True):
        path.write_text(text + "\nOne more line.\n")
    assert check(tree).stdout.splitlines() == [f"stale: docs/{page}.md" for page in PAGES]

    assert run(tree, "docs.generate").stdout.splitlines() == [f"written: docs/{page}.md" for page in PAGES]

    assert [path.read_text() for path in paths] == fresh


def test_what_has_no_comment_is_refused_and_named(tree: Path) -> None:
    with (tree / "proto" / "gossip" / "v1" / "common.proto").open("a") as schema:
        schema.write("\n// Added.\nmessage Added {\n  string bare = 1;\n}\n")
    done = check(tree, "api")
    assert done.returncode == 2
    assert "gossip/v1/common.proto" in done.stderr
    assert "has no comment" in done.stderr


ODD = """
// First * paragraph_ with <angles>, `a*b_c<d>` and 2 * 3. See `Session`, `Put`, Watch of KeyValueService and
// EventService; the node's `max_key_bytes`.
//
// A list:
//
// - one
// - two, `Odd` itself
message Odd {
  reserved 9;
  reserved "old";
  option deprecated = true;
  // Gone soon.
  string soon = 1 [deprecated = true];
  // Maybe.
  optional uint64 maybe = 2;
  // Some of them.
  //
  // At most two.
  repeated Dot some = 3;
  // By name.
  map<string, Value> named = 4;
  // Either way.
  oneof way {
    // By text.
    string text = 5;
    // By state.
    OddState state = 6;
  }
}

// States.
enum OddState {
  // None.
  ODD_STATE_UNSPECIFIED = 0;
  // Former.
  ODD_STATE_FORMER = 1 [deprecated = true];
}
"""

TOLD = """\
**Deprecated.**

First * paragraph\\_ with &lt;angles>, `a*b_c<d>` and 2 * 3. See [`Session`](#session), `Put`, [Watch of
KeyValueService](#keyvalueservicewatch) and [EventService](#eventservice); the node's
[`max_key_bytes`](configuration.md#max_key_bytes).

A list:

- one
- two, `Odd` itself

- `soon` (string, 1, **deprecated**): Gone soon.
- `maybe` (optional uint64, 2): Maybe.
- `some` (repeated [Dot](#dot), 3): Some of them.

    At most two.
- `named` (map from string to [Value](#value), 4): By name.
- one of these, `way`: Either way.
    - `text` (string, 5): By text.
    - `state` ([OddState](#oddstate), 6): By state.

Not to be used again: 9, `old`."""


def test_all_that_a_schema_may_hold_is_told(tree: Path) -> None:
    with (tree / "proto" / "gossip" / "v1" / "common.proto").open("a") as schema:
        schema.write(ODD)

    assert run(tree, "docs.generate", "api").returncode == 0

    text = (tree / "docs" / "api.md").read_text()
    [odd] = re.findall(r"^### Odd\n\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
    assert odd.rstrip() == TOLD
    assert "- `ODD_STATE_FORMER` (1, **deprecated**): Former.\n" in text


def test_the_api_reference_names_every_message_once() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    headings = re.findall(r"^#+ (\w+)$", text, re.MULTILINE)
    messages = {
        name
        for path in (ROOT / "proto" / "gossip" / "v1").glob("*.proto")
        for name in re.findall(r"^(?:message|enum|service) (\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(headings) == len(set(headings))
    assert messages == set(headings)


# The site


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_other_hosts(tmp_path: Path) -> None:
    done = run(ROOT, "mkdocs", "build", "--site-dir", str(tmp_path))

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "search" / "search_index.json").exists()
    assert (tmp_path / "source" / "proto" / "gossip" / "v1" / "kv.proto.html").exists()
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"?([^\s\">]+)", page.read_text())
        assert not [link for link in loaded if "//" in link], page
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"url\(\"?(https?:)?//|@import", style.read_text()), style


def test_links_that_lead_nowhere_end_the_build(tree: Path) -> None:
    with (tree / "docs" / "concepts.md").open("a") as page:
        page.write(
            "\n[a](gone.md) [b](cli.md#gone) [c](#gone) [d](../gone/there.py) [e](http://host.example) "
            "[f](https://host) `[g](gone.md)`\n"
        )

    done = run(tree, "mkdocs", "build", "--site-dir", str(tree / "out"))

    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    for link in ("gone.md", "cli.md#gone", "#gone", "../gone/there.py", "http://host.example", "https://host"):
        assert [line for line in told if f"'{link}'" in line], link
    assert len(told) == 6


# Links and commands in what is read on GitHub


def anchors(path: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    return {anchor(re.sub(r"[`*]", "", heading)) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


PAGES_READ = [ROOT / name for name in OUTSIDE] + sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES_READ, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)", text):
        if "://" in link:
            continue
        name, _, heading = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


def shown(page: Path) -> list[str]:
    """The commands of gossip-grpc in the shell sessions of a page."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ gossip-grpc ") for line in lines if line.startswith("$ gossip-grpc ")]


COMMANDS = sorted({command for page in PAGES_READ for command in shown(page)})


@pytest.mark.parametrize("shown_command", COMMANDS)
def test_commands_that_are_shown_exist_with_their_options(shown_command: str) -> None:
    words = shlex.split(re.split(r"\s[|<>#]|\s&&", shown_command)[0])
    command: click.Command = root
    context = click.Context(root)
    options: set[str] = set()
    before = ""
    for word in [*words, ""]:
        options |= {option for parameter in command.get_params(context) for option in parameter.opts}
        if isinstance(command, click.Group) and not word.startswith("-") and not before.startswith("-"):
            found = command.get_command(context, word)
            assert found or (not word and command.invoke_without_command), f"there is no command {word!r}"
            if found:
                command, context = found, click.Context(found, parent=context)
        elif re.match(r"--?[a-z]", word) and "--" not in words[: words.index(word)]:
            assert word.partition("=")[0] in options, word
        before = word
