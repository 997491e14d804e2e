"""What is derived from the user's files: it means the same, holds no secret, and is read by all."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from deploys import deploy_of, texts_of, written
from hypothesis import example, given
from hypothesis import strategies as st

from hasim.components.prometheus.exporters import SHOWN
from hasim.export import artefacts
from hasim.export.artefacts import alerts, discovery, hosts, k6
from hasim.export.artefacts.compose import dump, projects
from hasim.export.artefacts.secret_names import SecretNames
from hasim.export.base import Artefact, Deploy
from hasim.export.validators_readback import again, differences, read_back
from hasim.read import pg_hba
from hasim.read.k6 import read_script
from hasim.read.prometheus import read_rules
from hasim.read.prometheus_ast import selectors
from hasim.read.yaml12 import Node, parse, plain
from hasim.scenario import FlowStep, Load
from hasim.source import Span
from hasim.stack import load

MODELS = ("story-portal", "story-portal-guide-bootable")
SECRETS = ("change-me", "repl_password", "redis_password", "postgres:postgres")


@pytest.fixture(scope="module", params=MODELS)
def deploy(request: pytest.FixtureRequest) -> Deploy:
    return deploy_of(request.param)


@pytest.fixture(scope="module")
def portal() -> Deploy:
    return deploy_of("story-portal")


def by_path(made: list[Artefact]) -> dict[str, Artefact]:
    return {one.path: one for one in made}


def test_the_same_files_make_the_same_bytes_in_path_order(deploy: Deploy) -> None:
    first, second = artefacts.make(deploy), artefacts.make(deploy)
    assert first == second
    assert [a.path for a in first] == sorted({a.path for a in first})


def test_what_a_host_mounts_is_byte_for_byte_the_users_file(deploy: Deploy) -> None:
    copies = [
        (a, a.path.split("/", 2)[2])
        for a in artefacts.make(deploy)
        if a.path.startswith("hosts/") and a.path.split("/", 2)[2] in deploy.texts
    ]
    assert len(copies) > 3
    assert all(a.text == deploy.texts[path] for a, path in copies)


def test_no_compose_file_of_ours_holds_a_secret(deploy: Deploy) -> None:
    made = by_path(artefacts.make(deploy))
    ours = [a for p, a in made.items() if p.endswith((hosts.COMPOSE, ".env.example", ".all.yml"))]
    assert ours
    assert any("_PASSWORD:?set it in .env}" in a.text for a in ours)
    for one in ours + [a for p, a in made.items() if p.startswith("extra/")]:
        assert not [s for s in SECRETS if s in one.text], one.path


def test_every_reference_has_its_name_in_the_example(deploy: Deploy) -> None:
    made = by_path(artefacts.make(deploy))
    for path, one in made.items():
        if path.endswith(hosts.COMPOSE):
            names = {part.split(":?")[0] for part in one.text.split("${")[1:]}
            example = made[path.removesuffix(hosts.COMPOSE) + ".env.example"].text
            assert names == {ln[:-1] for ln in example.splitlines() if ln.endswith("=")}


def test_exported_compose_files_mean_what_was_simulated(deploy: Deploy, tmp_path: Path) -> None:
    written(tmp_path, deploy, artefacts.make(deploy))
    checks = read_back(tmp_path, deploy)
    assert [c.artefact for c in checks] == [
        f"hosts/{p.host}/{hosts.COMPOSE}" for p in projects(deploy)
    ]
    assert [c.detail for c in checks if c.status != "passed"] == []


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("8109:8009", "8110:8009", "ports"),
        ("restart: unless-stopped", "restart: always", "restart"),
        ("  redis-1:\n", "  redis-9:\n", "compose_service"),
    ],
)
def test_a_changed_compose_file_does_not_read_back(
    portal: Deploy, tmp_path: Path, old: str, new: str, word: str
) -> None:
    written(tmp_path, portal, artefacts.make(portal))
    path = tmp_path / "hosts/host-a" / hosts.COMPOSE
    path.write_text(path.read_text().replace(old, new, 1))
    found = list(differences(portal, again(tmp_path, portal), "host-a"))
    assert any(word in text for text in found)


def test_limits_of_the_capacity_result_fill_only_what_is_not_stated(tmp_path: Path) -> None:
    deploy = deploy_of("story-portal-guide-bootable", {"redis": (0.5, 300 * 1024**2)})
    made = by_path(artefacts.make(deploy))
    tree = yaml.safe_load(made[f"hosts/host-a/{hosts.COMPOSE}"].text)["services"]
    limited = [n for n, s in tree.items() if "mem_limit" in s]
    assert limited == ["redis-master", "redis-replica-1", "redis-replica-2"]
    assert (tree["redis-master"]["cpus"], tree["redis-master"]["mem_limit"]) == (0.5, "300m")
    stated = deploy_of("story-portal", {"redis": (9.0, 9)})
    compose = f"hosts/host-a/{hosts.COMPOSE}"
    plain = by_path(artefacts.make(replace(stated, sizes={})))[compose].text
    assert by_path(artefacts.make(stated))[compose].text == plain


def test_one_file_for_all_only_where_one_engine_holds_all(deploy: Deploy) -> None:
    made = by_path(artefacts.make(deploy))
    if len(projects(deploy)) == 1:
        services = yaml.safe_load(made[hosts.ALL].text)["services"]
        assert set(services) == {i.compose_service for i in deploy.stack.instances} - {""}
    else:
        assert hosts.ALL not in made
        assert "'pg_data' is on host-a and on host-b" in made["extra/docker-compose.all.md"].text


def test_compose_files_in_a_folder_of_their_own(portal: Deploy, tmp_path: Path) -> None:
    """Bind mounts are relative to the compose file, also where that lies deeper."""
    stack = tmp_path / "stack"
    for path, text in portal.texts.items():
        deeper = path not in ("stack.yaml", "profile.yaml")
        target = stack / ("deploy" if deeper else "") / path
        target.parent.mkdir(parents=True, exist_ok=True)
        text = text.replace("[docker-compose.", "[deploy/docker-compose.")
        target.write_text(text, encoding="utf-8")
    read = load(stack)
    assert [i.name for i in read.instances] == [i.name for i in portal.stack.instances]
    moved = replace(portal, texts=texts_of(stack), stack=read, old=read)
    made = by_path(artefacts.make(moved))
    assert "hosts/host-a/deploy/haproxy.cfg" in made
    assert "./deploy/haproxy.cfg:" in made[f"hosts/host-a/{hosts.COMPOSE}"].text
    written(tmp_path / "out", moved, list(made.values()))
    assert [c.status for c in read_back(tmp_path / "out", moved)] == ["passed"] * 3


@pytest.mark.parametrize(
    ("key", "raw", "shown"),
    [
        ("POSTGRES_PASSWORD", "s3cret-word", "${POSTGRES_PASSWORD:?set it in .env}"),
        ("URL", "redis://:s3cret-word@h:1/0", "redis://:${REDIS_PASSWORD:?set it in .env}@h:1/0"),
        ("URL", "pg://me:s3cret-word@h", "pg://me:${ME_PASSWORD:?set it in .env}@h"),
        ("PASSWORD", "${DB_PASSWORD}", "${DB_PASSWORD}"),
        ("PASSWORD", "${DB_PASSWORD:-s3cret-word}", "${DB_PASSWORD:?set it in .env}"),
        ("command", "redis-server --requirepass s3cret-word --port 1",
         "redis-server --requirepass ${REDIS_PASSWORD:?set it in .env} --port 1"),
        ("WEB_CONCURRENCY", "2", "2"),
        ("POSTGRES_PASSWORD_FILE", "/run/secrets/pg", "/run/secrets/pg"),
        ("command", "x --password-file /run/secrets/pg", "x --password-file /run/secrets/pg"),
    ],
)  # fmt: skip
def test_secrets_become_references(key: str, raw: str, shown: str) -> None:
    assert SecretNames().hide(key, raw) == shown


def test_one_value_has_one_name_and_one_name_has_one_value() -> None:
    names = SecretNames()
    assert names.hide("URL", "redis://:first-value@h:1") == names.hide(
        "URL", "redis://:first-value@h:1"
    )
    assert "REDIS_PASSWORD_2" in names.hide("URL", "redis://:other-value@h:1")
    assert names.values == {"REDIS_PASSWORD": "first-value", "REDIS_PASSWORD_2": "other-value"}


def test_rules_name_only_metrics_that_exist_and_have_no_lint(deploy: Deploy) -> None:
    text = by_path(artefacts.make(deploy))[alerts.PATH].text
    groups, found = read_rules(text, alerts.PATH)
    assert found == []
    known = {"up"} | {name for of in SHOWN.values() for name in of}
    rules = [r for g in groups for r in g.rules]
    assert {s.name for r in rules for s in selectors(r.expr)} <= known
    assert all(r.for_s > 0 for r in rules)
    names = {r.alert for r in rules}
    assert {"InstanceDown", "NoTargets", "PostgresDown", "RedisDown", "FewServers"} <= names
    assert len(rules) == len(
        yaml.safe_load(by_path(artefacts.make(deploy))[alerts.TESTS].text)["tests"]
    )


def test_the_threshold_of_a_role_is_one_server(portal: Deploy) -> None:
    expr = {a.expr for a in alerts.rules(portal.stack)}
    assert 'haproxy_backend_active_servers{proxy="postgres-rw"} < 1' in expr
    assert 'haproxy_backend_active_servers{proxy="l09-api-gateway"} < 2' in expr


def _shares(flow: tuple[FlowStep, ...]) -> dict[str, Fraction]:
    out: dict[str, Fraction] = {}
    for step in flow:
        for op, weight in step.mix:
            share = Fraction(weight).limit_denominator(100) / len(flow)
            out[op.rpartition("/")[2]] = out.get(op.rpartition("/")[2], Fraction(0)) + share
    return out


def test_hasim_reads_the_same_load_out_of_the_k6_script(deploy: Deploy) -> None:
    ops = {o.path: o.name for s in deploy.stack.services for o in s.ops}
    for scenario in (s for s in deploy.scenarios.scenarios if s.kind == "run"):
        one = replace(deploy, scenarios=replace(deploy.scenarios, scenarios=(scenario,)))
        (made,) = k6.make(one)
        script, found = read_script(made.text, k6.PATH)
        assert found == []
        (read,) = script.scenarios
        load: Load = scenario.load
        assert (read.executor, read.stages, read.start) == (load.executor, load.stages, load.start)
        assert read.graceful_stop_s == load.graceful_stop_s
        asked = [ops[s.path] for s in read.steps if s.kind == "request"]
        counted = {op: Fraction(asked.count(op), len(asked)) for op in asked}
        assert counted == _shares(load.flow)
        slept = sum(s.seconds for s in read.steps if s.kind == "sleep")
        think = sum(step.think.a for step in load.flow) / len(load.flow)
        assert slept / len(asked) == pytest.approx(think)
        assert {s.method for s in read.steps if s.kind == "request"} <= {"GET", "POST"}


def test_budgets_are_thresholds_in_k6s_words(portal: Deploy) -> None:
    (made,) = k6.make(portal)
    script, _ = read_script(made.text, k6.PATH)
    assert [(t.metric, t.threshold) for t in script.thresholds] == [
        ("http_req_duration", "p(99)<1000"),
        ("http_req_failed", "rate<0.001"),
    ]
    assert "// Not in here, k6 cannot judge it: oom_kills: count==0" in made.text


@pytest.mark.parametrize("rate", [50.0, 120.0])
def test_an_iteration_of_several_requests_begins_less_often(portal: Deploy, rate: float) -> None:
    mix = (("browse", 0.8), ("publish", 0.2))
    flow = (FlowStep(mix),)
    wanted = Load("r", "constant-arrival-rate", ((60.0, rate),), rate, 1.0, 10, 99, flow=flow)
    scenario = next(s for s in portal.scenarios.scenarios if s.kind == "run")
    scenario = replace(scenario, load=wanted)
    one = replace(portal, scenarios=replace(portal.scenarios, scenarios=(scenario,)))
    script, found = read_script(k6.make(one)[0].text, k6.PATH)
    (read,) = script.scenarios
    requests = len([s for s in read.steps if s.kind == "request"])
    assert (found, requests) == ([], 5)
    assert read.start * requests / read.time_unit_s == pytest.approx(rate)


def test_the_discovery_list_is_what_the_routes_say(portal: Deploy) -> None:
    data = json.loads(discovery.make(portal)[0].text)
    gateway = data["services"]["l09-api-gateway"]
    assert gateway["entries"] == ["10.0.0.10:8009"]
    assert [i["address"] for i in gateway["instances"]] == [f"10.0.0.1{n}:8109" for n in (1, 2, 3)]
    assert data["sentinels"] == {"mymaster": [f"10.0.0.1{n}:26379" for n in (1, 2, 3)]}
    assert data["databases"]["postgres-rw"]["at"] == "10.0.0.10:5000"
    assert data["callers"]["l01-data-layer->postgres-ro"]["at"] == "10.0.0.10:5001"
    assert data["callers"]["l09-api-gateway->redis"]["by"] == "sentinel:mymaster"
    backends = {s.name: s for b in portal.stack.balancers for s in b.backends[0].servers}
    lines = [f"{s.address}:{s.port}" for s in backends.values()]
    assert [i["address"] for i in gateway["instances"]] == lines


def test_bridge_names_where_nothing_is_published() -> None:
    data = json.loads(discovery.make(deploy_of("story-portal-guide-bootable"))[0].text)
    assert data["services"]["l09-api-gateway"]["entries"] == ["host-a:8009"]
    assert data["services"]["redis"]["instances"][0]["address"] == "redis-master:6379"
    assert data["databases"]["standby"] == ["postgres-replica:5432"]


def test_settings_of_a_plain_primary_and_its_standby() -> None:
    made = by_path(artefacts.make(deploy_of("story-portal-guide-bootable")))
    primary = made["hosts/host-a/agentic-postgres/postgresql.conf"].text
    assert "max_wal_senders = '3'  # primary.sql:3" in primary
    hba, found = pg_hba.read(made["hosts/host-a/agentic-postgres/pg_hba.conf"].text, "pg_hba.conf")
    assert found == []
    rule = pg_hba.replication_rule(hba, "replicator")
    assert rule is not None
    assert rule.method == "scram-sha-256"
    standby = made["hosts/host-a/agentic-postgres-replica/postgresql.conf"].text
    assert "primary_conninfo = 'host=postgres port=5432 user=replicator" in standby
    assert "passfile=/run/secrets/pgpass" in standby
    ours = [a.text for p, a in made.items() if p.endswith((".conf", ".example"))
            and not p.endswith("sentinel.conf")]  # fmt: skip
    assert not [text for text in ours if "repl_password" in text or "redis_password" in text]


def test_redis_and_sentinels_without_a_folder_get_one_each() -> None:
    deploy = deploy_of("story-portal-guide-bootable")
    made = by_path(artefacts.make(deploy))
    for n in (1, 2, 3):
        path = f"hosts/host-a/agentic-sentinel-{n}/sentinel.conf"
        assert made[path].text == deploy.texts["redis-sentinel.conf"]
    replica = made["hosts/host-a/agentic-redis-replica-1/redis.conf"].text
    assert "\nreplicaof redis-master 6379\n" in replica
    assert "\ninclude /run/secrets/redis.conf\n" in replica
    assert "# requirepass" in made["hosts/host-a/agentic-redis-master/secret.conf.example"].text


def test_what_has_a_folder_of_its_own_is_left_alone(portal: Deploy) -> None:
    made = by_path(artefacts.make(portal))
    assert not [p for p in made if p.endswith("sentinel.conf") and "/sentinel/" not in p]
    assert not [p for p in made if p.endswith("postgresql.conf")]


@given(
    st.lists(
        st.text(
            st.characters(
                codec="utf-8", categories=("L", "N", "P", "S", "Zs"), include_characters="\n\t"
            ),
            max_size=30,
        ),
        max_size=4,
    )
)
@example(["yes", "1:30", "0x1f", "~", "- a", "a: b", "a #b", " x\n  y\n", "'", '"', "!reset x"])
def test_what_is_written_is_read_alike_by_old_and_new_yaml(words: list[str]) -> None:
    """PyYAML (compose 1.29.2) follows YAML 1.1, compose 2 and hasim 1.2."""
    quoted = [Node("scalar", w, Span("", 1, 1), raw=w, style='"') for w in words]
    text = dump(
        Node("map", ((_word("k"), Node("seq", tuple(quoted), Span("", 1, 1))),), Span("", 1, 1))
    )
    assert yaml.safe_load(text) == {"k": words}
    node, found = parse(text, "x.yml")
    assert found == []
    assert node is not None
    assert plain(node) == {"k": words}


def _word(text: str) -> Node:
    return Node("scalar", text, Span("", 1, 1), raw=text)
