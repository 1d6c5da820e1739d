"""A long look of the collector is the last one at what it found; a short one changes nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from gossip_grpc import collector


@pytest.fixture
def watched() -> Iterator[None]:
    """Watch while the callback is in place; undo all of it."""
    before = list(gc.callbacks)
    collector.keep_pauses_short()
    try:
        yield
    finally:
        gc.callbacks[:] = before
        gc.unfreeze()


@pytest.mark.usefixtures("watched")
def test_what_start_up_made_is_not_looked_at_again() -> None:
    assert gc.get_freeze_count() > 10_000


@pytest.mark.usefixtures("watched")
def test_what_survives_a_long_full_collection_is_not_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collector, "LONG", 0.0)
    made = [[number] for number in range(1_000)]
    count = gc.get_freeze_count()
    gc.collect(1)
    assert gc.get_freeze_count() == count, "only the oldest generation counts"
    gc.collect()
    assert gc.get_freeze_count() >= count + len(made)


@pytest.mark.usefixtures("watched")
def test_a_short_collection_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "LONG", 1e9)
    count = gc.get_freeze_count()
    gc.collect()
    assert gc.get_freeze_count() <= count
