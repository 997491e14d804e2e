"""report.html: everything is in it, it needs nothing else, and no text of a file can break it."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic import budget, scenario, stack, threshold, trace

from hasim.causes_text import Cause
from hasim.report import html, redact
from hasim.report.exhibits import excerpt, exhibit, failures, gauge, meaning, resources
from hasim.scenario import KnownGap
from hasim.sim.trace import HTTP_504, Mark
from hasim.source import Span
from hasim.verdict import assemble, judge

EVIL = "<script>alert(1)</script>"
FILES = {
    "haproxy.cfg": "global\n" * 11 + "  timeout connect 5s\n  x\n  timeout server  50s # " + EVIL,
    "compose.yml": "environment:\n  - POSTGRES_PASSWORD=hunter2&hunter2\n",
}
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}


class Page(HTMLParser):
    """The tags of a page, with what must hold for every page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    def all(self, attribute: str) -> list[str]:
        return [attrs[attribute] for _, attrs in self.tags if attribute in attrs]


def judged(name: str = "gateway-pause", runs: int = 4, **changes: object):
    """(verdict, traces) of a scenario with three budgets; one fails, one is a known gap."""
    traces = [
        trace(
            i,
            bad=[(100.0, 140.0)],
            down_s=110 + i / 5,
            failed={HTTP_504: 40},
            terminations=((("gw/l09-1", "504", "sH--"), 40), (("gw/l09-2", "200", "----"), 960)),
        )
        for i in range(runs)
    ]
    rows = (
        budget("http_req_failed", threshold("rate<0.1%", "rate", "<", 0.001)),
        budget("outage_duration", threshold("max<5s", "max", "<", 5.0), path="write"),
        budget("http_req_duration", threshold("p(99)<1s", "p", "<", 1.0, 0.99)),
    )
    of = scenario(*rows, name=name, known_gaps=(KnownGap("http_req_failed", "see #1"),), **changes)
    return judge(of, stack(), traces), traces


def page(verdicts, diff: str | None = None) -> str:
    copies, secrets = redact.redact_all(FILES)
    shown = {v.name: exhibit(v, ts, stack(), f"p{i}-") for i, (v, ts) in enumerate(verdicts)}
    verdict = assemble(stack(), 7, [v for v, _ in verdicts], "0.1.0", provisional=True)
    return html.render(verdict, shown, copies, secrets, diff)


@pytest.fixture(scope="module")
def whole() -> str:
    verdict, traces = judged()
    told = Cause("timeout server", Span("haproxy.cfg", 14, 19, 100, 103), 50.0, 98)
    verdict = replace(verdict, causes=(*verdict.causes, told))
    return page([(verdict, traces), judged("gateway-crash"), judged("third", settings={"k": "v"})])


def test_every_scenario_and_every_budget_is_on_the_page(whole: str) -> None:
    seen = Page(whole)
    assert not seen.open
    text = " ".join(" ".join(seen.text).split())
    for word in ("gateway-pause", "gateway-crash", "third"):
        assert text.count(word) >= 2, word
    for word in ("http_req_failed", "outage_duration{path:write}", "http_req_duration", "max<5s"):
        assert text.count(word) >= 3, word
    for word in ("Provisional", "A study", "known gap: see #1", "fail", "✗", "~", "seed", "sH--"):
        assert word in text, word
    assert "the server's timeout while waiting for the response's headers" in text
    assert "50s, 98 requests" in text


def test_links_resolve_and_ids_are_unique(whole: str) -> None:
    seen = Page(whole)
    ids = seen.all("id")
    assert len(ids) == len(set(ids))
    local = [h[1:] for h in seen.all("href") if h.startswith("#")]
    local += re.findall(r"url\(#([^)]+)\)", whole) + seen.all("aria-labelledby")
    assert local
    assert not set(local) - set(ids)


def test_the_page_needs_nothing_else(whole: str) -> None:
    seen = Page(whole)
    assert not [tag for tag, _ in seen.tags if tag in ("script", "img", "iframe", "object")]
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", whole)
    assert {h for h in seen.all("href") if not h.startswith("#")} == {"data:,"}
    assert not [k for _, attrs in seen.tags for k in attrs if k.startswith("on")]


def test_headings_tables_and_pictures_speak_to_who_does_not_see(whole: str) -> None:
    seen = Page(whole)
    levels = [int(tag[1]) for tag, _ in seen.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    assert all("scope" in attrs for tag, attrs in seen.tags if tag == "th")
    charts = [attrs for tag, attrs in seen.tags if tag == "svg" and attrs["class"] == "chart"]
    assert len(charts) == 3
    assert all("Server gw/l09-1 is DOWN" in attrs["aria-label"] for attrs in charts)


def test_text_of_files_is_escaped_everywhere() -> None:
    verdict, traces = judged(f"a {EVIL}")
    told = Cause(EVIL, Span("haproxy.cfg", 14, 3))
    marks = (Mark(0, -1, 100.0, EVIL, "promoted self to leader", EVIL),)
    traces = [replace(t, timeline=(*t.timeline, *marks)) for t in traces]
    verdict = replace(verdict, doc=EVIL, reason=EVIL, causes=(*verdict.causes, told))
    text = page([(verdict, traces)], diff=f"--- a\n+++ b\n+{EVIL}\n")
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)") >= 6
    assert not Page(text).open


