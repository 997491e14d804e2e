"""Trials of keepalived 2.2.7 that recorded their phases, and the same trials simulated."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import mean

import pytest
from vrrp_lab import Lab, at

FILE = Path(__file__).resolve().parent.parent / "measured" / "keepalived.csv"
TRIALS = [
    {key: float(value) for key, value in row.items()}
    for row in csv.DictReader(FILE.read_text().splitlines())
]
# How late a real process, its script and a packet capture are (reference: within + 0.06 s).
LATE_S = 0.06
WHEN = 20.0


def replay(trial: dict[str, float]) -> dict[str, float]:
    """HAProxy is killed as long before the script's next run as in the trial."""
    weight = int(trial["weight"])
    quiet = Lab(1, (at("docker-kill", "haproxy-a", WHEN),), weight=weight).run(WHEN + 9)
    phase = quiet.when("VRRP_Script(chk) failed", "a", 0)[0]
    when = phase + 2.0 - trial["script_s"]
    lab = Lab(1, (at("docker-kill", "haproxy-a", when),), weight=weight).run(when + 9)
    failed = lab.when("VRRP_Script(chk) failed", "a", 0)[0]
    taken = lab.master("b", when)
    age = (failed - lab.began) % 1.0
    return {
        "takeover_s": taken - when,
        "script_s": failed - when,
        "age_s": age,
        "silence_s": taken - failed + age,
    }


@pytest.mark.parametrize("number", range(len(TRIALS)))
def test_a_trial_with_its_phase(number: int) -> None:
    trial = TRIALS[number]
    seen = replay(trial)
    assert seen["script_s"] == pytest.approx(trial["script_s"], abs=0.001)
    assert 0 <= trial["takeover_s"] - seen["takeover_s"] + 0.01 <= LATE_S


def test_the_adverts_of_a_fresh_master_keep_the_phase_of_its_script() -> None:
    """The script failed 0.395 s after the last good advert, or a little less (drift)."""
    for weight in (0, -20):
        ages = [t["age_s"] for t in TRIALS if t["weight"] == weight]
        assert max(ages) <= 0.395 + 0.01
        assert min(ages) >= 0.28
        assert mean(ages) == pytest.approx(0.39, abs=0.05)


@pytest.mark.parametrize("change", [{"advert": 1.1}, {"priority": {"a": 101, "b": 85}}])
def test_another_setting_does_not_pass_for_the_measured_one(change) -> None:
    """The comparison can fail: a longer interval, a longer skew."""
    trial = next(t for t in TRIALS if t["weight"] == -20)
    fault = (at("docker-kill", "haproxy-a", WHEN),)
    lab = Lab(1, fault, weight=-20, **change).run(WHEN + 12)
    failed = lab.when("VRRP_Script(chk) failed", "a", 0)[0]
    wait = lab.master("b", WHEN) - failed
    measured = trial["takeover_s"] - trial["script_s"]
    assert not 0 <= measured - wait + 0.01 <= LATE_S
