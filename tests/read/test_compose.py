"""The compose reader: merging, extends, interpolation, checks, places and knobs."""

from __future__ import annotations

import pytest

from hasim.errors import Finding
from hasim.read.compose import read_project
from hasim.read.compose_env import dotenv, substitute
from hasim.read.compose_types import ComposeProject, ComposeService

ENV = {"TAG": "2", "EMPTY": ""}


def load(
    files: dict[str, str] | str, *names: str, env: dict[str, str] | None = None
) -> tuple[ComposeProject, list[Finding]]:
    files = {"a.yml": files} if isinstance(files, str) else files
    return read_project(names or ("a.yml",), files.__getitem__, ENV if env is None else env)


def good(files: dict[str, str] | str, *names: str) -> ComposeProject:
    project, findings = load(files, *names)
    assert [str(f) for f in findings] == []
    return project


def web(body: str) -> ComposeService:
    """One service from its lines."""
    return good("services:\n  web:\n    image: x\n" + body).services["web"]


def bad(files: dict[str, str] | str, *names: str) -> list[tuple[str, str]]:
    return [(f.code, str(f.span)) for f in load(files, *names)[1]]


# ---- interpolation ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$TAG-${TAG}", "2-2"),
        ("${NONE:-x}", "x"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${NONE-x}", "x"),
        ("${TAG:+y}${EMPTY:+y}${NONE:+y}", "y"),
        ("${EMPTY+y}", "y"),
        ("${NONE:-${TAG}}", "2"),
        ("${NONE:-a}}", "a}"),
        ("$$TAG $${X}", "$TAG ${X}"),
        ("${NONE:-$$}", "$"),
        ("${TAG:?needed}", "2"),
    ],
)
def test_variables(text, result):
    missing: list[str] = []
    assert substitute(text, ENV.get, missing) == result
    assert missing == []


@pytest.mark.parametrize(
    "text", ["$", "a$1", "${", "${}", "${TAG", "${1A}", "${TAG!x}", "${NONE:?why}", "${EMPTY:?}"]
)
def test_variables_that_compose_refuses(text):
    with pytest.raises(ValueError, match="interpolation|required"):
        substitute(text, ENV.get, [])
    assert bad(f"services: {{a: {{image: x, hostname: '{text}'}}}}\n") == [("HA145", "a.yml:1:36")]


def test_nested_variables_end_somewhere():
    with pytest.raises(ValueError, match="interpolation"):
        substitute("${A:-" * 5000 + "}" * 5000, ENV.get, [])


def test_an_unset_variable_is_a_warning_at_its_place():
    findings = load("services:\n  a:\n    image: x:${NO_TAG}\n")[1]
    assert [(f.severity, f.code, str(f.span)) for f in findings] == [
        ("warning", "HA145", "a.yml:3:12")
    ]
    assert "${NO_TAG:-default}" in findings[0].hint


def test_the_env_file_of_the_project_stands_behind_the_shell():
    text = "services: {a: {image: 'x:$TAG-$MORE'}}\n"
    files = {"d/a.yml": text, "d/.env": "TAG=9\nMORE=3 # no\n"}
    assert good(files, "d/a.yml").services["a"].image == "x:2-3"


def test_dotenv_forms():
    text = "A=1\nexport B='$A'\nC=\"x\\n${A}\"\n# c\n\nD = a b # c\n"
    text += "E=a#b\nTAG\nNONE\nF=\n-bad\nG:y\n"
    findings: list[Finding] = []
    found = dotenv(text, ".env", ENV.get, findings)
    assert {k: v for k, (v, _) in found.items()} == {
        "A": "1", "B": "$A", "C": "x\n1", "D": "a b", "E": "a#b", "TAG": "2", "F": "", "G": "y",
    }  # fmt: skip
    assert [str(f.span) for f in findings] == [".env:11:1"]
    assert str(found["D"][1]) == ".env:6:5"


# ---- merging and extends ----------------------------------------------------------------

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


