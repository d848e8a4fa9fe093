"""Puts `queries/` into the wheel, inside `aetheris/`; all else stands in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithQueries(build_py):
    """An installed Aetheris asks the same queries as a checkout; an editable one reads the checkout's."""

    def run(self) -> None:
        """Build, then copy the library beside the code that reads it."""
        super().run()
        if not self.editable_mode:
            inside = Path(self.build_lib) / "aetheris" / "queries"
            shutil.rmtree(inside, ignore_errors=True)
            shutil.copytree(Path(__file__).parent / "queries", inside)


setup(cmdclass={"build_py": WithQueries})
