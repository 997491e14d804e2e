"""The run folder: whole or not at all, the same bytes every time, no secrets."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import budget, scenario, stack, threshold, trace

from hasim.report import tables
from hasim.report.runfolder import RunFolder, inside, safe
from hasim.sim.trace import HTTP_504, Mark, Trace
from hasim.verdict import assemble, judge

FILES = {
    "docker-compose.yml": "environment:\n  - POSTGRES_PASSWORD=hunter2hunter2\n",
    "haproxy.cfg": "stats auth admin:hunter2hunter2\n",
}


def write(folder: Path, traces: list[Trace] | None = None, scenarios: int = 1) -> Path:
    traces = traces or [trace(i, down_s=110 + i % 5 / 5, failed={HTTP_504: 40}) for i in range(4)]
    of = scenario(budget("outage_duration", threshold("max<5s", "max", "<", 5.0)))
    judged = judge(of, stack(), traces)
    with RunFolder(folder, FILES) as run:
        for _ in range(scenarios):
            run.add(judged, traces, stack())
        run.finish(assemble(stack(), 7, [judged], "0.1.0"))
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(gzip.decompress(path.read_bytes()).decode().splitlines()))


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_files_of_a_run(tmp_path: Path) -> None:
    out = write(tmp_path / "out" / "scenarios")
    assert set(content(out)) == {
        "verdict.json",
        "replications.jsonl.gz",
        "SHA256SUMS",
        "junit.xml",
        "report.html",
        "timeline.csv.gz",
        "series.csv.gz",
        "inputs/docker-compose.yml",
        "inputs/haproxy.cfg",
        "replays/gateway-pause-0000.series.csv.gz",
        "replays/gateway-pause-0000.timeline.csv.gz",
        "replays/gateway-pause-0004.series.csv.gz",
        "replays/gateway-pause-0004.timeline.csv.gz",
    } - {f"replays/gateway-pause-0004.{k}.csv.gz" for k in ("series", "timeline")} | {
        f"replays/gateway-pause-0003.{k}.csv.gz" for k in ("series", "timeline")
    }
    timeline = rows(out / "timeline.csv.gz")
    assert tuple(timeline[0]) == tables.TIMELINE
    assert len(timeline) == 16
    assert timeline[1]["parent_id"] == "0"
    assert timeline[1]["t_s"] == "110"
    assert timeline[1]["file"] == "haproxy.cfg"
    series = rows(out / "series.csv.gz")
    assert tuple(series[0]) == tables.SERIES
    cpu = [r for r in series if r["metric"] == "cpu_cores" and r["service"] == "gw"]
    assert len(cpu) == 400
    assert cpu[0]["mean"] == "1"


def test_the_same_bytes_whatever_the_order_and_the_place(tmp_path: Path) -> None:
    traces = [trace(i, down_s=110 + i / 5) for i in range(4)]
    first = content(write(tmp_path / "a" / "run", traces))
    second = content(write(tmp_path / "b" / "other", traces[::-1]))
    assert first == second
    packed = first["timeline.csv.gz"]
    assert packed[3] == 0  # no file name in the gzip header
    assert packed[4:8] == b"\0\0\0\0"  # no time
    assert str(tmp_path).encode() not in b"".join(first.values())


def test_the_previous_run_is_kept(tmp_path: Path) -> None:
    out = write(tmp_path / "run")
    before = content(out)
    write(out, [trace(9)])
    assert content(tmp_path / "run.prev") == before
    assert content(out) != before
    write(out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "run.prev"]


def test_nothing_half_written_after_an_exception(tmp_path: Path) -> None:
    out = write(tmp_path / "run")
    before = content(out)
    with pytest.raises(KeyboardInterrupt), RunFolder(out, FILES):
        raise KeyboardInterrupt
    with RunFolder(out, FILES):
        pass  # never finished
    assert content(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_no_secret_in_any_file(tmp_path: Path) -> None:
    t = trace()
    leak = Mark(9, -1, 5.0, "x", "said hunter2hunter2", "again hunter2hunter2")
    out = write(tmp_path / "run", [replace(t, timeline=(*t.timeline, leak))])
    for name, data in content(out).items():
        plain = gzip.decompress(data) if name.endswith(".gz") else data
        assert b"hunter2" not in plain, name


def test_long_timelines_keep_the_turns_and_their_causes(tmp_path: Path) -> None:
    noise = tuple(
        Mark(10 + i, -1, float(i) / 10, "lb", "Health check for server l09-gw/l09-2 failed", "")
        for i in range(2000)
    )
    t = trace()
    cause = replace(t.timeline[1], parent=15)
    long = replace(t, timeline=(t.timeline[0], cause, *t.timeline[2:], *noise))
    out = write(tmp_path / "run", [long])
    kept = rows(out / "timeline.csv.gz")
    assert [r["id"] for r in kept] == ["0", "1", "2", "3", "15"]
    assert len(rows(out / "replays" / "gateway-pause-0000.timeline.csv.gz")) == 2004


def test_series_over_replications() -> None:
    traces = [trace(i) for i in range(20)]
    for i, t in enumerate(traces):
        t.per_second["ok"][:, 0] = i
        t.per_second["p99_s"][:] = np.nan
    traces[3].per_second["p99_s"][7] = 0.5
    table = list(tables.series_rows(traces, stack()))
    ok = next(r for r in table if r[3] == "ok" and r[2] == "gw/browse" and r[1] == 0)
    assert ok[4:] == ("9.5", "0", "9", "18", "0")
    p99 = {r[1]: r[4:] for r in table if r[3] == "p99_s"}
    assert p99[6] == ("",) * 5
    assert p99[7] == ("0.5",) * 5


def test_replay_holds_every_column() -> None:
    header, table = tables.replay(trace(), stack())
    assert header[0] == "t_s"
    assert "cpu_cores:gw-1" in header
    assert "p99_s" in header
    assert len(table) == 400
    assert all(len(r) == len(header) for r in table)


def test_requests_only_when_asked_for(tmp_path: Path) -> None:
    kind = [
        ("start_s", "f8"),
        ("op", "i4"),
        ("server", "i4"),
        ("status", "i4"),
        ("termination", "U4"),
        ("retries", "i4"),
        ("latency_s", "f8"),
    ]
    raw = np.array([(1.5, 0, 1, 504, "sH--", 0, 50.0), (2.0, 1, -1, 0, "", 0, np.nan)], dtype=kind)
    out = write(tmp_path / "run", [trace(requests=raw)])
    found = rows(out / "requests.csv.gz")
    assert found[0] == {
        "scenario": "gateway-pause",
        "replication": "0",
        "start_s": "1.5",
        "op": "gw/browse",
        "server": "gw/l09-2",
        "status": "504",
        "termination": "sH--",
        "retries": "0",
        "latency_s": "50",
    }
    assert found[1]["latency_s"] == ""


def test_names_cannot_leave_the_folder() -> None:
    assert inside("../../etc/passwd") == "etc/passwd"
    assert inside("/abs/x") == "abs/x"
    assert safe("../node loss@host-a") == "_node_loss@host-a"


def test_verdict_json_has_the_keys_of_the_contract(tmp_path: Path) -> None:
    doc = json.loads((write(tmp_path / "run") / "verdict.json").read_text())
    assert list(doc) == ["schema", "hasim", "seed", "stack_sha256", "inputs", "run", "scenarios"]
    of = doc["scenarios"][0]
    assert list(of) == [
        "name",
        "verdict",
        "study",
        "replications",
        "simulated_s",
        "requests",
        "budgets",
        "metrics",
        "causes",
        "assumptions",
    ]
    assert list(of["budgets"][0]) == [
        "metric",
        "tags",
        "threshold",
        "observed",
        "ci",
        "limit",
        "margin",
        "verdict",
        "waived_by",
    ]
    assert list(of["metrics"][0]) == [
        "metric",
        "tags",
        "aggregate",
        "mean",
        "ci",
        "min",
        "max",
        "n",
    ]
    assert list(of["causes"][0]) == ["text", "file", "line", "col", "seconds", "requests"]
