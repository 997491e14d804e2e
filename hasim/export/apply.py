"""apply.sh and rollback.sh of every host, and the order of the hosts."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from hasim.export import scripts
from hasim.export.apply_shell import haproxies, library
from hasim.export.apply_stack import HostView
from hasim.export.apply_steps import Rollout, Step, plan
from hasim.export.base import Artefact, Deploy
from hasim.export.rollout import cost_text

_HEAD = """\
#!/usr/bin/env bash
# Made by hasim. {what}
set -euo pipefail

HERE=$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)
ID={id}
HOST={host}
COMPOSE_FILES=({compose})
CONTAINERS=({containers})
KNOWN_FILES=({known})
FILES=({files})
ADVICE={advice}
: "${{#FILES[@]}}" "$ID" "$ADVICE"

"""
_APPLY = "Puts this export into service on {host}; a second run changes nothing."
_BACK = "Takes back what apply.sh did on {host}, in reverse order."
_NOTHING = """\
#!/usr/bin/env bash
# Made by hasim. {what}
set -euo pipefail
case ${{1:-}} in -h | --help) echo "usage: $0 [--dry-run] [--target DIR] [--limit SECONDS]" ;; esac
echo "nothing to change on {host}"
"""


def make(deploy: Deploy) -> list[Artefact]:
    """Every script of the export and extra/ROLLOUT.md, in path order."""
    rollout = plan(deploy)
    made = scripts.make(deploy)
    for view in rollout.hosts:
        at, steps = f"hosts/{view.name}", rollout.steps[view.name]
        for name, text in _scripts(view, steps, deploy, rollout.hosts).items():
            why = "takes the change back" if name == "rollback.sh" else "puts it into service"
            made.append(Artefact(f"{at}/{name}", text, f"{why} on {view.name}", executable=True))
    text = order(rollout, scripts.undrained(deploy), deploy.rollout)
    made.append(Artefact("extra/ROLLOUT.md", text, "the steps of apply.sh, and the order of hosts"))
    return sorted(made, key=lambda one: one.path)


def _scripts(
    view: HostView, steps: Sequence[Step], deploy: Deploy, found: Sequence[HostView]
) -> dict[str, str]:
    if not steps:
        what = {"apply.sh": _APPLY, "rollback.sh": _BACK}
        return {
            name: _NOTHING.format(what=text.format(host=view.name), host=view.name)
            for name, text in what.items()
        }
    own = haproxies(deploy, found)
    calls = [_call("step", n, s) for n, s in enumerate(steps, 1)]
    back = [_call("unstep", n, s) for n, s in _backwards(list(enumerate(steps, 1)))]
    advice = "Nothing after it was touched. To go back: ./rollback.sh"
    apply = _head(view, steps, deploy, _APPLY, advice) + library("apply.lib.sh") + own
    apply += "\n" + "\n".join(['start "$@"', *calls, "finish"]) + "\n"
    advice = "Run it again when the cause is gone: ./rollback.sh"
    undo = _head(view, steps, deploy, _BACK, advice) + library("apply.lib.sh") + own
    opening = [
        'start "$@"',
        'if [ ! -e "$STATE/journal" ]; then say "nothing was applied here"; '
        'rmdir "$STATE" 2>/dev/null || true; exit 0; fi',
        'CURRENT="restoring files"',
        "restore_files",
    ]
    closing = ["finish", 'if [ "$DRY" = 0 ]; then rm -rf -- "$STATE"; fi']
    undo += "\n" + "\n".join([*opening, *back, *closing]) + "\n"
    return {"apply.sh": apply, "rollback.sh": undo}


def _backwards(steps: list[tuple[int, Step]]) -> list[tuple[int, Step]]:
    """The last step first; a hand-over still comes before what it is for. Patroni's restarts come
    at the end: they take what the other steps put back.
    """
    out: list[tuple[int, Step]] = []
    late: list[tuple[int, Step]] = []
    for at, one in enumerate(steps):
        after_hand_over = at > 0 and steps[at - 1][1].verb.endswith("hand_over")
        restarts = "patroni_restart" in [s.verb for _, s in steps[at : at + 2]]
        if restarts and (one[1].verb == "patroni_restart" or one[1].verb.endswith("hand_over")):
            late.append(one)
        else:
            out.insert(1 if after_hand_over else 0, one)
    return [*out, *late]


def _head(view: HostView, steps: Sequence[Step], deploy: Deploy, what: str, advice: str) -> str:
    written = list(dict.fromkeys(f for s in steps for f in s.files))
    known = [f for f in view.files if f in deploy.before]
    mark = repr([(s.verb, s.args) for s in steps])
    return _HEAD.format(
        what=what.format(host=view.name),
        id=hashlib.sha256(mark.encode()).hexdigest()[:12],
        host=_quoted(view.name),
        compose=shlex.join(view.files),
        containers=shlex.join(u.container for u in view.units if u.service.name in view.old),
        known=shlex.join(known),
        files=shlex.join(written),
        advice=shlex.quote(advice),
    )


def _quoted(text: str) -> str:
    """Always in quotes: `HOST=host-a` reads like a subtraction."""
    return shlex.quote(text) if shlex.quote(text) != text else f"'{text}'"


def _call(how: str, number: int, step: Step) -> str:
    words = shlex.join([step.text, step.verb, *step.args])
    return f"{how} {number} {words}"


def order(
    rollout: Rollout,
    undrained: Sequence[str] = (),
    simulated: Mapping[str, Any] | None = None,
) -> str:
    """ROLLOUT.md. undrained: services that rolling-update.sh leaves out; simulated: what the steps
    cost (hasim.export.rollout).
    """
    lines = ["# Rollout", ""]
    costs = iter(simulated["steps"] if simulated else ())
    if not rollout.all:
        nothing = (
            "Nothing to change: the files that were taken as deployed (`--base DIR`; without it\n"
            "those of the run) are those of this export. `hasim export --check`, with `--stack`,\n"
            "tells whether they are.\n\n"
            "Where nothing runs yet: on each host, in `hosts/<host>/`, write `.env` after\n"
            "`.env.example`, then `docker compose up -d`."
        )
        lines.append("The scripts have nothing to do." if rollout.notes else nothing)
    else:
        lines += [
            "One host at a time; go on when its script ended well. On each host, in the folder",
            "that is deployed there: `hosts/<host>/apply.sh --dry-run`, then without `--dry-run`.",
            "`rollback.sh` beside it takes back what was done, also after a failure in the middle.",
        ]
        if any(s.verb.endswith("hand_over") for s in rollout.all):
            lines += ["", "Take the host of the database's leader last (`patronictl list`)."]
        if any(_elsewhere(s) for s in rollout.all):
            lines += ["", "Draining asks the HAProxies of other hosts through docker contexts of",
                      "their names (`docker context create`)."]  # fmt: skip
    if simulated and rollout.all:
        under = f"{simulated['load']} of `{simulated['scenario']}`"
        lines += ["", f"Simulated under {under}: {simulated['text']}."]
    lines += _first(rollout)
    for number, (host, steps) in enumerate(rollout.steps.items(), 1):
        if rollout.all:
            lines += ["", f"## {number}. {host}", ""]
            for n, step in enumerate(steps, 1):
                row = next(costs, None)
                lines.append(f"{n}. {step.text}" + (f" ({cost_text(row)})" if row else ""))
            lines += [] if steps else ["nothing to change"]
    notes = [*rollout.notes]
    if undrained:
        notes.append(
            f"New images of {', '.join(undrained)}: `rolling-update.sh` leaves them out, because "
            "HAProxy cannot drain them: it needs a `stats socket` with `level admin`."
        )
    if notes:
        lines += ["", "## By hand", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _first(rollout: Rollout) -> list[str]:
    """New containers run before any HAProxy hears of them: it calls a server UP at first."""
    until = {
        host: max(n for n, s in enumerate(steps, 1) if s.verb == "start")
        for host, steps in rollout.steps.items()
        if any(s.verb == "start" for s in steps)
    }
    if not until or len(rollout.hosts) == 1:
        return []
    return [
        "",
        "Before all of this, the new containers:",
        "",
        *(f"- on {host}: `hosts/{host}/apply.sh --until {n}`" for host, n in until.items()),
    ]


def _elsewhere(step: Step) -> bool:
    drains = {"recreate": step.args[4:], "remove": step.args[2:]}.get(step.verb, ())
    return any(not d.startswith(f"{step.host}/") for d in drains)
