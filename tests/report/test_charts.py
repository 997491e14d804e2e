"""The pictures show what the traces say: who was up, who noticed what, how requests went."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import budget, scenario, stack, threshold, trace

from hasim.report import charts, charts_data, style
from hasim.sim.trace import FaultSpan, Mark

JUDGED = scenario(budget("http_req_duration", threshold("p(99)<1s", "p", "<", 1.0, 0.99)))


def out_of_rotation(start: int, end: int):
    """A trace whose first server is out of the rotation between two seconds."""
    made = trace()
    table = made.per_second["in_rotation"].copy()
    table[start:end, 0] = 0
    return replace(made, per_second={**made.per_second, "in_rotation": table})


def test_a_server_out_of_rotation_is_a_gap_in_its_bar() -> None:
    found = charts_data.picture([out_of_rotation(111, 204)], JUDGED)
    bars = {bar.name: bar for bar in found.bars}
    assert bars["gw/l09-1"].up == ((found.start_s, 111.0), (204.0, found.end_s))
    assert "gw/l09-2" not in bars, "it never changed"


def test_what_a_fault_holds_is_back_at_its_own_word_or_at_the_repair() -> None:
    made = trace()
    fault = made.faults[0]
    name = next(m.detail or fault.target for m in made.timeline if m.id == fault.mark)
    (bar,) = [b for b in charts_data.bars(made, 80, 250) if b.hit]
    assert (bar.name, bar.hit) == (name, ((100.0, 200.0),))
    word = Mark(900, -1, 230.0, name, "listening", "")
    made = replace(made, timeline=(*made.timeline, word))
    (bar,) = [b for b in charts_data.bars(made, 80, 250) if b.hit]
    assert bar.up == ((80, 100.0), (230.0, 250))


def test_an_update_takes_one_after_the_other() -> None:
    fault = FaultSpan("rolling-update", "gw", 100.0, 160.0, 7)
    marks = (
        Mark(7, -1, 100.0, "fault", "rolling-update", "gw-1, gw-2 (wait_limit=60.0)"),
        Mark(8, 7, 101.0, "gw-1", "draining", "SIGTERM"),
        Mark(9, 8, 105.0, "gw-1", "listening", ""),
        Mark(10, 7, 120.0, "gw-2", "exits", ""),
        Mark(11, 10, 125.0, "gw-2", "listening", ""),
    )
    made = replace(trace(), faults=(fault,), timeline=marks)
    held = {bar.name: bar.hit for bar in charts_data.bars(made, 80, 250)}
    assert held == {"gw-1": ((101.0, 105.0),), "gw-2": ((120.0, 125.0),)}


@pytest.mark.parametrize(
    ("event", "detail", "text"),
    [
        ("Server gw/l09-1 is DOWN", "reason: Layer7 timeout", "Server gw/l09-1 is DOWN"),
        ("promoted self to leader by acquiring session lock", "", "promoted self to leader"),
        ("+sdown", "master mymaster 10.0.0.1 6379", "+sdown master"),
        ("ALERTS firing", 'RedisDown{job="redis"}', "ALERTS firing RedisDown"),
        ("container start", "redis-1", "container start redis-1"),
    ],
)
def test_moments_speak_the_daemons_words(event: str, detail: str, text: str) -> None:
    marks = [Mark(9, -1, 112.5, "who", event, detail), Mark(10, -1, 113.0, "other", event, detail)]
    (moment,) = charts_data.noticed(replace(trace(), timeline=tuple(marks)))
    assert (moment.who, moment.text, moment.after_s) == ("who", text, 12.5)


def test_what_was_before_the_fault_or_is_chatter_is_not_shown() -> None:
    marks = (
        Mark(1, -1, 50.0, "lb", "Server gw/l09-1 is DOWN", ""),
        Mark(2, -1, 101.0, "sentinel-1", "+sdown", "slave 10.0.0.2:6379"),
        Mark(3, -1, 102.0, "lb", "Health check for server gw/l09-1 failed", ""),
    )
    assert charts_data.noticed(replace(trace(), timeline=marks)) == []


def test_of_many_moments_the_telling_ones_stay_in_the_order_of_time() -> None:
    marks = [Mark(i, -1, 101.0 + i, "lb", f"Server b/s{i} is DOWN", "") for i in range(40)]
    marks.append(Mark(99, -1, 180.0, "pg-1", "promoted self to leader", ""))
    found = charts_data.noticed(replace(trace(), timeline=tuple(marks)))
    assert len(found) == charts_data.MOST_MOMENTS
    assert [m.t_s for m in found] == sorted(m.t_s for m in found)
    assert "promoted self to leader" in [m.text for m in found]


def test_the_picture_shows_the_worst_replication_and_the_band_of_all() -> None:
    calm, bad = trace(0), trace(1)
    failed = bad.per_second["failed"].copy()
    failed[120, 0] = 7
    bad = replace(bad, per_second={**bad.per_second, "failed": failed})
    found = charts_data.picture([calm, bad], JUDGED, worst=1)
    seen, low, high = found.rates["failed"]
    assert seen[found.t_s == 120] == 7
    assert low[found.t_s == 120] < 7 * 0.2 < 7 * 0.8 < high[found.t_s == 120]
    assert found.limits_s == (1.0,)
    assert found.replications == 2


@given(st.lists(st.floats(0, 100) | st.just(math.nan), min_size=1, max_size=60), st.integers(1, 9))
def test_bins_are_means_of_what_is_known(values: list[float], step: int) -> None:
    column = np.array(values)
    made = charts_data.binned(column, step)
    if len(column) < step:
        assert made is column
        return
    assert len(made) == len(column) // step
    for i, value in enumerate(made):
        part = column[i * step : (i + 1) * step]
        known = part[~np.isnan(part)]
        assert np.isnan(value) if not len(known) else value == pytest.approx(known.mean())


def test_a_long_run_is_drawn_with_few_points() -> None:
    made = trace(faults=(), timeline=())
    long = {k: np.concatenate([v] * 5) for k, v in made.per_second.items()}
    found = charts_data.picture([replace(made, per_second=long, duration_s=2000.0)])
    assert len(found.t_s) <= charts_data.MOST_POINTS
    assert (found.start_s, found.end_s) == (0.0, 2000.0)
    assert found.bars == ()


def test_the_figure_has_a_panel_for_each_question() -> None:
    figure = charts.scenario_figure([out_of_rotation(111, 204)], stack(), JUDGED)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert [t.split(" (")[0] for t in titles] == [
        "who was up",
        "who noticed what",
        "requests per second",
        "latency",
    ]
    limits = {ax.get_xlim() for ax in figure.axes}
    assert len(limits) == 1
    assert all(ax.patches for ax in figure.axes), "the fault is shaded everywhere"


def test_the_words_on_the_picture_do_not_overlap_or_leave_it() -> None:
    marks = [Mark(i, -1, 101.0 + 0.1 * i, "lb", f"Server b/s{i} is DOWN", "") for i in range(30)]
    figure = charts.scenario_figure([replace(trace(), timeline=tuple(marks))], stack())
    figure.draw_without_rendering()
    ax = next(a for a in figure.axes if "noticed" in a.get_title(loc="left"))
    boxes = [t.get_window_extent() for t in ax.texts]
    assert len(boxes) == charts_data.MOST_MOMENTS
    for i, one in enumerate(boxes):
        assert figure.bbox.x0 <= one.x0 <= one.x1 <= figure.bbox.x1
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])


def test_the_same_traces_are_the_same_picture() -> None:
    first, second = (charts.scenario_figure([trace()], stack(), JUDGED) for _ in range(2))
    assert style.svg(first) == style.svg(second)


def test_nothing_ran_and_names_with_dollars() -> None:
    void = replace(trace(), void="did not boot")
    assert charts_data.picture([void]) is None
    assert "nothing ran" in style.svg(charts.scenario_figure([void], stack()))
    fault = FaultSpan("pause", "a$b$", 100.0, math.nan, -5)
    named = charts.scenario_figure([replace(trace(), faults=(fault,))], stack())
    assert "a$b$" in style.svg(named)
