"""The command line: `aetheris COMMAND`. Rich on a terminal, plain when piped, `--json` everywhere."""

from aetheris.cli.main import main

__all__ = ["main"]
