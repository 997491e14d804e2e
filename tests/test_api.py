"""The Python API says what the command line says; its frames agree with each other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import hasim as ha

STACK, FILE = "models/three-servers", "models/three-servers/scenarios.yaml"
BUCKET = 1 / 64  # relative width of a latency bucket


@pytest.fixture(autouse=True)
def _top(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)


@pytest.fixture(scope="module")
def run(root: Path) -> ha.Run:
    return ha.simulate(root / STACK, root / FILE, "blackhole", replications=3, keep_requests=True)


def test_a_run_is_judged_as_hasim_run_judges_it(run: ha.Run) -> None:
    verdict = ha.run(FILE, ["blackhole"], replications=3)
    assert run.judged.budgets == verdict.scenarios[0].budgets
    assert run.judged.metrics == verdict.scenarios[0].metrics
    assert run.judged.measured == verdict.scenarios[0].measured


def test_frames_do_not_depend_on_jobs(run: ha.Run) -> None:
    one = ha.simulate(STACK, FILE, "blackhole", replications=3, jobs=1)
    for frame in ("verdict", "metrics", "causes", "replications", "requests"):
        assert getattr(one, frame).equals(getattr(run, frame)), frame
    assert one.timeline(2).equals(run.timeline(2))
    assert one.series().equals(run.series())
    by = ["op", "window", "status"]
    assert one.latency(by=by).equals(run.latency(by=by))


@pytest.mark.parametrize("window", ["before", "fault", "after"])
def test_quantiles_agree_with_the_raw_requests(run: ha.Run, window: str) -> None:
    """The upper edge of the bucket of the exact quantile; these windows mean the same in both."""
    raw = np.sort(run.requests.query("window == @window").latency_s.dropna())
    found = run.latency([0.5, 0.9, 0.999], by=["window"]).query("window == @window")
    assert set(found.requests) == {len(raw)}
    for q, latency_s in zip(found.q, found.latency_s, strict=True):
        exact = raw[max(int(np.ceil(q * len(raw) - 1e-9)), 1) - 1]
        assert exact <= latency_s * (1 + 1e-12)
        assert latency_s <= exact * (1 + BUCKET)


def test_every_request_has_one_window_and_one_status(run: ha.Run) -> None:
    n = len(run.requests)
    assert run.requests.window.notna().all()
    assert run.requests.groupby("window", observed=True).size().sum() == n
    by_status = run.latency(0.5, by=["status"])
    assert by_status.requests.sum() == run.requests.latency_s.notna().sum()
    failed = by_status.query("status == '5xx'").requests.sum()
    words = run.requests.status.astype(str)
    assert failed == words.isin(["5xx", "502", "503", "504"]).sum()
    assert n == sum(m.requests for m in run.judged.measured)


def test_unknown_words_are_errors(run: ha.Run) -> None:
    with pytest.raises(ValueError, match="by host: any of op, window, status"):
        run.latency(by=["host"])
    with pytest.raises(ValueError, match="from 0 to 1"):
        run.latency(99)
    with pytest.raises(ValueError, match="there are 0 to 2"):
        run.timeline(3)
    with pytest.raises(ha.InputError, match="did you mean 'blackhole'"):
        ha.simulate(STACK, FILE, "blackhol")


def test_set_leaves_the_old_one_and_the_files() -> None:
    before = Path(STACK, "haproxy.cfg").read_bytes()
    stack = ha.load(STACK)
    knobs = stack.knobs
    tuned = stack.set({"haproxy.backend.web.*.inter": "500ms"}).set({"haproxy.defaults.retries": 1})
    assert stack.knobs.equals(knobs)
    assert stack.diff() == ""
    assert tuned.settings == {
        "haproxy.backend.web.*.inter": "500ms",
        "haproxy.defaults.retries": "1",
    }
    assert Path(STACK, "haproxy.cfg").read_bytes() == before
    assert "inter 500 " in tuned.diff()
    with pytest.raises(ha.InputError, match="unknown knob"):
        stack.set({"haproxy.backend.web.web-1.intr": "1s"})


def test_a_changed_stack_is_what_is_simulated(run: ha.Run) -> None:
    """HAProxy notices silence after at most (inter + 2) x ... : at inter 500 ms far below 10 s."""
    tuned = ha.load(STACK).set({"haproxy.backend.web.*.inter": "500ms"})
    quick = ha.simulate(tuned, FILE, "blackhole", replications=3)
    assert quick.judged.study
    assert run.since_fault("is DOWN").min() > 10
    assert quick.since_fault("is DOWN").max() < 3.1
    moved = ha.compare(run, quick)
    assert moved.knobs.knob.str.endswith(".inter").any()
    change = moved.budgets.set_index("budget").change["time_to_detect{by:haproxy} max<12.1s"]
    expected = (quick.since_fault("is DOWN") - run.since_fault("is DOWN")).mean()
    assert change == pytest.approx(expected, abs=0.01)


def test_exported_files_are_the_stack_that_was_simulated(tmp_path: Path) -> None:
    tuned = ha.load(STACK).set({"haproxy.backend.web.*.inter": "500ms"})
    again = ha.load(tuned.export(tmp_path / "tuned"))
    assert again.knobs.equals(tuned.knobs)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    with pytest.raises(ha.InputError, match="left alone"):
        tuned.export(tmp_path / "mine")
    with pytest.raises(ha.InputError, match="nothing is written"):
        tuned.export(f"{STACK}/tuned")


def test_no_secret_is_shown() -> None:
    """The Story Portal's files hold passwords; neither the drawing nor a diff repeats one."""
    knob = "sentinel.*.mymaster.down-after-milliseconds"
    stack = ha.load("models/story-portal").set({knob: 4000})
    text = stack.diff() + stack._repr_html_()
    assert "4000" in text
    from hasim.report.diff import secrets_of

    files = {p: Path("models/story-portal", p).read_text() for p, _ in stack.model.inputs}
    secrets = secrets_of(files)
    assert secrets
    assert not [s for s in secrets if s in text]


def test_from_a_thread_and_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    """As a notebook, or a program with a window, would call it."""
    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(ha.simulate, STACK, FILE, "crash", replications=2, jobs=2)
        assert task.result(60).judged.replications == 2
    assert capfd.readouterr() == ("", "")


def test_everything_draws_itself(run: ha.Run) -> None:
    for thing in (ha.load(STACK), run, ha.compare(run, run)):
        html = thing._repr_html_()
        assert html.count("<table>") == html.count("</table>") > 0
        assert "<script" not in html
        assert repr(thing)
    figure = run.plot()
    assert figure._repr_png_() == figure._repr_png_()
    assert figure._repr_png_().startswith(b"\x89PNG")
