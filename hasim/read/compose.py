"""docker-compose files: merged, extended and interpolated as compose v2 does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hasim.errors import Finding
from hasim.model import Knob
from hasim.read.compose_types import (
    ComposeHealthcheck,
    ComposeProject,
    ComposeService,
    Dependency,
    Mount,
    NetworkUse,
    PortMapping,
    Resource,
)

__all__ = [
    "ComposeHealthcheck",
    "ComposeProject",
    "ComposeService",
    "Dependency",
    "Mount",
    "NetworkUse",
    "PortMapping",
    "Resource",
    "knobs",
    "read_project",
]


def read_project(
    paths: Sequence[str], read_text: Callable[[str], str], env: Mapping[str, str]
) -> tuple[ComposeProject, list[Finding]]:
    """The project of these files (`docker compose -f a -f b`) and every problem found.

    paths are relative names with "/"; read_text gives the text of one (OSError if there is none).
    `env` is the shell's environment; a `.env` file beside the first file stands behind it.
    """
    raise NotImplementedError


def knobs(project: ComposeProject) -> list[Knob]:
    """The tunable values, named `compose.<service>.<field>`; all take effect by recreate."""
    raise NotImplementedError
