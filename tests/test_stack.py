"""A folder of files to a Stack: who is who, how it is reached, and what is wrong together."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hasim.bind import load_scenarios
from hasim.errors import InputError
from hasim.stack import load, load_lenient, with_settings
from hasim.targets import list_targets, resolve

HAPROXY = """\
defaults
    mode http
    timeout connect 5000
    timeout client 50s
    timeout server 50s
frontend in
    bind *:8000
    use_backend api if { path_beg /api }
    default_backend ui
backend api
    server a api-1:9000 check
    server b api-2:9000 check
backend ui
    server u ui-alias:80 check
"""
COMPOSE = """\
services:
  lb:
    image: haproxy:2.9-alpine
    container_name: the-lb
    ports: ["80:8000"]
    volumes: ["./haproxy.cfg:/usr/local/etc/haproxy/haproxy.cfg:ro"]
    depends_on: [api-1, api-2]
  api-1: &api
    image: acme/api:1
    environment: {DB_URL: "http://store:7000/x"}
    cpus: 1.5
    mem_limit: 256m
  api-2: *api
  ui:
    image: acme/ui:1
    networks: {default: {aliases: [ui-alias]}}
  store: {image: "acme/store:1", restart: always}
  cache: {image: "memcached:1.6"}
"""
PROFILE = """\
api:
  ops:
    list: {path: /api/list, cpu: 5ms, calls: [{store: get}]}
    add: {path: /api/list, write: true, cpu: 5ms}
  health: {/: {}}
  source: {assume: test}
ui: {ops: {page: {cpu: 1ms}}, source: {assume: test}}
store: {ops: {get: {io: 1ms}}, source: {assume: test}}
"""
STACK = """\
hosts: {h: {cores: 4, memory: 8GiB}}
place: {h: [compose.yml]}
groups: {api: [api-1, api-2]}
entry: {users: {via: address h}}
"""
FILES = {
    "haproxy.cfg": HAPROXY,
    "compose.yml": COMPOSE,
    "profile.yaml": PROFILE,
    "stack.yaml": STACK,
}


def folder(tmp: Path, **changed: str | None) -> Path:
    """FILES in a folder, with some replaced (haproxy_cfg=...) or left out (None)."""
    texts = FILES | {name.replace("_", ".", 1): text for name, text in changed.items()}
    for name, text in texts.items():
        (tmp / name).unlink(missing_ok=True)
        if text is not None:
            (tmp / name).write_text(text)
    return tmp


def problems(tmp: Path, **changed: str | None) -> list[str]:
    with pytest.raises(InputError) as error:
        load(folder(tmp, **changed))
    return [str(f).splitlines()[0] for f in error.value.findings]


def test_instances_and_services(tmp_path):
    stack = load(folder(tmp_path))
    rows = [(i.name, i.kind, i.service, i.host) for i in stack.instances]
    assert rows == [
        ("the-lb", "haproxy", "", "h"),
        ("api-1", "service", "api", "h"),
        ("api-2", "service", "api", "h"),
        ("ui", "service", "ui", "h"),
        ("store", "service", "store", "h"),
        ("cache", "other", "", "h"),
    ]
    one = stack.instance("api-1")
    assert (one.cpus, one.mem_limit_bytes, one.restart) == (1.5, 256 * 2**20, "no")
    assert stack.instance("store").restart == "always"
    assert stack.instance("the-lb").depends_on == (
        ("api-1", "service_started"),
        ("api-2", "service_started"),
    )
    assert stack.boot_order == {"h": (("api-1", "api-2", "ui", "store", "cache"), ("the-lb",))}
    assert stack.boot_failures == ()


def test_servers_lead_to_instances(tmp_path):
    (balancer,) = load(folder(tmp_path)).balancers
    assert (balancer.instance, balancer.version, balancer.file) == (
        "the-lb",
        (2, 9, 0),
        "haproxy.cfg",
    )
    servers = {
        f"{b.name}/{s.name}": (s.instance, s.reach) for b in balancer.backends for s in b.servers
    }
    assert servers == {
        "api/a": ("api-1", "bridge"),
        "api/b": ("api-2", "bridge"),
        "ui/u": ("ui", "bridge"),
    }


def test_ways_of_users_and_of_calls(tmp_path):
    stack = load(folder(tmp_path))
    assert {name: way[:5] for name, way in stack.op_entries.items()} == {
        "api/list": ("address", "the-lb", "in", "api", "api"),
        "api/add": ("address", "the-lb", "in", "api", "api"),
        "ui/page": ("address", "the-lb", "in", "ui", "ui"),
    }
    way = stack.call_routes["api->store"]
    assert way[:7] == ("call", "", "", "", "store", "", ("store",))
    assert not [a for a in stack.assumptions if a.name.startswith("calls.")]


def test_a_call_through_the_balancer_when_a_url_says_so(tmp_path):
    compose = COMPOSE.replace("http://store:7000/x", "http://lb:8001")
    cfg = HAPROXY + "frontend inner\n    bind *:8001\n    default_backend store\n"
    cfg += "backend store\n    server s store:7000\n"
    stack = load(folder(tmp_path, compose_yml=compose, haproxy_cfg=cfg))
    assert stack.call_routes["api->store"][:5] == ("call", "the-lb", "inner", "store", "store")


def test_published_ports_and_two_hosts(tmp_path):
    stack_yaml = """\
