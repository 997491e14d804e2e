"""hasim: simulates a highly available stack from its own config files and judges it by budgets.

>>> import hasim as ha
>>> stack = ha.load("models/story-portal")                                    # doctest: +SKIP
>>> project = ha.check("scenarios.yaml")                                      # doctest: +SKIP
>>> verdict = ha.run("scenarios.yaml", ["gateway-crash"], replications=40)    # doctest: +SKIP

Everything is imported when it is first used: `import hasim` itself costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hasim.bind import load_scenarios
    from hasim.project import check
    from hasim.runner import run
    from hasim.sim.run import simulate
    from hasim.stack import load

__version__ = "0.1.0"
__all__ = ["__version__", "check", "load", "load_scenarios", "run", "simulate"]

_HOME = {
    "check": "hasim.project",
    "load": "hasim.stack",
    "load_scenarios": "hasim.bind",
    "run": "hasim.runner",
    "simulate": "hasim.sim.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hasim' has no attribute '{name}'")
    found = globals()[name] = getattr(import_module(_HOME[name]), name)
    return found


def __dir__() -> list[str]:
    return __all__
