"""Prometheus at work on a stack: what it sees of each fault, when alerts are pending and fire."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_world import FakeWorld, make_stack

from hasim.components.base import Placed
from hasim.components.prometheus import COMPONENT
from hasim.components.prometheus.config import Config
from hasim.components.prometheus.lint import findings
from hasim.components.prometheus.scrape import Store, targets
from hasim.components.prometheus.without_container import assumed, rule_files, stand_in
from hasim.model import Frontend, Instance
from hasim.read.compose_types import ComposeService
from hasim.sim.instances import Machine
from hasim.source import Span

MODELS = Path(__file__).resolve().parents[2] / "models"

DOWN = """\
groups:
  - name: g
    rules:
      - alert: GatewayDown
        expr: up{job="gw"} == 0
        for: 30s
        labels: {severity: page}
"""
FEW = """\
groups:
  - name: g
    rules:
      - alert: FewServers
        expr: haproxy_backend_active_servers{proxy="gw"} < 3
        for: 30s
"""
MAIN = """\
global: {scrape_interval: 10s, evaluation_interval: 10s, scrape_timeout: 5s}
rule_files: [alerts.yml]
scrape_configs:
  - job_name: haproxy
    static_configs: [{targets: ["haproxy:8404"]}]
  - job_name: gw
    static_configs: [{targets: ["gw-1:8009", "gw-2:8009", "gw-3:8009"]}]
