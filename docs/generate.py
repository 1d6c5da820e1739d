"""Writes the pages of docs/ that are made of what they describe; `--check` only says whether they are fresh.

python -m docs.generate [--check] [api] [cli] [configuration]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from docs.pages import api, cli, configuration

ROOT = Path(__file__).resolve().parent.parent
PAGES: dict[str, Callable[[], str]] = {
    "api": lambda: api.markdown(ROOT / "proto"),
    "cli": cli.markdown,
    "configuration": configuration.markdown,
}


def main() -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description="Generate pages of docs/.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page is not fresh")
    parser.add_argument("pages", nargs="*", metavar="page", help=f"which: {', '.join(PAGES)}; all if none is named")
    arguments = parser.parse_args()
    if unknown := [page for page in arguments.pages if page not in PAGES]:
        parser.error(f"there is no page {', '.join(unknown)}; choose from {', '.join(PAGES)}")
    stale = []
    for page in arguments.pages or PAGES:
        path = ROOT / "docs" / f"{page}.md"
        try:
            text = PAGES[page]()
        except (ValueError, subprocess.CalledProcessError) as error:
            print(f"docs/{page}.md: {error}", file=sys.stderr)
            return 2
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(page)
        if not arguments.check:
            path.write_text(text, encoding="utf-8")
    for page in stale:
        print(f"stale: docs/{page}.md" if arguments.check else f"written: docs/{page}.md")
    if stale and arguments.check:
        print("Generated pages are not what they describe: run `make docs` and commit.", file=sys.stderr)
        return 1
    if not stale:
        print("The generated pages of docs/ are fresh.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
