"""verdict.json: the verdict for other programs (schema 1, described in docs/results.md); and how
any document of hasim is written.
"""

from __future__ import annotations

import json
import math
from typing import Any

from hasim.causes_text import Cause
from hasim.source import Span
from hasim.verdict import ScenarioVerdict, Verdict

SCHEMA = 1


def render(verdict: Verdict) -> str:
    """The text of verdict.json; what is not finite is null."""
    return dumps(document(verdict))


def dumps(document: Any) -> str:
    """The text of any document that hasim writes. ValueError for what is not finite."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def place(span: Span | None) -> dict[str, Any]:
    """file, line, col; all null where no file says it."""
    if span is None:
        return {"file": None, "line": None, "col": None}
    return {"file": span.file, "line": span.line, "col": span.col}


def document(verdict: Verdict) -> dict[str, Any]:
    """verdict.json as plain dicts and lists."""
    return {
        "schema": SCHEMA,
        "hasim": verdict.hasim,
        "seed": verdict.seed,
        "stack_sha256": verdict.stack_sha256,
        "inputs": [{"path": path, "sha256": sha} for path, sha in verdict.inputs],
        "run": {
            "file": verdict.file,
            "stack": verdict.folder,
            "replications": verdict.asked,
            "provisional": verdict.provisional,
            "code_sha256": verdict.code_sha256,
        },
        "scenarios": [scenario(s) for s in verdict.scenarios],
    }


def number(value: float) -> float | int | None:
    """A JSON number of at most twelve digits; whole numbers without a fraction."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.12g}")
    return int(short) if short == int(short) and abs(short) < 2**53 else short


def scenario(s: ScenarioVerdict) -> dict[str, Any]:
    """One scenario of verdict.json."""
    return {
        "name": s.name,
        "verdict": s.verdict,
        "study": s.study,
        "replications": s.replications,
        "simulated_s": number(s.simulated_s),
        "requests": s.requests,
        "budgets": [
            {
                "metric": r.metric,
                "tags": dict(r.tags),
                "threshold": r.threshold,
                "observed": number(r.observed),
                "ci": [number(end) for end in r.ci],
                "limit": number(r.limit),
                "margin": number(r.margin),
                "verdict": r.verdict,
                "waived_by": r.waived_by or None,
            }
            for r in s.budgets
        ],
        "metrics": [
            {
                "metric": m.metric,
                "tags": dict(m.tags),
                "aggregate": m.aggregate,
                "mean": number(m.mean),
                "ci": [number(end) for end in m.ci],
                "min": number(m.min),
                "max": number(m.max),
                "n": m.n,
            }
            for m in s.metrics
        ],
        "causes": [_cause(c) for c in s.causes],
        "assumptions": [
            {"name": a.name, "value": a.value, "source": a.source} for a in s.assumptions
        ],
    }


def _cause(cause: Cause) -> dict[str, Any]:
    return {
        "text": cause.text,
        **place(cause.span),
        "seconds": number(cause.seconds),
        "requests": cause.requests,
    }
