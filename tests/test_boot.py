"""What does not come up, and why: each cause with its place."""

from pathlib import Path

from hasim.stack import load

CFG = """\
frontend in
    bind *:8000
    default_backend web
backend web
    server a web-1:80 check
    server b web-2:80 check
"""
COMPOSE = """\
services:
  lb:
    image: haproxy:2.8
    ports: ["80:8000"]
    volumes: ["./haproxy.cfg:/usr/local/etc/haproxy/haproxy.cfg"]
    depends_on: [web-1, web-2]
  web-1: {image: acme/web}
  web-2: {image: acme/web}
"""
PROFILE = "web: {ops: {page: {cpu: 1ms}}, source: {assume: test}}\n"
STACK = "hosts: {h: {cores: 4, memory: 8GiB}}\nplace: {h: [compose.yml]}\n"


def stack_of(tmp: Path, compose: str = COMPOSE, cfg: str = CFG, stack: str = STACK):
    (tmp / "compose.yml").write_text(compose)
    (tmp / "haproxy.cfg").write_text(cfg)
    (tmp / "profile.yaml").write_text(PROFILE)
    (tmp / "stack.yaml").write_text(stack)
    return load(tmp)


def rows(stack) -> list[tuple[str, str, str, str]]:
    return [(f.instance, f.reason, str(f.span), f.audit_id) for f in stack.boot_failures]


def swapped(old: str, new: str, text: str = COMPOSE) -> str:
    assert old in text
    return text.replace(old, new, 1)


def test_a_sound_stack_boots(tmp_path):
    stack = stack_of(tmp_path)
    assert stack.boot_failures == ()
    assert stack.boot_order == {"h": (("web-1", "web-2"), ("lb",))}


def test_two_claims_of_one_port(tmp_path):
    compose = swapped("web-1: {", 'web-1: {ports: ["80:80"], ')
    assert rows(stack_of(tmp_path, compose)) == [
        ("lb", "port 80 of h is taken by web-1 (compose.yml:7:19)", "compose.yml:4:13", "DC-1")
    ]


def test_addresses_of_one_host_do_not_meet(tmp_path):
    compose = swapped("web-1: {", 'web-1: {ports: ["10.0.0.2:80:80"], ')
    compose = compose.replace('"80:8000"', '"10.0.0.1:80:8000"')
    assert rows(stack_of(tmp_path, compose)) == []


def test_a_name_that_does_not_resolve_stops_haproxy(tmp_path):
    compose = swapped("  web-2: {image: acme/web}\n", "")
    compose = compose.replace(", web-2", "")
    assert rows(stack_of(tmp_path, compose)) == [
        ("lb", "could not resolve address 'web-2' of server b", "haproxy.cfg:6:5", "LB-7")
    ]
    cfg = CFG.replace("web-2:80 check", "web-2:80 check init-addr last,libc,none")
    assert rows(stack_of(tmp_path, compose, cfg)) == []


def test_names_that_always_resolve(tmp_path):
    compose = swapped("depends_on:", 'extra_hosts: ["outside:192.0.2.1"]\n    depends_on:')
    cfg = CFG + "    server c localhost:1\n    server d outside:1\n    server e h:1\n"
    assert rows(stack_of(tmp_path, compose, cfg)) == []


def test_the_name_of_a_container_that_does_not_start(tmp_path):
    compose = swapped("web-1: {", 'web-1: {ports: ["8080:80"], ')
    compose = swapped("web-2: {", 'web-2: {ports: ["8080:80"], ', compose)
    compose = compose.replace("    depends_on: [web-1, web-2]\n", "")
    found = rows(stack_of(tmp_path, compose))
    assert [r[0] for r in found] == ["web-2", "lb"]
    assert found[1][1:] == (
        "could not resolve address 'web-2' of server b: web-2 does not run",
        "haproxy.cfg:6:5",
        "LB-7",
    )


def test_what_depends_on_a_failure_is_not_started(tmp_path):
    compose = swapped("web-1: {", 'web-1: {ports: ["8080:80"], ')
    compose = swapped("web-2: {", 'web-2: {ports: ["8080:80"], ', compose)
    found = rows(stack_of(tmp_path, compose))
    assert ("lb", "its dependency web-2 does not start", "compose.yml:6:25", "") in found


def test_waiting_for_health_without_a_check(tmp_path):
    compose = swapped(
        "[web-1, web-2]",
        "{web-1: {condition: service_healthy}, web-2: {condition: service_started}}",
    )
    found = rows(stack_of(tmp_path, compose))
    assert found[0][:3] == (
        "lb",
        "it waits for web-1 to be healthy, which has no healthcheck",
        "compose.yml:6:25",
    )


def test_compose_rejects_the_whole_project(tmp_path):
    compose = COMPOSE + "web-3: {image: acme/web}\n"
    compose = swapped("web-1: {", "web-1: {volumes: [data:/x], ", compose)
    found = rows(stack_of(tmp_path, compose))
    assert [(r[0], r[2], r[3]) for r in found] == [
        ("host:h", "compose.yml:9:1", "DC-4"),
        ("host:h", "compose.yml:7:21", "DC-5"),
        ("lb", "compose.yml:9:1", "DC-4"),
        ("web-1", "compose.yml:9:1", "DC-4"),
        ("web-2", "compose.yml:9:1", "DC-4"),
    ]
    assert "(and 1 more reasons)" in found[2][1]


def test_external_networks_must_exist_beforehand(tmp_path):
    stack = stack_of(tmp_path, COMPOSE + "networks: {default: {external: true, name: shared}}\n")
    (found,) = [f for f in stack.findings if f.code == "HA205"]
    assert found.message == "network 'shared' is external: it must exist before `up`"
    assert (found.span.line, found.span.col) == (9, 12)
    assert stack.boot_failures == ()


def test_the_guide_as_printed_does_not_boot(models):
    guide = load(models / "story-portal-guide")
    audit = {f.audit_id for f in guide.boot_failures}
    assert {"DC-1", "DC-4", "LB-7"} <= audit
    asked = {i.name for i in guide.instances if i.compose_service}  # not the assumed Prometheus
    assert asked <= {f.instance for f in guide.boot_failures}


def test_the_other_models_boot(models):
    for name in ("story-portal", "story-portal-guide-bootable", "three-servers"):
        assert load(models / name).boot_failures == ()
