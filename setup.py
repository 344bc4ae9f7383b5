"""Builds the wheel: the package with its kernel modules and schemas. Everything else is in pyproject.toml."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1
    from wheel.bdist_wheel import bdist_wheel

TOP = Path(__file__).resolve().parent
(TOP / "build").mkdir(exist_ok=True)


class Platform(Distribution):
    """The kernel modules are machine code."""

    def has_ext_modules(self) -> bool:
        return True


class Build(build_py):
    """Compile the kernel modules into the package, and take the schemas into it."""

    def run(self) -> None:
        subprocess.run([sys.executable, str(TOP / "native/build.py")], check=True)
        super().run()
        package = Path(self.build_lib) / "pyruntime"
        for module in (TOP / "pyruntime/kernel").glob("*.abi3.so"):
            shutil.copy(module, package / "kernel")
        (package / "oci-spec").mkdir(exist_ok=True)
        for schema in (TOP / "oci-spec").glob("*.json"):
            shutil.copy(schema, package / "oci-spec")


class Wheel(bdist_wheel):
    """The modules use the stable interface of Python 3.11 (cffi, Py_LIMITED_API)."""

    def get_tag(self) -> tuple[str, str, str]:
        return "cp311", "abi3", super().get_tag()[2]


setup(distclass=Platform, cmdclass={"build_py": Build, "bdist_wheel": Wheel})
