"""Takes the ready settings of configs/ into the package when it is built."""

from pathlib import Path
from shutil import copy2

from setuptools import setup
from setuptools.command.build_py import build_py


class WithConfigs(build_py):
    """The usual build, and the ready settings beside the code."""

    def run(self) -> None:
        """Build; then copy."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "her2path", "configs")
            target.mkdir(parents=True, exist_ok=True)
            for file in sorted(Path("configs").glob("*.yaml")):
                copy2(file, target / file.name)


setup(cmdclass={"build_py": WithConfigs})