def test_files_merge_by_the_compose_rules():
    service = good({"a.yml": BASE, "b.yml": OVER}, "a.yml", "b.yml").services["db"]
    assert service.environment == {"X": "2", "Y": "1", "Z": None}
    assert service.command == ("run",)
    assert service.command_is_string
    assert [p.host_port for p in service.ports] == [5432, 5433]
    assert [(m.source, m.target, m.kind) for m in service.volumes] == [
        ("other", "/d", "volume"),
        ("c", "/c", "bind"),
    ]
    assert service.healthcheck is not None
    assert service.healthcheck.test == ("CMD", "ok")
    assert service.healthcheck.interval_s == 7.0
    assert [(n.network, n.aliases) for n in service.networks] == [("back", ()), ("front", ("pg",))]
    assert str(service.where["image"]) == "a.yml:3:12"
    assert str(service.where["healthcheck.interval"]) == "b.yml:9:29"
    assert str(service.where["environment.X"]) == "b.yml:4:11"
    assert OVER[service.where["environment.X"].start :][0] == "2"


@pytest.mark.parametrize(
    ("over", "ports"),
    [
        ("[]", [80]),
        ("['81:81']", [80, 81]),
        ("", [80]),
        ("!reset []", []),
        ("!reset null", []),
        ("!override ['81:81']", [81]),
    ],
)
@pytest.mark.parametrize("how", ["extends", "files"])
def test_an_empty_list_removes_nothing_but_reset_does(over, ports, how):
    base = "services:\n  web:\n    image: x\n    ports: ['80:80']\n"
    if how == "extends":
        top = f"services:\n  web:\n    extends: {{file: a.yml, service: web}}\n    ports: {over}\n"
        project = good({"a.yml": base, "b.yml": top}, "b.yml")
    else:
        top = f"services:\n  web:\n    ports: {over}\n"
        project = good({"a.yml": base, "b.yml": top}, "a.yml", "b.yml")
    assert [p.host_port for p in project.services["web"].ports] == ports
    assert [t for t, _ in project.tags] == over.split()[:1] * over.startswith("!")


def test_reset_of_a_whole_service():
    base = "services: {a: {image: x}, b: {image: y}}\n"
    files = {"a.yml": base, "b.yml": "services:\n  a: !reset\n"}
    assert list(good(files, "a.yml", "b.yml").services) == ["b"]


def test_extends_goes_through_chains_and_folders():
    files = {
        "top.yml": "services:\n  a:\n    extends: {file: sub/mid.yml, service: m}\n"
        "    hostname: h\n",
        "sub/mid.yml": "services:\n  m:\n    extends: n\n    volumes: [./x:/x]\n"
        "  n:\n    extends: {file: ../base.yml, service: b}\n    user: u\n",
        "base.yml": "services:\n  b: {image: i, container_name: c}\n",
    }
    service = good(files, "top.yml").services["a"]
    assert (service.image, service.user, service.hostname) == ("i", "u", "h")
    assert service.container_name == "c"
    assert service.volumes[0].source == "sub/x"
    assert service.extends == (("sub/mid.yml", "m"), ("sub/mid.yml", "n"), ("base.yml", "b"))
    assert str(service.where["user"]) == "sub/mid.yml:7:11"
    assert service.file == "top.yml"


def test_extends_circles_and_dead_ends():
    text = (
        "services:\n  a: {extends: b, image: x}\n  b: {extends: {service: a}}\n"
        "  c: {extends: {file: no.yml, service: a}, image: x}\n"
        "  d: {extends: {file: no.yml, service: a}, image: x}\n"
        "  e: {extends: {service: aa}, image: x}\n  f: {extends: {}, image: x}\n"
    )
    found = bad(text)
    assert ("HA146", "a.yml:3:16") in found
    assert ("HA140", "a.yml:4:16") in found
    assert ("HA146", "a.yml:5:16") in found
    assert ("HA146", "a.yml:6:16") in found
    assert ("HA146", "a.yml:7:16") in found
    long = "services:\n" + "".join(f"  s{i}: {{extends: s{i + 1}}}\n" for i in range(3000))
    assert "HA146" in [code for code, _ in bad(long + "  s3000: {image: x}\n")]


def test_a_dependency_of_an_extended_base_must_be_in_the_project():
    base = "services:\n  b: {image: x, depends_on: [db]}\n  db: {image: y}\n"
    top = "services:\n  a: {extends: {file: base.yml, service: b}}\n"
    project, findings = load({"a.yml": top, "base.yml": base})
    assert [(f.code, str(f.span)) for f in findings] == [("HA144", "base.yml:2:30")]
    assert "extends" in findings[0].hint
    fixed = top + "  db: {image: y}\n"
    assert good({"a.yml": fixed, "base.yml": base}).services["a"].depends_on[0].service == "db"


