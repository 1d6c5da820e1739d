"""`gossip-grpc completion`: what makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from gossip_grpc.cli import PROGRAM
from gossip_grpc.cli.base import Command


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands in your shell.

    Install it once, then start a new shell:
      bash:  gossip-grpc completion bash > ~/.gossip-grpc-complete.bash
             echo '. ~/.gossip-grpc-complete.bash' >> ~/.bashrc
      zsh:   gossip-grpc completion zsh > ~/.gossip-grpc-complete.zsh
             echo '. ~/.gossip-grpc-complete.zsh' >> ~/.zshrc
      fish:  gossip-grpc completion fish > ~/.config/fish/completions/gossip-grpc.fish
    """
    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - click has all three
    variable = f"_{PROGRAM}_COMPLETE".replace("-", "_").upper()
    click.echo(made(ctx.find_root().command, {}, PROGRAM, variable).source())
