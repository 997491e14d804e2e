"""Capacity and explanation: the questions of hasim.plan and hasim.walk with frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hasim.api import draw, frames
from hasim.api.stack import Stack
from hasim.api.work import line, project_of, told
from hasim.plan import capacity_report
from hasim.plan.capacity import review
from hasim.plan.capacity_types import Amount, Boundary, CapacityResult, Sizing
from hasim.report.numbers import show
from hasim.walk import Walk, walk
from hasim.walk import report as walk_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True, repr=False)
class Capacity:
    """How much load a stack carries, and what it needs. result: the frozen value behind it."""

    result: CapacityResult

    @property
    def largest(self) -> dict[str, float]:
        """The largest load that passes, by lost host; "" is with all hosts."""
        return self.result.largest

    @property
    def loads(self) -> DataFrame:
        """lost, users (the largest that passes), fails_at, headroom, breaks_first, cause, file,
        line: with all hosts, then after losing each.
        """
        rows = [_load(b) for b in self.result.boundaries]
        columns = ("lost", "users", "fails_at", "headroom", "breaks_first", "cause")
        return frames.frame((*columns, "file", "line"), rows, ("lost", "file"))

    @property
    def points(self) -> DataFrame:
        """lost, users, passed, p99_s, failed (a share), replications: every load that was tried."""
        rows = (
            (b.lost or "none", p.users, p.passed, p.p99_s, p.failed, p.replications)
            for b in self.result.boundaries
            for p in b.points
        )
        columns = ("lost", "users", "passed", "p99_s", "failed", "replications")
        return frames.frame(columns, rows, ("lost",))

    @property
    def sizes(self) -> DataFrame:
        """users, service, then given_, needed_ and recommended_ instances, cores and bytes (per
        instance; empty: no limit, or not sized), judgement, note.
        """
        parts = [f"{a}_{b}" for a in _AMOUNTS for b in ("instances", "cores", "bytes")]
        rows = [
            (s.users, z.service, *(x for a in _AMOUNTS for x in _amount(getattr(z, a))))
            + (z.judgement, z.note)
            for s in self.result.sizings
            for z in s.sizes
        ]
        columns = ("users", "service", *parts, "judgement", "note")
        return frames.frame(columns, rows, ("service", "judgement"))

    @property
    def hosts(self) -> DataFrame:
        """users, host, cores, memory_bytes, what is given and recommended there, fits."""
        rows = (
            (s.users, h.host, h.cores, h.memory_bytes, h.given_cores, h.given_memory_bytes)
            + (h.recommended_cores, h.recommended_memory_bytes, h.fits)
            for s in self.result.sizings
            for h in s.hosts
        )
        columns = ("users", "host", "cores", "memory_bytes", "given_cores", "given_bytes")
        columns += ("recommended_cores", "recommended_bytes", "fits")  # type: ignore[assignment]
        return frames.frame(columns, rows, ("host",))

    @draw.figure
    def plot(self) -> Figure:
        """p99 and errors by load, and what each service is given and needs."""
        return capacity_report.figure(self.result)

    def __repr__(self) -> str:
        return capacity_report.text(self.result).rstrip("\n")

    def _repr_html_(self) -> str:
        of = self.result
        loads = [
            (lost, _number(users), _number(fails), f"{headroom:.2f}", first, cause)
            for lost, users, fails, headroom, first, cause, *_ in map(_load, of.boundaries)
        ]
        columns = ("lost host", f"largest load ({of.unit})", "fails at", "headroom")
        html = f"<p><b>{capacity_report.verdict(of)}</b></p>"
        html += draw.table((*columns, "breaks first", "because"), loads)
        return html + "".join(_sizing(s, of.unit) for s in of.sizings)


_AMOUNTS = ("given", "needed", "recommended")


def capacity(
    stack: Stack | str | Path,
    scenarios: str | Path,
    name: str,
    *,
    seed: int | None = None,
    jobs: int = 0,
    journal: str | Path | None = None,
) -> Capacity:
    """The largest load that passes, and the sizes that a load needs: `hasim capacity`.

    name: a scenario of kind capacity. journal: a file that remembers finished replications, so that
    an interrupted call goes on where it was.

    >>> Path("carry.yaml").write_text('''
    ... version: 1
    ... stack: models/mmc
    ... seed: 7
    ... loads:
    ...   busy: {executor: constant-arrival-rate, arrivals: poisson, rate: 100, duration: 2m,
    ...          maxVUs: 1000, client: one-shot, mix: {serve: 100%}}
    ... scenarios:
    ...   steady: {load: busy, budgets: {http_req_duration: ["p(95)<200ms"]}}
    ...   carry: {kind: capacity, over: [steady], replications: 2, at_most: 4}
    ... ''') > 0
    True
    >>> found = ha.capacity("models/mmc", "carry.yaml", "carry")
    >>> 200 < found.largest[""] < 300        # three servers of 10 ms: 300 a second keep all busy
    True
    """
    with line() as tell:
        project = project_of(stack, scenarios)
        where = Path(journal) if journal is not None else None
        result = review(project, name, seed=seed, jobs=jobs, journal=where, tell=told(tell))
    return Capacity(result)


def _load(of: Boundary) -> tuple[Any, ...]:
    found = of.first_broken
    first = capacity_report.broken(found) if found else ""
    where = (found.cause, found.file, found.line) if found else ("", "", 0)
    return (of.lost or "none", of.users, of.fails_at, of.headroom, first, *where)


def _amount(of: Amount | None) -> tuple[float, float, float]:
    if of is None or not of.known:
        return (math.nan, math.nan, math.nan)
    return (of.instances, of.cores or math.nan, of.memory_bytes or math.nan)


def _sizing(of: Sizing, unit: str) -> str:
    rows = [
        (z.service, *(capacity_report.amount(getattr(z, a)) for a in _AMOUNTS), z.judgement, z.note)
        for z in of.sizes
    ]
    title = f"for {_number(of.users)} {unit}"
    html = draw.table(("service", *_AMOUNTS, "judgement", ""), rows, title)
    hosts = [
        (h.host, _sum(h.cores, h.memory_bytes), _sum(h.given_cores, h.given_memory_bytes))
        + (_sum(h.recommended_cores, h.recommended_memory_bytes), "fits" if h.fits else "too much")
        for h in of.hosts
    ]
    html += draw.table(("host", "has", "given", "recommended", ""), hosts)
    return html + "".join(f"<p>{draw.escape(text)}</p>" for text in of.missing)


def _sum(cores: float, memory: float) -> str:
    return f"{cores:g} cores, {show(memory, 'bytes')}"


def _number(value: float) -> str:
    return f"{value:g}" if math.isfinite(value) else "not seen"


# ---- one replication told ------------------------------------------------------------------------
@dataclass(frozen=True, repr=False)
class Explanation:
    """One replication, told: who noticed what when, which line set each delay, what it cost."""

    told: Walk

    @property
    def moments(self) -> DataFrame:
        """t_s, after_s (since what caused it), who, text, setting, file, line."""
        rows = (
            (m.t_s, m.after_s, m.who, m.text, m.setting, *frames.place(m.span))
            for m in self.told.moments
        )
        columns = ("t_s", "after_s", "who", "text", "setting", "file", "line")
        return frames.frame(columns, rows, ("who", "file"))

    @property
    def steps(self) -> DataFrame:
        """What one step of each setting that set a delay would change: setting, value, to,
        outage_s, failed_requests (after - before, means), refused, file, line.
        """
        rows = (
            (s.setting.label, s.setting.value, s.value)
            + (s.outage.difference if s.outage else math.nan,)
            + (s.failed.difference if s.failed else math.nan, s.refused)
            + frames.place(s.setting.span)
            for s in self.told.steps
        )
        columns = ("setting", "value", "to", "outage_s", "failed_requests", "refused")
        return frames.frame((*columns, "file", "line"), rows, ("file",))

    def __repr__(self) -> str:
        return walk_report.text(self.told).rstrip("\n")

    def _repr_html_(self) -> str:
        return f"<pre>{draw.escape(repr(self))}</pre>"


def explain(
    stack: Stack | str | Path,
    scenarios: str | Path,
    name: str,
    replication: int | None = None,
    *,
    seed: int | None = None,
    jobs: int = 0,
) -> Explanation:
    """Walk one replication of a scenario (by default the worst of ten): `hasim explain`.

    >>> why = ha.explain("models/three-servers", "models/three-servers/scenarios.yaml", "crash")
    >>> "haproxy.backend.web.*.inter" in set(why.steps.setting)
    True
    """
    with line() as tell:
        project = project_of(stack, scenarios)
        return Explanation(walk(project, name, replication, seed=seed, jobs=jobs, tell=told(tell)))
