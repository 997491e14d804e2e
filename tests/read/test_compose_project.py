"""The compose reader on whole projects: the guide, the knobs, the real tool, and anything else."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasim.errors import Finding
from hasim.read.compose import read_project
from hasim.read.compose_knobs import knobs
from hasim.read.compose_types import ComposeProject
from hasim.read.yaml12 import parse, plain
from hasim.source import Default, Patch, Span, apply_patches

MODELS = Path(__file__).parents[2] / "models"


def load(files: dict[str, str], *names: str) -> tuple[ComposeProject, list[Finding]]:
    return read_project(names or ("a.yml",), files.__getitem__, {"TAG": "2"})


def good(files: dict[str, str], *names: str) -> ComposeProject:
    project, findings = load(files, *names)
    assert [str(f) for f in findings] == []
    return project


# ---- the guide's files ------------------------------------------------------------------


def model(name: str) -> tuple[ComposeProject, list[Finding], dict[str, str]]:
    files = {p.name: p.read_text("utf-8") for p in (MODELS / name).glob("*.yml")}
    return *load(files, "docker-compose.ha.yml"), files


def test_the_guide_as_printed_is_refused_for_its_misplaced_services():
    project, findings, _ = model("story-portal-guide")
    assert {f.code for f in findings} == {"HA141"}
    assert len(findings) == len(project.misplaced) == 8
    assert project.misplaced[0][0] == "postgres-replica"
    gateways = [s for n, s in project.services.items() if n.startswith("l09")]
    assert [[p.host_port for p in s.ports] for s in gateways] == [[8009]] * 3  # DC-1


def test_every_span_of_the_bootable_guide_holds_what_was_read():
    project, findings, files = model("story-portal-guide-bootable")
    assert findings == []
    checked = 0
    for service in project.services.values():
        for path, span in service.where.items():
            text = files[span.file][span.start : span.end]
            if path in service.written and "\n" not in text:
                assert text.strip("'\"") == service.written[path]
                checked += 1
        for port in service.ports:
            text = files["docker-compose.ha.yml"][port.span.start : port.span.end]
            assert text == f'"{port.host_port}:{port.container_port}"'
    assert checked > 80


# ---- knobs ------------------------------------------------------------------------------

KNOBS = """\
services:
  own:
    image: x   # first
    cpus: "1"   # stays
    healthcheck:
      test: ok
      interval: 5s
  child:
    extends: {file: base.yml, service: b}
    hostname: h  # last
  flow: {image: x}
"""
KNOB_BASE = "services:\n  b: {image: x, restart: always, healthcheck: {test: ok, retries: 5}}\n"
WANTED = {
    "cpus": "2",
    "mem_limit": "64m",
    "restart": "on-failure",
    "stop_grace_period": "3s",
    "healthcheck.interval": "9s",
    "healthcheck.retries": "7",
    "cpu_shares": "3",
    "mem_reservation": "32m",
    "stop_signal": "SIGINT",
    "init": "true",
    "healthcheck.timeout": "8s",
    "healthcheck.start_period": "6s",
}


@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_each_knob_changes_exactly_what_it_names(eol):
    files = {"a.yml": KNOBS.replace("\n", eol), "base.yml": KNOB_BASE}
    project = good(files)
    found = knobs(project)
    assert {k.effect for k in found} == {"recreate"}
    names = [k.name for k in found]
    assert len(names) == len(set(names))
    assert len([n for n in names if n.startswith("compose.child.")]) == 12
    assert len([n for n in names if n.startswith("compose.flow.")]) == 8
    for knob in found:
        _, name, field = knob.name.split(".", 2)
        if isinstance(knob.origin, Span) and knob.origin.start >= 0:
            patch = Patch(knob.origin, WANTED[field])
        else:
            assert knob.insert is not None
            patch = Patch(knob.insert, knob.insert_text.replace("{value}", WANTED[field]))
        assert patch.span.file == "a.yml"
        text = apply_patches(files["a.yml"], [patch])
        after = good(files | {"a.yml": text})
        for other, service in after.services.items():
            before = dict(project.services[other].written)
            if other == name:
                before[field] = WANTED[field]
            assert service.written == before, knob
        assert "# first" in text
        assert field != "cpus" or name != "own" or 'cpus: "2"   # stays' in text
        assert text.count(eol) == text.count("\n")


def test_a_service_that_is_an_alias_has_no_knobs_of_its_own():
    text = "services:\n  a: &a\n    image: x\n    cpus: 1\n  b: *a\n  c:\n    <<: *a\n"
    found = {k.name: k for k in knobs(good({"a.yml": text}))}
    assert [n for n in found if n.startswith("compose.b.")] == []
    merged = found["compose.c.cpus"]
    assert merged.insert is not None
    line = merged.insert_text.replace("{value}", "2")
    changed = apply_patches(text, [Patch(merged.insert, line)])
    after = good({"a.yml": changed}).services
    assert [after[n].cpus for n in "abc"] == [1.0, 1.0, 2.0]


def test_knobs_say_where_their_value_comes_from():
    found = {k.name: k for k in knobs(good({"a.yml": KNOBS, "base.yml": KNOB_BASE}))}
    assert (found["compose.own.cpus"].value, str(found["compose.own.cpus"].origin)) == (
        "1",
        "a.yml:4:12",
    )
    inherited = found["compose.child.restart"]
    assert (inherited.value, str(inherited.origin)) == ("always", "base.yml:2:26")
    assert isinstance(inherited.origin, Span)
    assert inherited.origin.start == -1
    grace = found["compose.own.stop_grace_period"]
    assert grace.value == "10s"
    assert isinstance(grace.origin, Default)


# ---- against the real thing -------------------------------------------------------------


BASE = """\
services:
  db:
    image: pg
    environment: {X: 1, Y: 1}
    command: [a, b]
    ports: ["5432:5432"]
    volumes: ["data:/d", "./c:/c:ro"]
    healthcheck: {test: [CMD, ok], interval: 5s}
    networks: [back]
