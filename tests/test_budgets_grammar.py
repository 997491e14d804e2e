"""The budget grammar: what is read, what is refused, and what contradicts itself."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasim.budgets import AGGREGATES, METRICS, contradiction, parse_metric, parse_threshold


@pytest.mark.parametrize(
    ("text", "metric", "aggregate", "operator", "limit", "q"),
    [
        ("p(95)<500", "http_req_duration", "p", "<", 0.5, 0.95),
        ("p(99.9) <= 1.5s", "http_req_duration", "p", "<=", 1.5, 0.999),
        ("med<20ms", "latency", "med", "<", 0.02, 0.0),
        ("rate<0.001", "http_req_failed", "rate", "<", 0.001, 0.0),
        ("rate<0.1%", "http_req_failed", "rate", "<", 0.001, 0.0),
        ("rate>100", "http_reqs", "rate", ">", 100.0, 0.0),
        ("count==0", "failed_requests", "count", "==", 0.0, 0.0),
        ("first<2m", "oom_kills", "first", "<", 120.0, 0.0),
        ("first<2000", "oom_kills", "first", "<", 2.0, 0.0),
        ("max<80%", "cpu_utilization", "max", "<", 0.8, 0.0),
        ("max<1.5GiB", "memory_bytes", "max", "<", 1.5 * 1024**3, 0.0),
        ("p(95)<=263", "downtime_minutes", "p", "<=", 263 * 60.0, 0.95),
        ("value>=99.95%", "availability", "value", ">=", 0.9995, 0.0),
    ],
)
def test_thresholds_end_in_si_units(text, metric, aggregate, operator, limit, q):
    got = parse_threshold(text, metric)
    assert (got.aggregate, got.operator) == (aggregate, operator)
    assert got.limit == pytest.approx(limit)
    assert got.q == pytest.approx(q)


@pytest.mark.parametrize(
    ("text", "metric", "word"),
    [
        ("p(101)<1s", "http_req_duration", "outside 0..100"),
        ("rate<5", "http_req_failed", "write '5%'"),
        ("p95<1s", "http_req_duration", "cannot read threshold"),
        ("p(95)<nan", "http_req_duration", "cannot read threshold"),
        ("p(95)<1e999s", "http_req_duration", "too large"),
        ("rate<1%", "http_req_duration", "it has avg, min, max, med, p(..)"),
        ("rate<5ms", "http_req_failed", "'ms' measures time, but this is a share"),
        ("count<1s", "http_reqs", "'s' measures time, but this is a count"),
        ("max<1sec", "outage_duration", "unknown unit 'sec'"),
        ("max=1s", "outage_duration", "cannot read threshold"),
        ("", "http_reqs", "cannot read threshold"),
    ],
)
def test_a_wrong_threshold_says_what_is_wrong(text, metric, word):
    with pytest.raises(ValueError, match="(?s).*") as error:
        parse_threshold(text, metric)
    assert word in str(error.value)


def test_metrics_with_tags():
    assert parse_metric("http_reqs") == ("http_reqs", ())
    assert parse_metric("http_req_failed{window:fault, op:publish}") == (
        "http_req_failed",
        (("window", "fault"), ("op", "publish")),
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("http_req_fail", "did you mean 'http_req_failed'?"),
        ("http_req_failed{host:a}", "has no tag 'host'"),
        ("http_req_failed{window}", "cannot read tag 'window'"),
        ("http_req_failed{}", "cannot read tag ''"),
        ("http_req_failed{window:during}", "one of before, impact, fault, after"),
        ("http_req_failed{op:a,op:b}", "twice"),
        ("queue_wait", "not in this version"),
        ("failovers{by:haproxy}", "one of sentinel, patroni, vrrp"),
        ("availability{by:alert}", "one of time, requests"),
        ("http_reqs{", "cannot read metric"),
    ],
)
def test_a_wrong_metric_says_what_is_wrong(text, word):
    with pytest.raises(ValueError, match="(?s).*") as error:
        parse_metric(text)
    assert word in str(error.value)


@pytest.mark.parametrize(
    ("texts", "clash"),
    [
        (["p(99)<1s", "p(99)>2s"], True),
        (["p(95)>2s", "p(99)<1s"], True),
        (["min>2s", "max<1s"], True),
        (["p(95)<1s", "p(99)>2s"], False),
        (["avg>2s", "p(99)<1s"], False),
        (["p(99)<1s", "p(99)<2s"], False),
        (["max<=1s", "max>=1s"], False),
        (["max<1s", "max>=1s"], True),
    ],
)
def test_contradictions(texts, clash):
    found = contradiction([parse_threshold(t, "latency") for t in texts])
    assert (found is not None) == clash


def test_every_metric_has_aggregates():
    for metric in METRICS.values():
        assert metric.aggregates == AGGREGATES[metric.type]
        assert metric.doc


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="p(95)<>=!.0e+-%smavgrate countfirst{}:,\n", max_size=16))
def test_any_text_is_read_or_refused(text):
    for parse in (parse_threshold, parse_metric):
        with contextlib.suppress(ValueError):
            parse(text)