hosts: {a: {cores: 1, memory: 1GiB}, b: {cores: 1, memory: 1GiB, address: 10.0.0.2}}
place: {a: [compose.yml], b: [other.yml]}
entry: {users: {via: address 10.0.0.1}}
"""
    compose = """\
services:
  lb:
    image: haproxy:2.8
    ports: ["10.0.0.1:80:8000"]
    volumes: ["./haproxy.cfg:/usr/local/etc/haproxy/haproxy.cfg"]
  web: {image: acme/ui, ports: ["8080:80"]}
"""
    other = 'services: {web: {image: acme/ui, ports: ["8080:80"]}}\n'
    cfg = "frontend in\n bind *:8000\n default_backend w\nbackend w\n"
    cfg += " server a 10.0.0.1:8080\n server b 10.0.0.2:8080\n server c b:8080\n"
    (tmp_path / "other.yml").write_text(other)
    profile = "web: {ops: {page: {cpu: 1ms}}}\n"
    stack = load(
        folder(
            tmp_path,
            stack_yaml=stack_yaml,
            compose_yml=compose,
            haproxy_cfg=cfg,
            profile_yaml=profile,
        )
    )
    assert [(s.instance, s.reach) for s in stack.balancers[0].backends[0].servers] == [
        ("web@a", "published"),
        ("web@b", "published"),
        ("web@b", "published"),
    ]
    assert [h.addresses for h in stack.hosts] == [("10.0.0.1",), ("10.0.0.2",)]
    assert [(ln.a, ln.b, ln.kind) for ln in stack.links] == [("a", "b", "l2")]
    assert "links.a-b" in [a.name for a in stack.assumptions]


def test_without_a_stack_yaml_one_host_is_assumed(tmp_path):
    stack = load(folder(tmp_path, stack_yaml=None))
    assert [h.name for h in stack.hosts] == ["host-1"]
    assert {"hosts.host-1", "place", "entry.users"} <= {a.name for a in stack.assumptions}
    assert "HA204" in [f.code for f in stack.findings]
    assert stack.op_entries["api/list"].balancer == "the-lb"


def test_the_hash_is_of_all_inputs_and_of_nothing_else(tmp_path):
    before = load(folder(tmp_path))
    assert [p for p, _ in before.inputs] == [
        "compose.yml",
        "haproxy.cfg",
        "profile.yaml",
        "stack.yaml",
    ]
    (tmp_path / "notes.txt").write_text("hello")
    assert load(tmp_path).sha256 == before.sha256
    (tmp_path / "haproxy.cfg").write_text(HAPROXY + "\n")
    assert load(tmp_path).sha256 != before.sha256


def test_settings_change_texts_in_memory(tmp_path):
    before = load(folder(tmp_path))
    after = with_settings(
        tmp_path, {"haproxy.defaults.timeout_connect": "1s", "compose.store.restart": "no"}
    )
    assert before.balancers[0].backends[0].timeout_connect_s == 5.0
    assert after.balancers[0].backends[0].timeout_connect_s == 1.0
    assert after.instance("store").restart == "no"
    assert (tmp_path / "haproxy.cfg").read_text() == HAPROXY
    assert after.sha256 != before.sha256
    with pytest.raises(InputError) as error:
        with_settings(tmp_path, {"haproxy.defaults.timeout_conect": "1s"})
    assert error.value.findings[0].hint == "did you mean 'haproxy.defaults.timeout_connect'?"


@pytest.mark.parametrize(
    ("file", "old", "new", "line"),
    [
        (
            "stack_yaml",
            "[api-1, api-2]",
            "[api-1, api-3]",
            "stack.yaml:3:23: HA104 error: 'api-3' is no instance of this stack",
        ),
        (
            "stack_yaml",
            "address h",
            "address 10.9.9.9",
            "stack.yaml:4:22: HA104 error: no host has the address '10.9.9.9'",
        ),
        (
            "profile_yaml",
            "{store: get}",
            "{stor: get}",
            "profile.yaml:3:54: HA104 error: api calls 'stor', which is no service of this stack",
        ),
        (
            "haproxy_cfg",
            "ui-alias:80",
            "cache:6379",
            "haproxy.cfg:14:5: HA104 error: server u leads to 'cache', "
            "which profile.yaml leaves out",
        ),
        (
            "compose_yml",
            "./haproxy.cfg:",
            "./haproxi.cfg:",
            "compose.yml:2:3: HA104 error: cannot read 'haproxi.cfg': No such file or directory",
        ),
    ],
)
def test_mistakes_across_files(tmp_path, file, old, new, line):
    name = file.replace("_", ".", 1)
    assert old in FILES[name]
    found = problems(tmp_path, **{file: FILES[name].replace(old, new, 1)})
    assert line in found


def test_workers_from_the_compose_file(tmp_path):
    api = COMPOSE.replace("environment: {", 'environment: {WEB_CONCURRENCY: "3", ')
    stack = load(folder(tmp_path, compose_yml=api))
    assert stack.service("api").workers == 3
    assert "api.workers" not in [a.name for a in stack.assumptions]
    profile = PROFILE.replace("api:\n", "api:\n  workers: 2\n")
    assert problems(tmp_path, compose_yml=api, profile_yaml=profile) == [
        "profile.yaml:2:12: HA104 error: workers is 2, but its containers have WEB_CONCURRENCY=3"
    ]


def test_the_version_of_haproxy(tmp_path):
    exact = load(folder(tmp_path, stack_yaml=STACK + "versions: {haproxy: 2.9.4}\n"))
    assert exact.balancers[0].version == (2, 9, 4)
    assert problems(tmp_path, stack_yaml=STACK + "versions: {haproxy: 2.6.12}\n") == [
        "stack.yaml:5:21: HA104 error: the image haproxy:2.9-alpine of 'the-lb' "
        "says another version"
    ]


def test_processes_without_containers(tmp_path):
    stack_yaml = """\
