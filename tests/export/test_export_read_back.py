"""Whatever the settings: the written files read back to the stack that was simulated, and nothing
but the values that were set has changed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from deploys import ROOT
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hasim.errors import InputError, SimulationBug
from hasim.export.files import gather
from hasim.export.writer import _write_own, moved, read_back
from hasim.model import Knob, Stack
from hasim.report.diff import changes
from hasim.source import Patch
from hasim.stack import knobs_named, load, patch_of, patched, with_settings

MODELS = ("story-portal", "story-portal-guide-bootable")


@cache
def stack_of(model: str) -> Stack:
    return load(ROOT / "models" / model)


@cache
def tunable(model: str) -> list[Knob]:
    """Knobs with a number in their value, one for each name."""
    found = {k.name: k for k in stack_of(model).knobs if re.search(r"\d", k.value)}
    return list(found.values())


@st.composite
def settings_of(draw: st.DrawFn, model: str) -> dict[str, str]:
    """Some knobs with their number multiplied: the units and the words around it stay."""
    knobs = draw(st.lists(st.sampled_from(tunable(model)), min_size=1, max_size=4, unique=True))
    out = {}
    for knob in knobs:
        times = draw(st.sampled_from((1, 2, 3, 7)))
        out[knob.name] = re.sub(r"\d+", lambda m, n=times: str(int(m[0]) * n), knob.value, count=1)
    return out


def try_settings(model: str, wanted: dict[str, str]) -> tuple[dict[str, str], Stack] | None:
    """(texts, stack) or None if the values contradict each other."""
    folder = ROOT / "models" / model
    try:
        return patched(folder, wanted), with_settings(folder, wanted)
    except InputError:
        return None


@pytest.mark.parametrize("model", MODELS)
@given(data=st.data())
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_files_read_back_to_the_stack_that_was_simulated(model: str, data: st.DataObject) -> None:
    wanted = data.draw(settings_of(model))
    made = try_settings(model, wanted)
    assume(made is not None)
    assert made is not None
    texts, simulated = made
    folder = ROOT / "models" / model
    whole, _ = gather(folder, stack_of(model))
    with tempfile.TemporaryDirectory() as temp:
        _write_own(Path(temp), folder, {**whole, **texts})
        read_back(Path(temp) / "stack", simulated)
        again = load(Path(temp) / "stack")
        for path, text in texts.items():
            assert (Path(temp) / "stack" / path).read_bytes() == text.encode()
    assert again.sha256 == simulated.sha256
    assert replace(again, folder="", name="") == replace(simulated, folder="", name="")
    if not any(name.startswith("replicas.") for name in wanted):  # tests/test_replicas.py
        only_patches(model, wanted, texts)
    differ = {k.name for k in stack_of(model).knobs} & set(wanted)
    changed = {k.name for k in moved(stack_of(model), simulated)}
    real = {n for n in differ if any(k.value != wanted[n] for k in knobs(model, n))}
    assert real <= changed


def knobs(model: str, name: str) -> list[Knob]:
    return knobs_named(stack_of(model).knobs, name)


def only_patches(model: str, wanted: dict[str, str], texts: dict[str, str]) -> None:
    """What lies between the patches of a file stands in the new text, in order, and fills it."""
    patches: dict[str, set[Patch]] = {}
    for name, value in wanted.items():
        for knob in knobs(model, name):
            patch = patch_of(knob, value)
            patches.setdefault(patch.span.file, set()).add(patch)
    for path, text in texts.items():
        old = (ROOT / "models" / model / path).read_bytes().decode()
        if path not in patches:
            assert text == old
            continue
        at = there = 0
        for patch in sorted(patches[path], key=lambda p: (p.span.start, p.span.end)):
            kept = old[at : patch.span.start]
            assert text[there : there + len(kept)] == kept
            there += len(kept)
            assert text[there : there + len(patch.text)] == patch.text
            there += len(patch.text)
            at = patch.span.end
        assert text[there:] == old[at:]


@pytest.mark.parametrize("model", MODELS)
def test_one_changed_byte_does_not_read_back(model: str, tmp_path: Path) -> None:
    folder = ROOT / "models" / model
    texts, _ = gather(folder, stack_of(model))
    texts["haproxy.cfg"] = texts["haproxy.cfg"] + "\n"
    _write_own(tmp_path, folder, texts)
    with pytest.raises(SimulationBug, match="do not read back"):
        read_back(tmp_path / "stack", stack_of(model))


def test_the_diff_of_tuned_timeouts_is_only_the_changed_values() -> None:
    """The issue's example: the exported haproxy.cfg differs in the values that were set."""
    model = "story-portal-guide-bootable"
    wanted = {"haproxy.defaults.timeout_server": "3s", "haproxy.defaults.timeout_connect": "500ms"}
    before = patched(ROOT / "models" / model, {})
    diff = changes(before, patched(ROOT / "models" / model, wanted))
    assert diff.files == (("haproxy.cfg", 2, 2),)
    lines = diff.text.splitlines()
    signed = [ln for ln in lines if re.match(r"[+-](?![+-])", ln)]
    assert [ln.split() for ln in signed] == [
        ["-", "timeout", "connect", "5000"],
        ["+", "timeout", "connect", "500"],
        ["-", "timeout", "server", "50000"],
        ["+", "timeout", "server", "3000"],
    ]


@given(
    before=st.dictionaries(st.sampled_from("abc"), st.text("xy\n", max_size=12)),
    after=st.dictionaries(st.sampled_from("abc"), st.text("xy\n", max_size=12)),
)
@settings(max_examples=25, deadline=None)
def test_patch_makes_the_new_files_of_the_old_ones(
    before: dict[str, str], after: dict[str, str]
) -> None:
    if not shutil.which("patch"):
        pytest.skip("no patch on this machine")
    diff = changes(before, after)
    with tempfile.TemporaryDirectory() as temp:
        for path, text in before.items():
            (Path(temp) / path).write_text(text)
        words = ["patch", "-p1", "-s", "-E", "--no-backup-if-mismatch"]
        subprocess.run(words, cwd=temp, input=diff.text.encode(), check=True)
        found = {p.name: p.read_text() for p in Path(temp).iterdir()}
    # an empty file has no hunk, and patch takes away a file that becomes empty
    assert {p: t for p, t in found.items() if t} == {p: t for p, t in after.items() if t}
