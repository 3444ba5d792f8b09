"""Programs of the docs folder, which is no package, as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).parents[1] / "docs"


def loaded(name: str) -> ModuleType:
    """The program of that name, read once."""
    known = f"docs_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, DOCS / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]
