"""Python reads this as each process of the tests starts: `import lightning` takes half the time.

Lightning imports torchmetrics, which imports scipy, torchvision, transformers and matplotlib where it finds
them: four seconds a process, for metrics that no test computes. It asks a tool of Lightning's what there is;
here that tool knows nothing of these.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError
from types import ModuleType

LEFT_OUT = ("matplotlib", "scipy", "torchvision", "transformers")
MODULE = "lightning_utilities.core.imports"


def leave_out(module: ModuleType) -> None:
    """Changes the two functions by which the module finds out what is installed."""
    version, available = module._version, module.package_available

    def version_but(name: str) -> str:
        if name in LEFT_OUT:
            raise PackageNotFoundError(name)
        return str(version(name))

    module._version = version_but  # type: ignore[attr-defined]
    module.package_available = lambda name: name not in LEFT_OUT and available(name)  # type: ignore[attr-defined]


class Lean:
    """Finds that module, and changes it once it has run."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == MODULE else None
        if spec is None or spec.loader is None:
            return None
        genuine = spec.loader.exec_module

        def run(module: ModuleType) -> None:
            genuine(module)
            leave_out(module)

        spec.loader.exec_module = run  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Lean())