hosts: {l: {cores: 1, memory: 1GiB, address: 10.0.0.1}, w: {cores: 1, memory: 1GiB}}
plain:
  lb: {host: l, haproxy: haproxy.cfg}
  web: {host: w, service: web, port: 8080}
"""
    cfg = "frontend in\n bind *:80\n default_backend b\nbackend b\n server s w:8080\n"
    profile = "web: {ops: {page: {cpu: 1ms}}}\n"
    stack = load(
        folder(
            tmp_path, stack_yaml=stack_yaml, haproxy_cfg=cfg, profile_yaml=profile, compose_yml=None
        )
    )
    server = stack.balancers[0].backends[0].servers[0]
    assert (server.instance, server.reach) == ("web", "host")
    assert stack.op_entries["web/page"][:5] == ("address", "lb", "in", "b", "web")
    assert stack.boot_failures == ()


def test_errors_of_all_files_come_together(tmp_path):
    found = problems(
        tmp_path,
        stack_yaml=STACK.replace("cores: 4", "cores: x"),
        profile_yaml=PROFILE.replace("cpu: 5ms", "cpu: 5", 1),
        haproxy_cfg=HAPROXY.replace("5000", "soon"),
    )
    files = {f.split(":")[0] for f in found}
    assert {"stack.yaml", "profile.yaml", "haproxy.cfg"} <= files


def test_targets(tmp_path):
    stack = load(folder(tmp_path))

    def names(text, verb=""):
        got, found = resolve(stack, text, verb)
        return (got.kind, got.names, got.random) if got else found[0].message

    assert names("api-1") == ("instance", ("api-1",), False)
    assert names("lb") == names("the-lb") == ("instance", ("the-lb",), False)
    assert names("api[2]") == ("instance", ("api-2",), False)
    assert names("api[2,1]") == ("instance", ("api-2", "api-1"), False)
    assert names("api[*]") == ("instance", ("api-1", "api-2"), False)
    assert names("api[?]") == ("instance", ("api-1", "api-2"), True)
    assert names("api", "rolling-update") == ("instance", ("api-1", "api-2"), False)
    assert names("api") == "'api' is 2 instances: which?"
    assert names("api[3]") == "'api[3]': numbers go from 1 to 2"
    assert names("ui/u") == ("instance", ("ui",), False)
    assert names("host:h") == names("host:*") == ("host", ("h",), False)
    assert names("host:x") == "host 'x' is not defined"
    assert names("users") == ("instance", ("the-lb",), False)
    assert names("apj-1") == "target 'apj-1' is not defined"
    assert resolve(stack, "apj-1")[1][0].hint == "did you mean 'api-1'?"
    for target, _ in list_targets(stack):
        assert resolve(stack, target)[0], target


SCENARIOS = """\
stack: .
loads:
  ok: {executor: constant-vus, vus: 5, duration: 5m, mix: {list: 50%, ui/page: 50%}}