"""


class Folder:
    """Files by their path; each is mounted at its own path below /etc/prometheus."""

    def __init__(self, **files: str):
        self.files = {k.replace("_yml", ".yml"): v for k, v in files.items()}

    def text(self, path: str, optional: bool = False) -> str | None:
        return self.files.get(path)

    def mounted(self, one: Placed, path: str) -> tuple[str, bool] | None:
        name = path.removeprefix("/etc/prometheus/")
        return (name, True) if name in self.files else None


def placed(*command: str) -> Placed:
    return Placed(
        Instance("prometheus", "prometheus", "host-1"),
        service=service("prom/prometheus:v2.48.0", command=command),
    )


def service(image: str, **more) -> ComposeService:
    return ComposeService(
        "prometheus", Span("compose.yml", 3, 3), "compose.yml", image=image, **more
    )


def lab(rules: str, main: str = MAIN, metrics: bool = True, phases: dict | None = None):
    """HAProxy, three gateways and a Prometheus on host-1; the load begins at 20 s."""
    made = COMPONENT.configure(placed(), Folder(prometheus_yml=main, alerts_yml=rules))
    assert not [f for f in made.findings if f.severity == "error"], made.findings
    stack, edges = make_stack()
    front = Frontend("stats", "http", (("*", 8404),), "", metrics=metrics)
    stack = replace(stack, balancers=(replace(stack.balancers[0], frontends=(front,)),))
    names = {i.name: i.name for i in stack.instances}
    peers = {f"{a}:{p}": names[a] for a, p in made.dials if a in names}
    one = Instance("prometheus", "prometheus", "host-4", config=made.config, peers=peers)
    stack = replace(stack, instances=(*stack.instances, one))
    world = FakeWorld(stack, edges, phases)
    machine = Machine(world)
    for name in machine.containers:
        machine.docker.start(name)
    world.run(20)
    world.start_ns = world.env.now
    machine.load_started()
    return world, machine


def alerts(world: FakeWorld) -> list[tuple[float, str, str]]:
    words = ("alert pending", "ALERTS firing", "resolved", "alert inactive")
    return [
        (t, event, detail.split("{")[0] + detail.partition("}")[2])
        for _, _, t, who, event, detail in world.rows
        if who == "prometheus" and event in words
    ]


# ---- time --------------------------------------------------------------------------------------
def test_a_dead_gateway_is_pending_then_fires_then_resolves() -> None:
    phases = {"prometheus": 0.5, "prometheus.scrape": 0.2}
    world, machine = lab(DOWN, phases=phases)
    world.run(31)
    machine.docker.kill("gw-2")
    world.run(120)
    machine.docker.start("gw-2")
    world.run(200)
    # scrapes at .2 + 10 n, evaluations at .5 + 10 n: seen by the first of both after the fault
    assert alerts(world) == [
        (40.5, "alert pending", "GatewayDown value 0"),
        (70.5, "ALERTS firing", "GatewayDown value 0"),
        (130.5, "resolved", "GatewayDown value 0"),
    ]
    row = next(r for r in world.rows if r[4] == "ALERTS firing")
    assert 'instance="gw-2:8009",job="gw",severity="page"' in row[5]
    pending = world.rows[row[1]]
    assert pending[4] == "alert pending"
    assert "kill" in world.rows[pending[1]][4] or "die" in world.rows[pending[1]][4]


def test_a_short_loss_never_fires() -> None:
    world, machine = lab(DOWN, phases={"prometheus": 0.5, "prometheus.scrape": 0.2})
    world.run(31)
    machine.docker.kill("gw-2")
    world.run(55)
    machine.docker.start("gw-2")
    world.run(200)
    # it listens again at 60 s, after its boot
    assert alerts(world) == [
        (40.5, "alert pending", "GatewayDown value 0"),
        (60.5, "alert inactive", "GatewayDown value 0"),
    ]


def test_a_hanging_gateway_is_seen_when_the_scrape_times_out() -> None:
    world, machine = lab(DOWN, phases={"prometheus": 0.5, "prometheus.scrape": 0.2})
    world.run(31)
    machine.freeze("gw-1")
    world.run(90)
    # the scrape of 40.2 ends at 45.2; the evaluation of 40.5 still has the sample of 30.2
    assert alerts(world)[:2] == [
        (50.5, "alert pending", "GatewayDown value 0"),
        (80.5, "ALERTS firing", "GatewayDown value 0"),
    ]


def test_a_pause_that_ends_within_the_timeout_is_not_seen() -> None:
    world, machine = lab(DOWN, phases={"prometheus": 0.5, "prometheus.scrape": 0.2})
    world.run(39)
    machine.freeze("gw-1")
    world.run(44)
    machine.thaw("gw-1")
    world.run(200)
    assert alerts(world) == []


def test_power_off_is_silence_and_the_alert_follows_the_fault() -> None:
    world, machine = lab(DOWN, phases={"prometheus": 0.5, "prometheus.scrape": 0.2})
    world.run(31)
    fault = world.log("fault", "fault: power-off", "host-2")
    machine.power_off("host-2", fault)
    world.run(90)
    found = [r for r in world.rows if r[4] == "alert pending"]
    assert len(found) == 1
    assert found[0][1] == fault


def test_haproxys_gauge_follows_its_checks() -> None:
    phases = {"prometheus": 0.5, "prometheus.scrape": 0.2, "haproxy": 0.0}
    world, machine = lab(FEW, phases=phases)
    world.run(31)
    machine.docker.kill("gw-3")
    world.run(100)
    down = next(r for r in world.rows if "gw/s3 is DOWN" in r[4])
    assert down[2] < 40
    assert alerts(world) == [
        (40.5, "alert pending", "FewServers value 2"),
        (70.5, "ALERTS firing", "FewServers value 2"),
    ]
    pending = next(r for r in world.rows if r[4] == "alert pending")
    assert "Health check for server gw/s3 failed" in world.rows[pending[1]][4]


def test_series_vanish_with_a_failed_scrape_and_absent_sees_it() -> None:
    rules = FEW.replace(
        'haproxy_backend_active_servers{proxy="gw"} < 3',
        'absent(haproxy_backend_active_servers{proxy="gw"})',
    )
    world, machine = lab(rules, phases={"prometheus": 0.5, "prometheus.scrape": 0.2})
    world.run(31)
    assert alerts(world) == []
    machine.docker.kill("haproxy")
    world.run(90)
    assert alerts(world)[0] == (40.5, "alert pending", "FewServers value 1")
    few, _ = lab(FEW, phases={"prometheus": 0.5, "prometheus.scrape": 0.2})
    few.run(200)
    assert alerts(few) == []


def test_haproxy_without_an_exporter_is_down_for_prometheus() -> None:
    rules = DOWN.replace('job="gw"', 'job="haproxy"')
    world, _ = lab(rules, metrics=False, phases={"prometheus": 0.5})
    world.run(60)
    assert [e for _, e, _ in alerts(world)] == ["alert pending", "ALERTS firing"]


def test_a_paused_prometheus_judges_nothing_and_a_restarted_one_begins_anew() -> None:
    world, machine = lab(DOWN, phases={"prometheus": 0.5, "prometheus.scrape": 0.2})
    world.run(31)
    machine.docker.kill("gw-2")
    world.run(45)
    machine.freeze("prometheus")
    world.run(75)
    assert [e for _, e, _ in alerts(world)] == ["alert pending"]
    machine.thaw("prometheus")
    world.run(76)
    assert alerts(world)[-1][:2] == (75.0, "ALERTS firing")
    machine.docker.kill("prometheus")
    world.run(80)
    machine.docker.start("prometheus")
    world.run(140)
    later = [(t, e) for t, e, _ in alerts(world) if t > 80]
    assert [e for _, e in later] == ["alert pending", "ALERTS firing"]
    assert later[1][0] - later[0][0] == 30


def test_only_targets_that_a_rule_looks_at_cost_events() -> None:
    world, _ = lab(DOWN)
    before = world.env._eid.__reduce__()[1][0]
    world.run(920)
    used = world.env._eid.__reduce__()[1][0] - before
    idle, _ = lab("groups: []")
    before = idle.env._eid.__reduce__()[1][0]
    idle.run(920)
    idle_used = idle.env._eid.__reduce__()[1][0] - before
    # 3 gateways and one group, every 10 s for a quarter of an hour
    assert used - idle_used <= 4 * 90 * 1.1


def test_samples_older_than_the_look_back_are_gone() -> None:
    store = Store(300.0)
    one = next(
        iter(targets(Config(jobs=None), Instance("prometheus", "prometheus", "h"), make_stack()[0]))
    )
    from hasim.components.prometheus.scrape import Scraped

    store.scraped[one] = Scraped(10 * 10**9, 1.0, {("m", (("job", "own"),)): 5.0})
    assert [v for _, v in store.latest("m", 310.0)] == [5.0]
    assert list(store.latest("m", 310.1)) == []
    labels = dict(next(iter(store.latest("m", 20.0)))[0])
    assert labels["exported_job"] == "own"
    assert labels["job"] == "haproxy"


# ---- files -------------------------------------------------------------------------------------
def test_defaults_cite_prometheus() -> None:
    made = assumed(["alerts.yml"], Folder(alerts_yml=DOWN))
    assert isinstance(made.config, Config)
    assert [g.interval_s for g in made.config.groups] == [60.0]
    assert (made.config.interval_s, made.config.timeout_s, made.config.lookback_s) == (60, 10, 300)
    assert "Configuration" in str(made.config.where["scrape_interval"])
    assert made.config.alerts == ("GatewayDown",)
    stack = make_stack()[0]
    found = targets(made.config, Instance("prometheus", "prometheus", "host-1"), stack)
    assert [dict(t.labels)["job"] for t in found] == ["haproxy", "gw", "gw", "gw"]


def test_a_container_reads_what_its_command_line_names() -> None:
    folder = Folder(other_yml=MAIN.replace("alerts.yml", "sub/r.yml"))
    folder.files["sub/r.yml"] = DOWN
    one = placed("--config.file=/etc/prometheus/other.yml", "--query.lookback-delta", "2m")
    made = COMPONENT.configure(one, folder)
    assert not made.findings
    assert made.config.lookback_s == 120
    assert made.config.groups[0].interval_s == 10
    assert made.dials[0] == ("haproxy", 8404)
    assert {k.name: k.value for k in made.knobs}["prometheus.g.GatewayDown.for"] == "30s"
    bare = COMPONENT.configure(placed(), Folder())
    assert [f.severity for f in bare.findings] == ["warning"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("rule_files: [alerts.yml]", "rule_files: ['*.yml']"), "patterns in rule_files"),
        (("rule_files: [alerts.yml]", "rule_files: [gone.yml]"), "holds the rules file 'gone.yml'"),
        (("static_configs", "dns_sd_configs"), "'dns_sd_configs' is not in this version"),
        (("scrape_timeout: 5s", "scrape_timeout: 30s"), "longer than the interval"),
        (("scrape_interval: 10s", "scrape_intervall: 10s"), "did you mean 'scrape_interval'?"),
        (("job_name: gw", "job_name: haproxy"), "job 'haproxy' is written twice"),
        (('"gw-1:8009"', '"http://gw-1:8009"'), "is no target; write host:port"),
    ],
)
def test_what_is_wrong_in_prometheus_yml_says_where(change, words) -> None:
    folder = Folder(prometheus_yml=MAIN.replace(*change), alerts_yml=DOWN)
    found = [f for f in COMPONENT.configure(placed(), folder).findings if f.severity == "error"]
    assert any(words in f"{f.message} {f.hint}" for f in found), found
    assert all(f.span and f.span.file == "prometheus.yml" for f in found)


def test_files_are_chosen_by_name() -> None:
    names = ["docker-compose.yml", "alerts.yml", "monitoring/pg.rules.yml", "x/rules.yaml", "a.yml"]
    assert rule_files(names) == ("alerts.yml", "monitoring/pg.rules.yml", "x/rules.yaml")
    assert rule_files([*names, "prometheus/prometheus.yml"]) == ("prometheus/prometheus.yml",)
    assert rule_files(["salerts.yml", "compose.yml"]) == ()


def test_a_folder_with_rules_alone_gets_a_prometheus() -> None:
    one = stand_in(["compose.yml", "alerts.yml"], "host-1")
    assert one is not None
    assert (one.instance.kind, one.instance.host) == ("prometheus", "host-1")
    made = COMPONENT.configure(one, Folder(alerts_yml=DOWN))
    assert made.config.alerts == ("GatewayDown",)
    assert made.config.jobs is None
    both = stand_in(["prometheus.yml", "alerts.yml"], "host-1")
    assert both is not None
    made = COMPONENT.configure(both, Folder(alerts_yml=DOWN, prometheus_yml=MAIN))
    assert [job.name for job in made.config.jobs] == ["haproxy", "gw"]
    assert stand_in(["compose.yml"], "host-1") is None


def test_only_prometheus_itself_is_recognised() -> None:
    for image, mine in (
        ("prom/prometheus:v2", True),
        ("prom/node-exporter", False),
        ("quay.io/prometheus/prometheus", True),
        ("redis:7", False),
    ):
        assert COMPONENT.recognises(service(image)) == mine


# ---- warnings ----------------------------------------------------------------------------------
def lint(rules: str, metrics: bool = True, main: str = MAIN) -> list[str]:
    _, machine = lab(rules, main=main, metrics=metrics)
    return [f"{f.code} {f.span} {f.message} ({f.hint})" for f in findings(machine.stack)]


def test_the_guides_three_rules() -> None:
    rules = (MODELS / "story-portal-guide" / "alerts.yml").read_text()
    found = lint(rules)
    text = "\n".join(found)
    # MO-1
    assert (
        "HA210 alerts.yml:12:15 LoadBalancerUnhealthy can never fire: no exporter of this" in text
    )
    assert 'write haproxy_backend_active_servers{proxy="..."}' in text
    # MO-2
    assert "HA210 alerts.yml:17:15 DatabaseReplicationLag can never fire: no exporter" in text
    assert "write pg_replication_lag_seconds" in text
    # MO-3
    assert "HA211 alerts.yml:6:15 ServiceInstanceDown can never fire: no target" in text
    assert "HA212" in text
    # MO-4
    assert sum("HA213" in line for line in found) == 2


def test_repaired_rules_are_quiet() -> None:
    both = DOWN + FEW.replace("groups:\n", "").replace("name: g", "name: h")
    assert lint(both) == []


@pytest.mark.parametrize(
    ("expr", "words"),
    [
        ('haproxy_backend_active_servers{backend="gw"} < 2', "has no label 'backend'"),
        ('haproxy_backend_active_servers{proxy="gww"} < 2', "no proxy of HAProxy matches"),
        ('haproxy_backend_sessions_total{proxy="gw"} < 2', "is not simulated"),
        ("node_load1 > 5", "'node_load1' is not simulated"),
        ("http_requests_total > 5", "no exporter of this stack shows 'http_requests_total'"),
        ('absent(up{job="redis"})', "always fires: no target of Prometheus matches"),
        ("pg_replication_lag_seconds > 60", "there is no postgres in the stack"),
    ],
)
def test_a_rule_that_cannot_do_its_work_is_found(expr: str, words: str) -> None:
    found = lint(DOWN.replace('up{job="gw"} == 0', expr))
    assert any(words in line for line in found), found


def test_no_frontend_of_haproxy_serves_metrics() -> None:
    assert any(
        "http-request use-service prometheus-exporter" in x for x in lint(FEW, metrics=False)
    )
