"""Durations, sizes and shares: each dialect's rules, and that text survives a round trip."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasim.units import (
    format_duration,
    parse_cores,
    parse_duration_s,
    parse_fraction,
    parse_size_bytes,
)


@pytest.mark.parametrize(
    ("text", "dialect", "seconds"),
    [
        ("2000", "haproxy", 2.0),
        ("500ms", "haproxy", 0.5),
        ("250us", "haproxy", 0.00025),
        ("1d", "haproxy", 86400.0),
        ("5000", "redis", 5.0),
        ("10000", "sentinel", 10.0),
        ("30", "patroni", 30.0),
        ("1m30s", "compose", 90.0),
        ("90s", "go", 90.0),
        ("1.5h", "go", 5400.0),
        ("5m", "prom", 300.0),
        ("1h30m", "prom", 5400.0),
        ("10s", "pg", 10.0),
        ("2min", "pg", 120.0),
        ("1000", "pg", 1.0),
        ("0.4ms", "yaml", 0.0004),
        ("1y", "scenario", 365 * 86400.0),
    ],
)
def test_durations(text, dialect, seconds):
    assert parse_duration_s(text, dialect) == seconds


def test_bare_unit_by_parameter():
    assert parse_duration_s("60", "pg", unit="s") == 60.0


@pytest.mark.parametrize(
    ("text", "dialect", "says"),
    [
        ("0", "haproxy", "zero"),
        ("-1", "haproxy", "negative"),
        ("nan", "yaml", "finite"),
        ("inf", "haproxy", "finite"),
        ("1e9999999", "haproxy", "only one number"),
        ("9" * 70, "redis", "too large"),
        ("2147483648", "haproxy", "too large"),
        ("25d", "haproxy", "too large"),
        ("1.5s", "haproxy", "whole"),
        ("1m30s", "haproxy", "only one number"),
        ("2x", "haproxy", "unknown unit"),
        ("5s", "sentinel", "bare numbers only"),
        ("30", "compose", "needs a unit"),
        ("5", "scenario", "needs a unit"),
        ("30m1h", "prom", "largest first"),
        ("1m1m", "go", "at most once"),
        ("", "haproxy", "empty"),
        ("1:30", "yaml", "not a duration"),
        ("٣s", "yaml", "not a duration"),
        ("9e5y", "yaml", "unknown unit"),
        ("9999y", "yaml", "too large"),
    ],
)
def test_bad_durations(text, dialect, says):
    with pytest.raises(ValueError, match=says):
        parse_duration_s(text, dialect)


def test_zero_where_the_caller_allows_it():
    assert parse_duration_s("0", "haproxy", zero=True) == 0.0
    assert parse_duration_s("0", "go", zero=True) == 0.0


@pytest.mark.parametrize(
    ("value_s", "dialect", "like", "text"),
    [
        (0.5, "haproxy", "2000", "500"),
        (3.0, "haproxy", "2s", "3s"),
        (0.5, "haproxy", "2s", "500ms"),
        (0.00025, "haproxy", "2s", "250us"),
        (0.00025, "haproxy", "2000", "250us"),
        (5.0, "haproxy", "", "5s"),
        (5.0, "sentinel", "30000", "5000"),
        (20.0, "patroni", "30", "20"),
        (0.5, "compose", "10s", "0.5s"),
        (90.0, "prom", "5m", "90s"),
        (0.0, "haproxy", "2000", "0"),
    ],
)
def test_format(value_s, dialect, like, text):
    assert format_duration(value_s, dialect, like) == text


@pytest.mark.parametrize("value_s", [-1.0, float("nan"), float("inf"), 1e300])
def test_format_refuses(value_s):
    with pytest.raises(ValueError, match="duration|too large"):
        format_duration(value_s, "haproxy", "2s")


@settings(max_examples=60, deadline=None)
@given(
    ms=st.integers(1, 10**8),
    dialect=st.sampled_from(["haproxy", "sentinel", "go", "prom", "pg", "yaml", "patroni"]),
    like=st.sampled_from(["2000", "2s", "5m", "", "100ms"]),
)
def test_round_trip(ms, dialect, like):
    assert parse_duration_s(format_duration(ms / 1000, dialect, like), dialect) == ms / 1000


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=12))
def test_any_text_gives_a_number_or_value_error(text):
    for dialect in ("haproxy", "redis", "go", "prom", "pg", "yaml"):
        with contextlib.suppress(ValueError):
            assert 0 < parse_duration_s(text, dialect) < 1e20


@pytest.mark.parametrize(
    ("text", "dialect", "size"),
    [
        ("512m", "compose", 512 * 2**20),
        ("1.5gb", "compose", 3 * 2**29),
        ("16GiB", "yaml", 16 * 2**30),
        ("1GB", "yaml", 10**9),
        ("1gb", "redis", 2**30),
        ("1g", "redis", 10**9),
        ("100", "redis", 100),
        ("128MB", "pg", 2**27),
        ("16k", "haproxy", 16384),
    ],
)
def test_sizes(text, dialect, size):
    assert parse_size_bytes(text, dialect) == size


def test_size_of_a_bare_page_count():
    assert parse_size_bytes("16384", "pg", unit_bytes=8192) == 2**27


@pytest.mark.parametrize(
    ("text", "dialect"),
    [("16", "yaml"), ("1gb", "pg"), ("0", "redis"), ("-1m", "compose"), ("9" * 30, "redis")],
)
def test_bad_sizes(text, dialect):
    with pytest.raises(ValueError, match="unit|zero|negative|too large"):
        parse_size_bytes(text, dialect)


def test_shares_and_cores():
    assert parse_fraction("5%") == 0.05
    assert parse_fraction("0.8") == 0.8
    assert parse_cores("0.5") == 0.5
    for text in ("101%", "1.5", "x", "nan", "-1%"):
        with pytest.raises(ValueError, match="."):
            parse_fraction(text)
    for text in ("0", "inf", "-1", "1e3"):
        with pytest.raises(ValueError, match="."):
            parse_cores(text)
