"""`hasim check`: what is wrong, what cannot boot, what is not simulated; no simulation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hasim.errors import Exit, Finding
from hasim.project import Project
from hasim.project import check as read
from hasim.units import counted


def check(path: Path, stack: Path | None, fail_on: str, form: str) -> Exit:
    """Print the findings of a folder or scenario file; 104 if its files cannot be used."""
    project = read(path, stack)
    found = all_findings(project)
    if form == "json":
        from hasim.report.json_ import dumps

        print(dumps(document(project, found)), end="")
    elif form == "github":
        _print_github(found)
    else:
        for line in text(path, project, found):
            print(line)
    if fail_on == "never":
        return Exit.OK
    if project.errors:
        return Exit.INPUT
    severities = {f.severity for f in found}
    failing = {"error"} if fail_on == "error" else {"error", "warning"}
    return Exit.DIFFERENCE if severities & failing else Exit.OK


def all_findings(project: Project) -> list[Finding]:
    """Findings of the files, of budgets, and what cannot boot; errors first."""
    found = [f for f in project.findings if f in project.errors or f.severity != "error"]
    if project.file is not None and project.stack is not None and not project.errors:
        from hasim.metrics import budget_findings

        for scenario in project.file.scenarios:
            if scenario.kind == "run":
                found += budget_findings(scenario, project.stack)
    found += boot_findings(project)
    order = {"error": 0, "warning": 1}
    return sorted(dict.fromkeys(found), key=lambda f: order.get(f.severity, 2))


def boot_findings(project: Project) -> list[Finding]:
    """What cannot come up, as findings; one for all instances that share a reason and its place."""
    if project.stack is None:
        return []
    together: dict[tuple[str, str], list] = {}
    for failure in project.stack.boot_failures:
        together.setdefault((failure.reason, str(failure.span)), []).append(failure)
    found = []
    for failures in together.values():
        names = ", ".join(f.instance for f in failures)
        text = f"does not boot: {names}: {failures[0].reason}"
        found.append(Finding("error", "HA300", text, project.here(failures[0].span)))
    return found


def text(path: Path, project: Project, found: list[Finding]) -> Iterator[str]:
    """The findings, then what is not simulated, then a count."""
    for finding in found:
        yield str(finding)
    if project.not_simulated:
        names = ", ".join(i.name for i in project.not_simulated)
        yield f"not simulated, for want of a profile: {names}"
    counts = [sum(f.severity == s for f in found) for s in ("error", "warning")]
    words = [counted(n, w) for n, w in zip(counts, ("error", "warning"), strict=True)]
    size = ""
    if project.stack is not None:
        stack = project.stack
        sizes = [
            counted(len(stack.inputs), "file"),
            counted(len(stack.hosts), "host"),
            counted(len(stack.instances), "container"),
        ]
        if project.file is not None:
            sizes.insert(0, counted(len(project.file.scenarios), "scenario"))
        size = f" ({', '.join(sizes)})"
    yield f"{path.as_posix()}{size}: {', '.join(words)}"


def document(project: Project, found: list[Finding]) -> dict:
    """The same for programs."""
    from hasim.report.json_ import place

    return {
        "schema": 1,
        "findings": [
            {
                "severity": f.severity,
                "code": f.code,
                "message": f.message,
                **place(f.span),
                "hint": f.hint or None,
            }
            for f in found
        ],
        "does_not_boot": sorted({b.instance for b in project.stack.boot_failures})
        if project.stack
        else [],
        "not_simulated": [i.name for i in project.not_simulated],
    }


def _print_github(found: list[Finding]) -> None:
    from hasim.report.github import command

    for f in found:
        message = f"{f.message}; hint: {f.hint}" if f.hint else f.message
        print(command(f.severity, f.span, f.code, message))