def test_merge_keys_and_extension_fields():
    text = (
        "x-base: &base\n  restart: always\n  cpus: ${C:-0.5}\nservices:\n"
        "  a:\n    <<: *base\n    image: x\n    x-note: {a: 1}\n"
    )
    service = good(text).services["a"]
    assert (service.restart, service.cpus) == ("always", 0.5)
    assert str(service.where["restart"]) == "a.yml:2:12"


# ---- fields -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "ports"),
    [
        ('"80"', [("", 0, 80, "tcp")]),
        ("80", [("", 0, 80, "tcp")]),
        ('"8080:80"', [("", 8080, 80, "tcp")]),
        ("22:22", [("", 22, 22, "tcp")]),
        ('"127.0.0.1:53:53/udp"', [("127.0.0.1", 53, 53, "udp")]),
        ('"127.0.0.1::53"', [("127.0.0.1", 0, 53, "tcp")]),
        ('"[::1]:1:2"', [("::1", 1, 2, "tcp")]),
        ('"8000-8001:80-81"', [("", 8000, 80, "tcp"), ("", 8001, 81, "tcp")]),
        (
            "{target: 80, published: '8080', host_ip: 10.0.0.1, mode: host}",
            [("10.0.0.1", 8080, 80, "tcp")],
        ),
        ("{target: 80}", [("", 0, 80, "tcp")]),
    ],
)
def test_ports(item, ports):
    found = web(f"    ports: [{item}]\n").ports
    assert [(p.host_ip, p.host_port, p.container_port, p.protocol) for p in found] == ports


@pytest.mark.parametrize(
    "item", ["a:b", '"80:"', "70000:1", '"1-2:3-6"', "{published: 1}", "[]", "5-3:5-3", '""', "~"]
)
def test_wrong_ports(item):
    assert [c for c, _ in bad(f"services: {{a: {{image: x, ports: [{item}]}}}}\n")] == ["HA143"]


def test_resources_from_both_places():
    service = web(
        "    deploy:\n      replicas: 3\n      resources:\n"
        "        limits: {cpus: '0.5', memory: 1G}\n"
        "        reservations: {cpus: 0.25, memory: 256m}\n    cpu_shares: 512\n"
    )
    assert (service.cpus, service.mem_limit_bytes, service.replicas) == (0.5, 2**30, 3)
    assert (service.cpus_reserved, service.mem_reservation_bytes) == (0.25, 2**28)
    assert str(service.where["cpus"]) == "a.yml:7:24"
    assert service.cpu_shares == 512
    text = "services: {a: {image: x, cpus: 1, deploy: {resources: {limits: {cpus: 2}}}}}\n"
    assert bad(text) == [("HA148", "a.yml:1:32")]


@pytest.mark.parametrize(
    ("written", "test", "disable"),
    [
        ("test: curl x", ("CMD-SHELL", "curl x"), False),
        ("test: [CMD, curl, x]", ("CMD", "curl", "x"), False),
        ("test: [NONE]", ("NONE",), True),
        ("disable: true", (), True),
        ("interval: 1m30s", (), False),
    ],
)
def test_healthchecks(written, test, disable):
    check = web(f"    healthcheck: {{{written}}}\n").healthcheck
    assert check is not None
    assert (check.test, check.disable) == (test, disable)
    assert check.interval_s == (90.0 if "1m30s" in written else None)


def test_simple_fields():
    service = web(
        "    command: sh -c \"echo 'a b' $$X\"\n    entrypoint: [/e, 1]\n    init: true\n"
        "    stop_grace_period: 90s\n    stop_signal: SIGINT\n    restart: on-failure:3\n"
        "    expose: ['80', 90-91]\n    network_mode: host\n    pid: host\n    user: '0:0'\n"
        "    labels: [a=1]\n    extra_hosts: ['h:1.2.3.4', 'i=::1']\n    profiles: [p]\n"
        "    depends_on: {web2: {condition: service_healthy, restart: true, required: false}}\n"
    )
    assert service.command == ("sh", "-c", "echo 'a b' $X")
    assert service.entrypoint == ("/e", "1")
    assert (service.init, service.stop_grace_s, service.restart) == (True, 90.0, "on-failure:3")
    assert service.expose == (80, 90, 91)
    assert service.networks == ()
    assert service.extra_hosts == {"h": "1.2.3.4", "i": "::1"}
    assert (service.labels, service.profiles) == ({"a": "1"}, ("p",))
    need = service.depends_on[0]
    assert (need.service, need.condition, need.restart) == ("web2", "service_healthy", True)
    assert web("").networks[0].network == "default"