def test_a_secret_is_nowhere_however_it_is_escaped() -> None:
    verdict, traces = judged()
    told = Cause("login with hunter2&hunter2", Span("compose.yml", 2, 5))
    text = page([(replace(verdict, causes=(told,)), traces)], diff="+ hunter2&hunter2\n")
    assert "hunter2" not in text
    assert "&lt;redacted&gt;" in text
    assert not Page(text).open


def test_a_diff_is_shown_once_and_can_be_added_later(whole: str) -> None:
    diff = "--- a/haproxy.cfg\n+++ b/haproxy.cfg\n-  timeout server 50s\n+  timeout server 5s\n"
    added = html.with_diff(whole, diff)
    assert added.count('id="changes"') == 1
    assert '<span class="added">+  timeout server 5s</span>' in added
    assert '<span class="head">--- a/haproxy.cfg</span>' in added
    assert html.with_diff(added, diff) == added
    assert "as they are" in html.with_diff(whole, "")


def test_the_same_run_is_the_same_page() -> None:
    assert page([judged()]) == page([judged()])


def test_bytes_that_are_no_text_do_not_stop_the_page() -> None:
    verdict, traces = judged()
    page([(replace(verdict, doc="caf\udce9"), traces)]).encode("utf-8")


def test_a_scenario_that_did_not_boot_says_so() -> None:
    lost = [replace(trace(i), void="nothing came up") for i in range(2)]
    verdict = judge(scenario(), stack(), lost)
    text = page([(verdict, lost)])
    assert "nothing came up" in text
    assert 'class="chart"' not in text


# ---- what is on it -------------------------------------------------------------------------------
def test_failures_are_those_of_haproxys_log() -> None:
    _, traces = judged(runs=3)
    (only,) = failures(traces)
    assert (only.server, only.termination, only.count) == ("gw/l09-1", "sH--", 120)
    assert meaning("503", "SC--") == "the server refused or closed while connecting to the server"
    assert meaning("200", "----") == ""


def test_resources_are_shares_of_the_busiest_containers_limit() -> None:
    table = {r.service: r for r in resources([trace()], stack())}
    assert table["gw"].cpu == pytest.approx(0.25)
    assert table["gw"].memory == pytest.approx(0.4)
    assert table["gw"].instances == 2
    assert table["lb"].cpu == pytest.approx(0.5 / 8)
    assert (table["gw"].of, table["lb"].of) == ("its limit", "its host")


def test_an_excerpt_marks_the_value() -> None:
    before, line, after = excerpt(Span("f", 2, 9, 15, 18), "one\ntimeout 50s # x\nthree\n")
    assert (before.number, line.before, line.value, line.after) == (1, "timeout ", "50s", " # x")
    assert after.before == "three"
    assert excerpt(Span("f", 9, 1), "one\n") == ()


@pytest.mark.parametrize(
    ("observed", "ci", "text", "limit"),
    [
        (0.5, (0.4, 0.6), "p(99)<1s", 1.0),
        (50.0, (49.0, math.inf), "p(99)<1s", 1.0),
        (0.99, (-math.inf, 1.0), "rate>99%", 0.99),
        (0.0, (0.0, 0.0), "count==0", 0.0),
    ],
)
def test_a_gauge_stays_inside_and_keeps_the_order(observed, ci, text, limit) -> None:
    verdict, _ = judged()
    row = next(r for r in verdict.budgets if r.metric == "http_req_failed")
    made = gauge(replace(row, observed=observed, ci=ci, threshold=text, limit=limit))
    assert made is not None
    assert 0 <= made.low <= made.seen <= made.high <= 100
    assert (made.seen <= made.limit) == (observed <= limit)
    assert made.good == ((made.limit, 100.0) if ">" in text else (0.0, made.limit))


def test_twelve_scenarios_stay_under_two_megabytes() -> None:
    text = page([judged(f"s{i}", runs=2) for i in range(12)])
    assert len(text.encode()) < 2_000_000


# ---- in a browser --------------------------------------------------------------------------------
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
FRAME = """<!doctype html><body style="margin:0"><iframe id="f" src="report.html"
style="width:390px;height:800px;border:0"></iframe><script>
onload = () => { const d = document.getElementById("f").contentDocument;
document.title = JSON.stringify([d.documentElement.scrollWidth, d.querySelectorAll("h2").length,
getComputedStyle(d.body).backgroundColor, getComputedStyle(d.querySelector(".chart text")).fill]) }
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_at_the_width_of_a_phone(whole: str, tmp_path: Path, scheme: str) -> None:
    (tmp_path / "report.html").write_text(whole)
    (tmp_path / "frame.html").write_text(FRAME)
    command = [
        *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--allow-file-access-from-files"),
        f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}",
        *("--virtual-time-budget=3000", "--dump-dom", (tmp_path / "frame.html").as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    found = re.search(
        r"<title>\[(\d+),(\d+),\"rgb\(([\d, ]+)\)\",\"rgb\(([\d, ]+)\)\"", done.stdout
    )
    assert found, done.stdout[:500]
    assert int(found[1]) <= 390, "the page is wider than a phone"
    assert int(found[2]) == 5
    back, ink = (sum(int(v) for v in found[i].split(",")) / 765 for i in (3, 4))
    assert (back < 0.2 and ink > 0.7) if scheme == "dark" else (back > 0.9 and ink < 0.3)
