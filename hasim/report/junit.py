"""JUnit XML: one suite per scenario, one case per budget; known gaps are skipped cases."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from hasim.report import numbers
from hasim.verdict import ScenarioVerdict, Verdict
from hasim.verdict_rows import Row

# Characters that XML 1.0 cannot hold at all.
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(verdict: Verdict) -> str:
    """The text of junit.xml, without times (they would be those of the machine)."""
    root = ET.Element("testsuites", name="hasim")
    for scenario in verdict.scenarios:
        _suite(root, scenario)
    suites = list(root)
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(s.get(key, "0")) for s in suites)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, s: ScenarioVerdict) -> None:
    suite = ET.SubElement(root, "testsuite", name=_clean(s.name))
    for row in s.budgets:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=_clean(s.name),
            name=_clean(f"{row.name} {row.threshold}"),
        )
        _outcome(case, row, s)
    if s.verdict in ("void", "stale-gap") and not suite.findall("testcase/error"):
        case = ET.SubElement(suite, "testcase", classname=_clean(s.name), name=s.verdict)
        _add(case, "error", s.verdict, s.reason, _why(s))
    cases = list(suite)
    for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(key, str(sum(c.find(tag) is not None for c in cases)))
    suite.set("tests", str(len(cases)))


def _outcome(case: ET.Element, row: Row, s: ScenarioVerdict) -> None:
    said = f"observed {numbers.observed(row)} {numbers.interval(row)}".strip()
    said = f"{said}; {row.note}" if row.note else said
    if row.waived_by and row.verdict != "pass":
        ET.SubElement(case, "skipped", message=_clean(f"known gap: {row.waived_by}; {said}"))
    elif row.verdict == "fail":
        _add(case, "failure", "fail", said, _why(s))
    elif row.verdict != "pass":
        _add(case, "error", row.verdict, said, _why(s))


def _why(s: ScenarioVerdict) -> str:
    return "\n".join(f"{c.text}   {c.span or ''}".rstrip() for c in s.causes)


def _add(case: ET.Element, tag: str, kind: str, message: str, text: str) -> None:
    found = ET.SubElement(case, tag, type=kind, message=_clean(message))
    found.text = _clean(text)


def _clean(text: str) -> str:
    return FORBIDDEN.sub("?", text)
