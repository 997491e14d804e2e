"""Instances as a knob: cloned with every line that lists them, and taken out again."""

from __future__ import annotations

from pathlib import Path

import pytest

from hasim import replicas
from hasim.errors import InputError
from hasim.folder import Files
from hasim.source import apply_patches
from hasim.stack import load, patch_of, patched, with_settings

GUIDE, PORTAL = "models/story-portal-guide-bootable", "models/story-portal"
SERVICES = [(GUIDE, "l09-api-gateway"), (GUIDE, "platform-ui")] + [
    (PORTAL, s) for s in ("l09-api-gateway", "platform-ui", "l01-data-layer")
]


def names(stack, service: str) -> set[str]:
    return {i.name for i in stack.instances if i.service == service}


@pytest.mark.parametrize(("model", "service"), SERVICES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 12])
def test_as_many_as_asked_for_and_all_of_them_serve(
    root: Path, model: str, service: str, count: int
) -> None:
    before = load(root / model)
    stack = with_settings(root / model, {f"replicas.{service}": str(count)})
    assert len(names(stack, service)) == count
    for balancer in stack.balancers:
        served = [s for b in balancer.backends for s in b.servers if b.name == service]
        assert {s.instance for s in served} == names(stack, service)
        assert len({(s.address, s.port) for s in served}) == len(served) == count
    assert not stack.boot_failures
    groups = [set(g) for g in stack.groups.values() if names(before, service) & set(g)]
    assert groups == [names(stack, service)]
    hosts = [sum(i.host == h.name for i in stack.instances) for h in stack.hosts]
    mine = [sum(i.host == h.name and i.service == service for i in stack.instances)
            for h in stack.hosts]  # fmt: skip
    busy = [m for m in mine if m]
    assert count < 2 or max(busy) - min(busy) <= 1, hosts
    others = {i.name for i in before.instances if i.service != service}
    assert others == {i.name for i in stack.instances if i.service != service}


@pytest.mark.parametrize(("model", "service"), SERVICES)
def test_up_and_down_again_gives_the_same_bytes(root: Path, model: str, service: str) -> None:
    texts = patched(root / model, {})
    stack = load(root / model)
    [knob] = [k for k in stack.knobs if k.name == f"replicas.{service}"]
    more = replicas.resized(stack, texts, knob, "9")
    there = with_settings(root / model, {knob.name: "9"})
    assert more != texts
    assert replicas.resized(there, more, knob, knob.value) == texts


def test_a_new_instance_takes_the_next_free_port_and_is_watched(root: Path) -> None:
    texts = patched(root / PORTAL, {"replicas.l09-api-gateway": "5"})
    assert '- "10.0.0.11:8110:8009"' in texts["docker-compose.host-a.yml"]
    assert "server l09-5 10.0.0.12:8110 maxconn 100\n" in texts["haproxy.cfg"]
    targets = "[10.0.0.11:8109, 10.0.0.11:8110, 10.0.0.12:8109, 10.0.0.12:8110, 10.0.0.13:8109]"
    assert targets in texts["prometheus/prometheus.yml"]


def test_other_settings_reach_the_new_instance(root: Path) -> None:
    settings = {"replicas.l09-api-gateway": "4", "haproxy.backend.l09-api-gateway.*.inter": "1s"}
    stack = with_settings(root / GUIDE, settings)
    [backend] = [b for b in stack.balancers[0].backends if b.name == "l09-api-gateway"]
    assert [s.check.inter_s for s in backend.servers if s.check] == [1.0] * 4


@pytest.mark.parametrize("value", ["0", "-1", "65", "2.5", "many", "٣", ""])
def test_what_is_no_number_of_instances_is_refused(root: Path, value: str) -> None:
    with pytest.raises(InputError, match=r"replicas\.platform-ui=.*: a whole number from 1"):
        patched(root / GUIDE, {"replicas.platform-ui": value})


def test_data_nodes_have_no_such_knob(root: Path) -> None:
    found = {k.name for k in load(root / PORTAL).knobs if k.dialect == replicas.DIALECT}
    assert found == {f"replicas.{s}" for m, s in SERVICES if m == PORTAL}


def test_the_value_alone_cannot_be_patched(root: Path) -> None:
    knob = next(k for k in load(root / PORTAL).knobs if k.dialect == replicas.DIALECT)
    with pytest.raises(ValueError, match="cannot be patched"):
        apply_patches(Files(root / PORTAL).text("stack.yaml"), [patch_of(knob, "3")])


def test_two_values_for_one_place_are_an_input_error(root: Path) -> None:
    folder = root / "models/story-portal-guide-bootable"  # three Sentinels share one file
    name = "sentinel.agentic-sentinel-{}.mymaster.down-after-milliseconds"
    with pytest.raises(InputError, match="redis-sentinel.conf:6:43: .*different values"):
        patched(folder, {name.format(1): "1000", name.format(2): "2000"})
    assert "1000" in patched(folder, {name.format("*"): "1000"})["redis-sentinel.conf"]
