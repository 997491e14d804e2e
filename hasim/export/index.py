"""README.md and CHECKLIST.md of an export: what is where, what is proved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hasim.export import evidence
from hasim.export.base import Artefact, Box, Check, Deploy
from hasim.report.diff import Changes
from hasim.scenario import metric_name
from hasim.units import counted

LAYOUT = (
    ("stack/", "your own files, as they were simulated"),
    ("hosts/<host>/", "what goes to one host, with apply.sh and rollback.sh"),
    ("extra/", "what hasim adds"),
    ("CHANGES.diff", "what differs from the files as deployed now; secrets are redacted"),
    ("report.html", "the run, and what the export changes, as one page"),
    ("CHECKLIST.md", "the pre-production checklist, each box with its proof or why it is open"),
    ("EVIDENCE.json", "what was proved, by which run, for which bytes"),
)


def checklist(boxes: Sequence[Box]) -> str:
    """CHECKLIST.md."""
    done = sum(b.ticked for b in boxes)
    lines = ["# Pre-production checklist", "", f"{done} of {len(boxes)} boxes are proved.", ""]
    lines += [f"- [{'x' if b.ticked else ' '}] {b.text}: {_line(b.proof)}" for b in boxes]
    return "\n".join(lines) + "\n"


def readme(
    deploy: Deploy,
    made: Sequence[Artefact],
    checks: Sequence[Check],
    diff: Changes,
    left: Sequence[str],
) -> str:
    """README.md: the index of the folder."""
    said = deploy.verdict
    gaps = evidence.gaps(deploy)
    lines = [f"# {deploy.stack.name}: deployable files", ""]
    lines += [_passed(said, bool(gaps)), ""]
    lines += [f"- known gap: {g}" for g in gap_texts(gaps)]
    assumed = evidence.assumptions(said)
    if assumed:
        lines += [f"- {len(assumed)} assumed values, listed in EVIDENCE.json; measure them first"]
    lines += ["", "| | |", "|---|---|"]
    lines += [f"| `{name}` | {what} |" for name, what in LAYOUT]
    lines += ["", "## Changes", "", "```", diff.stat, "```"]
    if deploy.rollout:
        lines += ["", f"Rollout: {deploy.rollout['text']}."]
    own = set(deploy.texts.values())  # what is mounted on a host
    for title, rows in (
        ("## Files that hasim adds", [f"- `{a.path}`: {a.why}" for a in made if a.text not in own]),
        ("## Validators", [f"- {row}" for row in check_lines(checks)]),
        (
            "## Left out",
            [f"- `{path}` is too large, or no text: copy it yourself" for path in left],
        ),
    ):
        if rows:
            lines += ["", title, "", *rows]
    return "\n".join(lines) + "\n"


def _passed(said: Mapping[str, Any], excused: bool) -> str:
    """What the run showed, in one sentence."""
    n = len(said["scenarios"])
    runs = sum(s["replications"] for s in said["scenarios"])
    whole = f"{counted(n, 'scenario')} of {said['run']['file']} passed"
    how = f" ({runs} replications, seed {said['seed']})"
    return whole + (" or are excused" if excused else "") + how + (":" if excused else ".")


def gap_texts(gaps: Sequence[dict]) -> list[str]:
    """Gaps of EVIDENCE.json as sentences, each once, in order."""
    found: dict[str, None] = {}
    for gap in gaps:
        name = metric_name(gap["metric"], gap["tags"].items())
        until = f"; until {gap['until']}" if gap["until"] else ""
        text = f"{gap['scenario']}: {name} {gap['threshold']} ({_line(gap['reason'])}{until})"
        found[text] = None
    return list(found)


def check_lines(checks: Sequence[Check]) -> list[str]:
    """What the validators said, one line per tool and answer."""
    found = Counter((c.tool, c.status) for c in checks)
    return [f"{tool}: {said}, {counted(n, 'file')}" for (tool, said), n in sorted(found.items())]


def _line(text: str) -> str:
    return " ".join(text.split())
