"""Python reads this as each process of the tests starts: it changes two modules that would take their time.

- `import lightning` takes half the time. Lightning imports torchmetrics, which imports scipy, torchvision,
  transformers and matplotlib where it finds them: four seconds a process, for metrics that no test computes.
  It asks a tool of Lightning's what there is; here that tool knows nothing of these.
- Small forests are fitted in three quarters of the time. For each tree scikit-learn asks Python several times
  for the names of its parameters; here it does so once.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError
from types import ModuleType

LEFT_OUT = ("matplotlib", "scipy", "torchvision", "transformers")


def leave_out(module: ModuleType) -> None:
    """Changes the two functions by which the module finds out what is installed."""
    version, available = module._version, module.package_available

    def version_but(name: str) -> str:
        if name in LEFT_OUT:
            raise PackageNotFoundError(name)
        return str(version(name))

    module._version = version_but  # type: ignore[attr-defined]
    module.package_available = lambda name: name not in LEFT_OUT and available(name)  # type: ignore[attr-defined]


def remember_names(module: ModuleType) -> None:
    """The names of a class's parameters do not change."""
    names = module.BaseEstimator.__dict__["_get_param_names"].__func__
    module.BaseEstimator._get_param_names = classmethod(functools.cache(names))


CHANGES: dict[str, Callable[[ModuleType], None]] = {
    "lightning_utilities.core.imports": leave_out,
    "sklearn.base": remember_names,
}


class Lean:
    """Finds these modules, and changes each once it has run."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        change = CHANGES.get(name)
        spec = PathFinder.find_spec(name, path, target) if change else None
        if change is None or spec is None or spec.loader is None:
            return None
        genuine = spec.loader.exec_module

        def run(module: ModuleType) -> None:
            genuine(module)
            change(module)

        spec.loader.exec_module = run  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Lean())
