"""hasim: simulates a highly available stack from its own config files and judges it by budgets.

>>> import hasim as ha
>>> stack = ha.load("models/three-servers")
>>> run = ha.simulate(stack, "models/three-servers/scenarios.yaml", "crash", replications=5)
>>> tuned = stack.set({"haproxy.backend.web.*.inter": "500ms"})
>>> moved = ha.compare(run, ha.simulate(tuned, "models/three-servers/scenarios.yaml", "crash",
...                                     replications=5))

docs/api.md says the rest. Everything is imported when it is first used: `import hasim` itself
costs nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hasim.api.plan import capacity, explain
    from hasim.api.review import compare, export
    from hasim.api.run import Run, simulate
    from hasim.api.stack import Stack, load
    from hasim.api.sweep import sweep
    from hasim.errors import HasimError, InputError, Refused
    from hasim.project import check
    from hasim.runner import run

__version__ = "0.1.0"
__all__ = [
    "HasimError",
    "InputError",
    "Refused",
    "Run",
    "Stack",
    "__version__",
    "capacity",
    "check",
    "compare",
    "explain",
    "export",
    "load",
    "run",
    "simulate",
    "sweep",
]

_HOME = {
    "HasimError": "hasim.errors",
    "InputError": "hasim.errors",
    "Refused": "hasim.errors",
    "Run": "hasim.api.run",
    "Stack": "hasim.api.stack",
    "capacity": "hasim.api.plan",
    "check": "hasim.project",
    "compare": "hasim.api.review",
    "explain": "hasim.api.plan",
    "export": "hasim.api.review",
    "load": "hasim.api.stack",
    "run": "hasim.runner",
    "simulate": "hasim.api.run",
    "sweep": "hasim.api.sweep",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hasim' has no attribute '{name}'")
    found = globals()[name] = getattr(import_module(_HOME[name]), name)
    return found


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """`compare` and `export` are functions here, and modules too: importing hasim.compare must not
    put the module in the place of the function. `from hasim.compare import ...` finds the module.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
