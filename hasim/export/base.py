"""What an export is made of: one Deploy in, Artefacts and Checks out. No files are written here.

The folder that `hasim export` writes (hasim.export.writer):

    stack/          the user's files, patched; they read back to the Stack that was simulated
    hosts/<host>/   what goes to one host: compose file, the files it mounts, apply.sh, rollback.sh
    extra/          what hasim adds: k6 script, promtool tests, discovery list, scripts
    CHANGES.diff    unified diff of the user's own files
    CHECKLIST.md    the pre-production checklist, each box with its proof or the reason it is open
    EVIDENCE.json   what was proved, by which run, for which bytes
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hasim.model import Knob, Stack
from hasim.scenario import ScenarioFile


@dataclass(frozen=True)
class Deploy:
    """Everything that makers of artefacts look at.

    texts: {path: text} of the stack's files as they shall be deployed; before: the same as they
    are deployed now (equal texts: nothing changes). stack, old: what the two mean. changed: the
    knobs whose values differ, as they were. verdict: verdict.json of the run, as read.
    scenarios: the scenario file of that run. sizes: {service: (cpus, memory_bytes)} from a capacity
    result, or empty. rollout: what applying costs, as simulated, or None.
    """

    texts: Mapping[str, str]
    before: Mapping[str, str]
    stack: Stack
    old: Stack
    changed: tuple[Knob, ...]
    verdict: Mapping[str, Any]
    scenarios: ScenarioFile
    sizes: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    rollout: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Artefact:
    """One file of the export. path: inside the folder; why: one line for the index."""

    path: str
    text: str
    why: str = ""
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """What a validator said. status: passed | failed | not validated (the tool is absent).

    tool: "haproxy -c", with its version. detail: its own words, when it refused.
    """

    artefact: str
    tool: str
    status: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """One line of the checklist. ticked: proved by `proof`; else `proof` says why it is open."""

    text: str
    ticked: bool
    proof: str