volumes: {data: {}}
networks: {back: {}}
"""
OVER = """\
services:
  db:
    environment:
      - X=2
      - Z
    command: run
    ports: ["5433:5432", "5432:5432"]
    volumes: ["other:/d"]
    healthcheck: {interval: 7s}
    networks: {front: {aliases: [pg]}}
volumes: {other: }
networks: {front: }
"""


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="no docker-compose on PATH")
def test_docker_compose_resolves_the_same(tmp_path):
    """1.29.2 and 2.x agree on all of this; the newer forms are left out of the input."""
    files = {
        "a.yml": 'version: "3.8"\nx-base: &base\n  restart: always\n'
        + BASE.replace("    image: pg", "    <<: *base\n    image: 'pg:${TAG}'")
        + "  # end\n",
        "b.yml": 'version: "3.8"\n' + OVER.replace("      - Z\n", "      - Z=${NO:-q}\n"),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / ".env").write_text("TAG=5\n")
    done = subprocess.run(
        ["docker-compose", "-f", "a.yml", "-f", "b.yml", "config"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    node, _ = parse(done.stdout, "out.yml")
    assert node is not None
    real = plain(node)["services"]["db"]
    ours = good(files | {".env": "TAG=5\n"}, "a.yml", "b.yml")
    service = read_project(("a.yml", "b.yml"), {**files, ".env": "TAG=5\n"}.__getitem__, {})[0]
    mine = service.services["db"]
    assert ours.services["db"].image == "pg:2"  # the shell goes before .env
    assert real["image"] == mine.image == "pg:5"
    assert {k: str(v) for k, v in real["environment"].items()} == mine.environment
    assert real["restart"] == mine.restart
    assert [(p["published"], p["target"]) for p in real["ports"]] == [
        (p.host_port, p.container_port) for p in mine.ports
    ]
    assert sorted(real["networks"]) == sorted(n.network for n in mine.networks)
    assert [v.split(":")[1] for v in real["volumes"]] == ["/c", "/d"]
    assert {v.target for v in mine.volumes} == {"/c", "/d"}
    check = mine.healthcheck
    assert check is not None
    assert (real["healthcheck"]["interval"], check.interval_s) == ("7s", 7.0)
    assert tuple(real["healthcheck"]["test"]) == check.test


# ---- anything may stand in a file -------------------------------------------------------

SEEDS = {
    "ha": (MODELS / "story-portal-guide-bootable" / "docker-compose.ha.yml").read_text("utf-8"),
    "app": (MODELS / "story-portal-guide-bootable" / "docker-compose.app.yml").read_text("utf-8"),
}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(SEEDS)),
    st.floats(0, 1),
    st.integers(0, 40),
    st.sampled_from(
        ["", "~", "[]", "{}", "!reset", ": ", "\n", "- ", "${A", "é", "[1, {a: 2}]", "1"]
    ),
)
def test_no_mutation_raises_and_results_repeat(which, where, cut, put):
    text = SEEDS[which]
    at = int(where * len(text))
    changed = text[:at] + put + text[at + cut :]
    files = {"docker-compose.app.yml": SEEDS["app"], f"docker-compose.{which}.yml": changed}
    first = load(files, f"docker-compose.{which}.yml")
    assert first == load(files, f"docker-compose.{which}.yml")
    for knob in knobs(first[0]):
        assert knob.name.startswith("compose.")


FIELDS = [
    "image",
    "ports",
    "environment",
    "healthcheck",
    "deploy",
    "depends_on",
    "networks",
    "volumes",
    "extends",
    "command",
    "labels",
    "env_file",
    "secrets",
    "extra_hosts",
    "cpus",
    "scale",
    "links",
    "expose",
    "profiles",
    "restart",
    "mem_limit",
    "init",
    "pid",
]
JUNK = st.recursive(
    st.sampled_from(
        ["", "a", "1", "-1", "a:b", "a=b", "$X", "true", "9" * 30, "80:80", "service:a"]
    ),
    lambda x: (
        st.lists(x, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["test", "resources", "limits", "cpus", "file", "service", "a", "target"]
            ),
            x,
            max_size=3,
        )
    ),
    max_leaves=5,
)


@settings(max_examples=120, deadline=None)
@given(
    st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=4),
    st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=4),
)
def test_no_value_of_a_field_raises(one, two):
    files = {
        "a.yml": json.dumps({"services": {"a": one, "b": two}}),
        "b.yml": json.dumps({"services": {"a": two}, "volumes": one, "networks": two}),
    }
    project, _ = load(files, "a.yml", "b.yml")
    knobs(project)
