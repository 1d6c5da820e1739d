"""What the generated pages share: lines of at most 120 characters, and anchors as GitHub and the site make them."""

from __future__ import annotations

import re
import textwrap

WIDTH = 120


def notice(source: str) -> str:
    """The comment that says of a page where it comes from."""
    return f"<!-- Generated from {source} by `make docs`; do not edit -->\n"


def fill(text: str, indent: int = 0) -> str:
    """The text in lines of at most 120 characters, indented; those of a list item stand below each other."""
    first = " " * indent
    later = first + ("  " if text.startswith("- ") else "")
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join([lines[0], *(_no_list(line) for line in lines[1:])]) if lines else ""


def anchor(heading: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-")


def escape(text: str) -> str:
    r"""Plain text whose characters mean nothing in Markdown; `code` in it stays code.

    >>> escape("a*b, resume_token, _x, `a*b` <c>")
    'a\\*b, resume_token, \\_x, `a*b` &lt;c>'
    """
    return "".join(part if part.startswith("`") else _escape(part) for part in re.split(r"(`[^`]*`)", text))


def _escape(text: str) -> str:
    # Only what both know as an escape: GitHub's Markdown, and that of the site.
    text = re.sub(r"\\|\*(?=\S)|(?<=\S)\*|(?<!\w)_|_(?!\w)|\](?=[(\[:])", r"\\\g<0>", text)
    return text.replace("<", "&lt;")


def _no_list(line: str) -> str:
    r"""A line that goes on a paragraph: what would begin a list, a heading or a quotation there is escaped.

    >>> _no_list("- 1 is less"), _no_list("10. is a number"), _no_list("# too")
    ('\\- 1 is less', '10\\. is a number', '\\# too')
    """
    line = re.sub(r"^(\s*)([-+*#>])(?=\s|$)", r"\1\\\2", line)
    return re.sub(r"^(\s*\d+)([.)])(?=\s|$)", r"\1\\\2", line)
