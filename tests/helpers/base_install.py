"""The command line as the base package has it: what extras bring cannot be imported."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from aeflow.runtime.extras import IN_EXTRAS

ABSENT = {*IN_EXTRAS, "onnx", "onnxruntime", "onnxscript"}


class Base(PathFinder):
    """Finder of installed packages that finds none of an extra's."""

    there: frozenset[str] = frozenset()  # what an extra that is installed brings

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        hidden = fullname.partition(".")[0] in ABSENT - cls.there
        return None if hidden else super().find_spec(fullname, path, target)


def hide_extras(*there: str) -> None:
    """Let this process find nothing from now on that only an extra brings, but the packages that are ``there``."""
    Base.there = frozenset(there)
    sys.meta_path[sys.meta_path.index(PathFinder)] = Base


if __name__ == "__main__":
    hide_extras()
    from aeflow.cli import main

    main()
