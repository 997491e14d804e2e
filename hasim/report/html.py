"""report.html: one page for one run that needs no script, no network and no other file.

The page is made from the verdict, one Exhibit per scenario and the redacted inputs. Everything
that comes from a file is escaped by the template.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hasim.report import numbers, redact, text
from hasim.report.exhibits import Exhibit, excerpts, gauge
from hasim.verdict import ScenarioVerdict, Verdict

SIGNS = {"pass": "✓", "fail": "✗", "inconclusive": "?", "void": "∅", "stale-gap": "!"}
_DIFF = "<!-- place of the exported changes -->"


def render(
    verdict: Verdict,
    exhibits: Mapping[str, Exhibit],
    files: Mapping[str, str] | None = None,
    secrets: Collection[str] = (),
    diff: str | None = None,
) -> str:
    """The page. exhibits: by scenario name; files: redacted copies by path; secrets: see redact.

    diff: CHANGES.diff of an export, shown as its own section.
    """
    sections = [
        _section(s, exhibits.get(s.name), files or {}, f"s{number}")
        for number, s in enumerate(verdict.scenarios, 1)
    ]
    assumed = dict.fromkeys(a for s in verdict.scenarios for a in s.assumptions)
    page = _template("report.html.j2").render(
        verdict=verdict,
        sections=sections,
        tally=text.tally(verdict),
        assumptions=sorted(assumed, key=lambda a: (a.name, a.value, a.source)),
        replications=sum(s.replications for s in verdict.scenarios),
        requests=sum(s.requests for s in verdict.scenarios),
        simulated_s=sum(s.simulated_s for s in verdict.scenarios),
        diff_place=_DIFF,
    )
    page = _scrubbed(page, secrets).encode("utf-8", "replace").decode()  # bytes that are no text
    return page if diff is None else with_diff(page, diff, secrets)


def with_diff(page: str, diff: str, secrets: Collection[str] = ()) -> str:
    """A report with the changes of an export. page: as `render` made it, without them so far."""
    lines = [(_kind(line), line) for line in redact.scrub(diff, secrets).splitlines()]
    section = _template("diff.html.j2").render(lines=lines)
    return page.replace(_DIFF, section, 1)


def _scrubbed(page: str, secrets: Collection[str]) -> str:
    """The page without secrets, which may stand in it as a template or as an SVG escapes them."""
    from markupsafe import escape

    forms = {f for v in secrets for f in (str(escape(v)), html.escape(v, quote=False), v)}
    for form in sorted(forms, key=lambda f: (-len(f), f)):
        page = page.replace(form, str(escape(redact.HIDDEN)))
    return page


def _section(
    s: ScenarioVerdict, exhibit: Exhibit | None, files: Mapping[str, str], anchor: str
) -> dict[str, Any]:
    """What the template shows of one scenario."""
    word, _ = text.WORDS[s.verdict]
    rows = [{"row": r, "status": numbers.status(r), "gauge": gauge(r)} for r in s.budgets]
    asked = [r for r in s.budgets if not numbers.built_in(r)]
    return {
        "id": anchor,
        "s": s,
        "word": word.lower(),
        "sign": SIGNS[s.verdict],
        "rows": rows,
        "kept": sum(r.verdict == "pass" for r in asked),
        "asked": len(asked),
        "gaps": [r for r in s.budgets if r.waived_by],
        "causes": [c for c in s.causes if c.text != s.reason],
        "excerpts": excerpts(s.causes, files),
        "exhibit": exhibit,
    }


def _kind(line: str) -> str:
    """The class of a line of a unified diff."""
    if line.startswith(("+++", "---", "diff ", "@@")):
        return "head"
    return {"+": "added", "-": "removed"}.get(line[:1], "same")


@cache
def _template(name: str) -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    env = jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    env.globals.update(
        observed=numbers.observed,
        interval=lambda row: "" if numbers.built_in(row) else numbers.interval(row),
        margin=lambda row: "" if numbers.built_in(row) else numbers.margin(row),
        show=numbers.show,
        signs={**numbers.MARKS, "known-gap": "~", "stale-gap": "!"},
    )
    env.filters["count"] = lambda n: f"{n:,.0f}"
    return env.get_template(name)