def test_env_files_stand_behind_environment():
    files = {
        "d/a.yml": "services:\n  a:\n    image: x\n"
        "    env_file: [e.env, {path: no, required: false}]\n    environment: [B=9]\n",
        "d/e.env": "A=1\nB=2\n",
    }
    service = good(files, "d/a.yml").services["a"]
    assert service.environment == {"A": "1", "B": "9"}
    assert str(service.where["environment.A"]) == "d/e.env:1:3"
    assert service.env_file == ("d/e.env", "d/no")
    del files["d/e.env"]
    assert bad(files, "d/a.yml") == [("HA140", "d/a.yml:4:16")]


@pytest.mark.parametrize(
    ("body", "code", "hint"),
    [
        ("    imagee: y\n", "HA142", "did you mean 'image'?"),
        ("    restart: sometimes\n", "HA143", "no, always, unless-stopped or on-failure[:times]"),
        ("    stop_grace_period: 10\n", "HA143", ""),
        ("    mem_limit: 1q\n", "HA143", ""),
        ("    cpus: many\n", "HA143", ""),
        ('    command: "it\'s"\n', "HA143", ""),
        ("    healthcheck: {test: [curl, x]}\n", "HA143", "or write the command as one text"),
        ("    healthcheck: {retrys: 1}\n", "HA142", "did you mean 'retries'?"),
        ("    depends_on: {web: {condition: healthy}}\n", "HA143", ""),
        ("    volumes: [data:/d]\n", "HA144", "declare it under 'volumes:' at the top level"),
        ("    networks: [n]\n", "HA144", "declare it under 'networks:' at the top level"),
        ("    depends_on: [wep]\n", "HA144", "did you mean 'web'?"),
        ("    network_mode: service:db\n", "HA144", ""),
        ("    secrets: [s]\n", "HA144", "declare it under 'secrets:' at the top level"),
        ("    network_mode: host\n    networks: [default]\n", "HA148", ""),
        ("    container_name: c\n    scale: 2\n", "HA147", ""),
        ("    deploy: {resources: {limits: {cpu: 1}}}\n", "HA142", "did you mean 'cpus'?"),
        ("    ports: 80\n", "HA143", ""),
        ("    environment: [[]]\n", "HA143", ""),
        ("    environment: text\n", "HA143", ""),
    ],
)
def test_what_compose_refuses_in_a_service(body, code, hint):
    findings = load("services:\n  web:\n    image: x\n" + body)[1]
    found = [f for f in findings if f.code == code]
    assert found, findings
    assert hint in found[0].hint
    assert found[0].span is not None
    assert found[0].span.line >= 4


def test_what_compose_refuses_at_the_top():
    assert bad("serivces: {}\n") == [("HA141", "a.yml:1:1")]
    assert bad("services: []\n") == [("HA141", "a.yml:1:11")]
    assert bad("services: {a: 1}\n") == [("HA141", "a.yml:1:12")]
    assert bad("services: {}\ninclude: [b.yml]\n") == [("HA150", "a.yml:2:1")]
    assert bad("- a\n") == [("HA141", "a.yml:1:1")]
    assert bad("services: {a: {}}\n") == [("HA143", "a.yml:1:12")]
    assert bad({}, "a.yml") == [("HA140", "a.yml:1:1")]
    two = "services: {a: {image: x, container_name: c}, b: {image: x, container_name: c}}\n"
    assert bad(two) == [("HA147", "a.yml:1:76")]
    ring = "services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [a]}}\n"
    assert [c for c, _ in bad(ring)] == ["HA149"]


def test_networks_and_volumes():
    project = good(
        "name: p\nservices: {a: {image: x}}\nnetworks:\n  n: {external: true}\n"
        "  m: {ipam: {config: [{subnet: 10.0.0.0/8}]}}\n  k: {external: {name: old}}\n"
        "volumes: {v: , w: {name: real}}\n"
    )
    assert [(r.real_name, r.external) for r in project.networks.values()] == [
        ("n", True),
        ("p_m", False),
        ("old", True),
    ]
    assert project.networks["m"].subnets == ("10.0.0.0/8",)
    assert [r.real_name for r in project.volumes.values()] == ["p_v", "real"]
