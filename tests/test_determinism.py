"""The same inputs and seed give the same bytes, whatever the number of workers."""

from __future__ import annotations

from pathlib import Path

from test_cli import FAULT, HEAD, OPEN, PASS, here, run  # noqa: F401 - a fixture


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes()
            for p in sorted(folder.rglob("*")) if p.is_file()}  # fmt: skip


BODY = PASS + FAULT.replace("web-1", '"web[?]"') + OPEN


def test_run_folders_are_byte_identical_for_any_number_of_workers(here: Path) -> None:  # noqa: F811
    options = ("--replications", "5", "--requests", "--series", "all")
    printed = {}
    for jobs in ("1", "2", "3"):
        words = ("--jobs", jobs, "--out", f"out/{jobs}")
        printed[jobs] = run(*options, *words, code=99, body=BODY)[0]
    first = content(Path("out/1"))
    assert len(first) > 10
    assert first == content(Path("out/2")) == content(Path("out/3"))
    assert printed["1"] == printed["2"] == printed["3"]
    for data in first.values():
        assert str(here).encode() not in data


def test_a_scenario_does_not_depend_on_those_beside_it(here: Path) -> None:  # noqa: F811
    run("--out", "out/all", code=99, body=BODY)
    run("crash", "--out", "out/one", code=99, body=BODY)
    whole, one = content(Path("out/all")), content(Path("out/one"))
    replays = [name for name in one if name.startswith("replays/")]
    assert replays
    assert all(one[name] == whole[name] for name in replays)


def test_another_seed_gives_another_run(here: Path) -> None:  # noqa: F811
    run("--out", "out/a", code=99, body=BODY)
    run("--out", "out/b", "--seed", "8", code=99, body=BODY)
    a, b = content(Path("out/a")), content(Path("out/b"))
    assert a["timeline.csv.gz"] != b["timeline.csv.gz"]
