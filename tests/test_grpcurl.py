"""docs/grpcurl.md is true: its commands print what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.transcripts import Page, Run, mask

TEXT = (Path(__file__).parent.parent / "docs/grpcurl.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("grpcurl")
async def test_each_command_prints_what_the_page_shows() -> None:
    page = Page.parse(TEXT)
    assert len(page.steps) > 20
    await Run().go(page)
    wrong = [step for step in page.steps if not step.same]
    shown = "".join(f"$ {step.command}{mask(step.shown)}" for step in wrong)
    printed = "".join(f"$ {step.command}{mask(step.printed)}" for step in wrong)
    assert printed == shown, "`make transcript` puts into the page what its commands print now"


def test_every_console_command_of_the_page_is_run() -> None:
    prompts = [line for line in TEXT.splitlines() if line.startswith("$ ")]
    assert [f"$ {step.command.splitlines()[0]}" for step in Page.parse(TEXT).steps] == prompts
