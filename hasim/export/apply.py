"""apply.sh and rollback.sh of every host, and the order of the hosts."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from importlib.resources import files

from hasim.export.apply_stack import HostView, admin_socket, stats_page
from hasim.export.apply_steps import Rollout, Step, plan
from hasim.export.base import Artefact, Deploy

_HEAD = """\
#!/usr/bin/env bash
# Made by hasim. {what}
set -euo pipefail

HERE=$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)
ID={id}
HOST={host}
COMPOSE_FILES=({compose})
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
    """hosts/<host>/apply.sh and rollback.sh, and extra/ROLLOUT.md, in path order."""
    rollout = plan(deploy)
    made = []
    for view in rollout.hosts:
        at, steps = f"hosts/{view.name}", rollout.steps[view.name]
        for name, text in _scripts(view, steps, deploy).items():
            why = "takes the change back" if name == "rollback.sh" else "puts it into service"
            made.append(Artefact(f"{at}/{name}", text, f"{why} on {view.name}", executable=True))
    text = order(rollout)
    made.append(Artefact("extra/ROLLOUT.md", text, "the steps of apply.sh, and the order of hosts"))
    return sorted(made, key=lambda one: one.path)


def library(name: str) -> str:
    """A file of hasim/export/shell."""
    return files("hasim.export").joinpath("shell", name).read_text(encoding="utf-8")


def _scripts(view: HostView, steps: Sequence[Step], deploy: Deploy) -> dict[str, str]:
    if not steps:
        what = {"apply.sh": _APPLY, "rollback.sh": _BACK}
        return {
            name: _NOTHING.format(what=text.format(host=view.name), host=view.name)
            for name, text in what.items()
        }
    own = haproxies(deploy)
    calls = [_call("step", n, s) for n, s in enumerate(steps, 1)]
    back = [_call("unstep", n, s) for n, s in enumerate(steps, 1)][::-1]
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


def _head(view: HostView, steps: Sequence[Step], deploy: Deploy, what: str, advice: str) -> str:
    written = list(dict.fromkeys(f for s in steps for f in s.files))
    known = [f for f in view.files if f in deploy.before]
    mark = repr([(s.verb, s.args) for s in steps])
    return _HEAD.format(
        what=what.format(host=view.name),
        id=hashlib.sha256(mark.encode()).hexdigest()[:12],
        host=_quoted(view.name),
        compose=shlex.join(view.files),
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


def haproxies(deploy: Deploy) -> str:
    """The function `haproxy_says HOST CONTAINER COMMAND` for the HAProxies of a stack."""
    rollout_hosts = plan_hosts(deploy)
    lines = ["", "haproxy_says() {  # haproxy_says HOST CONTAINER COMMAND", "  case $1/$2 in"]
    for balancer in deploy.stack.balancers:
        host, container = rollout_hosts.get(balancer.instance, ("", ""))
        command = admin_socket(balancer, deploy.before)
        page = stats_page(balancer, deploy.before)
        if not container or not (command or page):
            continue
        inside = shlex.quote(command or page)
        stdin = ' <<<"$3"' if command else ""
        flag = "-i " if command else ""
        where = shlex.quote(f"{host}/{container}")
        name = f'"$(name_of {shlex.quote(container)})"'
        lines.append(
            f"    {where}) on {shlex.quote(host)} exec {flag}{name} sh -c {inside}{stdin} ;;"
        )
    return "\n".join([*lines, "    *) : ;;", "  esac", "}", ""])


def plan_hosts(deploy: Deploy) -> dict[str, tuple[str, str]]:
    """{instance: (host, container)} of everything that compose runs."""
    return {
        unit.instance.name: (view.name, unit.container)
        for view in plan(deploy).hosts
        for unit in view.units
        if unit.instance is not None
    }


def order(rollout: Rollout) -> str:
    """ROLLOUT.md."""
    lines = ["# Rollout", ""]
    if not rollout.all:
        lines.append("Nothing to change: the deployed files are those of this export.")
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
    for number, (host, steps) in enumerate(rollout.steps.items(), 1):
        if rollout.all:
            lines += ["", f"## {number}. {host}", ""]
            lines += [f"{n}. {s.text}" for n, s in enumerate(steps, 1)] or ["nothing to change"]
    if rollout.notes:
        lines += ["", "## By hand", "", *(f"- {note}" for note in rollout.notes)]
    return "\n".join(lines) + "\n"


def _elsewhere(step: Step) -> bool:
    drains = step.args[2:] if step.verb == "recreate" else ()
    return any(not d.startswith(f"{step.host}/") for d in drains)