scenarios:
  one:
    load: ok
    faults: [{at: 1m, do: crash, target: "api[1]"}]
    budgets: {"http_req_failed{op:list}": ["rate<1%"]}
"""


def test_scenarios_meet_their_stack(tmp_path):
    (folder(tmp_path) / "scenarios.yaml").write_text(SCENARIOS)
    file, stack = load_scenarios(tmp_path / "scenarios.yaml", tmp_path)
    assert file.scenarios[0].load.flow[0].mix == (("api/list", 0.5), ("ui/page", 0.5))
    assert stack.name == tmp_path.name


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "{list: 50%",
            "{lisst: 50%",
            "scenarios.yaml:3:7: HA104 error: operation 'lisst' is not defined",
        ),
        ("{list: 50%", "{get: 50%", "users cannot reach the operation 'get' through any entry"),
        ("api[1]", "api[9]", "scenarios.yaml:7:14: HA104 error: 'api[9]': numbers go from 1 to 2"),
        (
            "op:list",
            "op:lisst",
            "scenarios.yaml:8:45: HA104 error: http_req_failed{op:lisst}: op 'lisst' is not",
        ),
    ],
)
def test_names_that_lead_nowhere(tmp_path, old, new, line):
    (folder(tmp_path) / "scenarios.yaml").write_text(SCENARIOS.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        load_scenarios(tmp_path / "scenarios.yaml", tmp_path)
    assert line in str(error.value)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_folder_with_a_mutated_file_is_read_or_refused(tmp_path, data):
    name = data.draw(st.sampled_from(sorted(FILES)))
    text = FILES[name]
    start = data.draw(st.integers(0, len(text) - 1))
    length = data.draw(st.integers(0, 12))
    junk = data.draw(st.text(alphabet="-:[]{}#&*!|>'\"%@ \nabz019.", max_size=8))
    folder(tmp_path, **{name.replace(".", "_", 1): text[:start] + junk + text[start + length :]})
    stack, found = load_lenient(tmp_path)
    assert stack is not None
    assert all(f.message for f in found)
