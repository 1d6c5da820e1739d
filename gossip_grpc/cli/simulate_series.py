"""What `simulate rumor` and `simulate spread` share: options with several values, and numbers with their errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gossip_grpc.cli.simulate import Finite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])


def _several(one: click.ParamType[Any]) -> Callable[[click.Context, click.Parameter, str], list[Any]]:
    """Takes values with commas between them: one simulation for each, in their order, each once."""

    def convert(ctx: click.Context, parameter: click.Parameter, value: str) -> list[Any]:
        return list(dict.fromkeys(one.convert(part.strip(), parameter, ctx) for part in value.split(",")))

    return convert


def several_choices(name: str, choices: Iterable[str], text: str, **more: Any) -> Callable[[F], F]:
    """Adds an option with one or several of some words."""
    words = [str(choice) for choice in choices]
    return click.option(
        name,
        callback=_several(click.Choice(words)),
        metavar=f"[{'|'.join(words)}]",
        show_default=True,
        help=text,
        **more,
    )


def several_numbers(
    name: str, least: float, most: float, text: str, *, whole: bool = True, metavar: str, default: str, **more: Any
) -> Callable[[F], F]:
    """Adds an option with one or several numbers from `least` to `most`."""
    one = click.IntRange(int(least), int(most)) if whole else Finite(least, most)
    return click.option(
        name, callback=_several(one), metavar=metavar, default=default, show_default=True, help=text, **more
    )


def after(done: float, tell: Callable[[float], None]) -> Callable[[float], None]:
    """Tells of more that is done, when so much was before."""
    return lambda more: tell(done + more)


def runs_option(default: int) -> Callable[[F], F]:
    """Adds `--runs`, the parameter `runs`."""
    return click.option(
        "--runs",
        type=click.IntRange(1, 1_000_000),
        metavar="R",
        default=default,
        show_default=True,
        help="How often each; figures are means, with their standard errors.",
    )


def standard_error(values: NDArray[np.float64]) -> float | None:
    """The standard error of the mean; None for one value, which tells nothing of it."""
    if len(values) < 2:
        return None
    # Not the noise of rounding, where all are the same.
    return 0.0 if values.min() == values.max() else float(values.std(ddof=1)) / math.sqrt(len(values))


def with_error(values: NDArray[np.float64]) -> str:
    """The mean, and its standard error with two digits, as far as the digits mean something."""
    mean, error = float(values.mean()), standard_error(values)
    if not error:
        return f"{mean:.4g}"
    places = max(0, 1 - math.floor(math.log10(error)))
    return f"{mean:.{places}f} ±{error:.{places}f}"


def in_common(cases: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """What is the same in all cases, and the names of what is not."""
    first, *others = cases
    same = {name: value for name, value in first.items() if all(case[name] == value for case in others)}
    return same, [name for name in first if name not in same]


def label(case: dict[str, Any], names: Sequence[str]) -> str:
    """What tells a case from others."""
    return ", ".join(str(case[name]) if isinstance(case[name], str) else f"{name} {case[name]:,}" for name in names)
