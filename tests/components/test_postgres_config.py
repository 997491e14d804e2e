"""What a container's files say of its PostgreSQL server, and what the server refuses."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hasim.components.postgres import script
from hasim.components.postgres.parameters import PARAMETERS, parse
from hasim.components.postgres.sync import Rule, candidates, parse_rule, wait_s
from hasim.read import pg_conf, pg_hba, pg_sql
from hasim.stack import load_lenient, patch_of

BIN = Path("/usr/lib/postgresql/15/bin")
PASSWORD = "s3cr3t-passw0rd"
STACK = "hosts:\n  host-a: {cores: 4, memory: 8GiB, source: test}\n"
PROFILE = "app: {workers: 1, ops: {get: {path: /, cpu: 1ms}}, source: {assume: test}}\n"
PRIMARY = """
  postgres:
    image: pgvector/pgvector:pg16
    container_name: agentic-postgres
    environment: [POSTGRES_PASSWORD=postgres]
    volumes: [pg:/var/lib/postgresql/data]
    restart: unless-stopped
"""
GUIDE = """
  postgres-replica:
    image: pgvector/pgvector:pg16
    container_name: agentic-postgres-replica
    environment:
      - POSTGRES_PASSWORD=postgres
      - PGDATA=/var/lib/postgresql/data/pgdata
    command: >
      bash -c "
      if [ ! -f /var/lib/postgresql/data/pgdata/PG_VERSION ]; then
        pg_basebackup -h postgres -D /var/lib/postgresql/data/pgdata -U replicator -v -P -W;
        echo 'primary_conninfo = ''host=postgres port=5432 user=replicator """
GUIDE += """password=s3cr3t-passw0rd''' >> /var/lib/postgresql/data/pgdata/postgresql.auto.conf;
        echo 'hot_standby = on' >> /var/lib/postgresql/data/pgdata/postgresql.auto.conf;
        touch /var/lib/postgresql/data/pgdata/standby.signal;
      fi;
      postgres
      "
    volumes: [replica:/var/lib/postgresql/data]
"""


def make(folder, services, **files):
    """The stack of a compose file and its neighbours, and all findings."""
    body = f"services:\n  app: {{image: app, command: x}}{services}\nvolumes: {{pg: , replica: }}\n"
    (folder / "docker-compose.yml").write_text(body, encoding="utf-8")
    (folder / "stack.yaml").write_text(STACK, encoding="utf-8")
    (folder / "profile.yaml").write_text(PROFILE, encoding="utf-8")
    for name, text in files.items():
        path = folder / name.replace("__", ".")
        path.write_text(text, encoding="utf-8")
    stack, found = load_lenient(folder, {})
    assert stack is not None, found
    assert PASSWORD not in " ".join(map(str, found))
    return stack, found


def failures(stack, name="agentic-postgres-replica"):
    return {f.audit_id: f for f in stack.boot_failures if f.instance == name}


# ---- the guide's own replica ---------------------------------------------------------------------
def test_the_guides_replica_does_not_start_and_each_reason_has_its_line(tmp_path) -> None:
    stack, found = make(tmp_path, PRIMARY + GUIDE)
    down = failures(stack)
    assert sorted(down) == ["PG-3", "PG-5", "PG-6"]
    lines = (tmp_path / "docker-compose.yml").read_text().splitlines()
    assert "pg_basebackup" in lines[down["PG-5"].span.line - 1]
    assert "primary_conninfo" in lines[down["PG-6"].span.line - 1]
    assert lines[down["PG-3"].span.line - 1].strip() == "postgres"
    assert '"root" execution' in down["PG-3"].reason
    assert 'near token "="' in down["PG-6"].reason
    said = " ".join(f.message for f in found)
    for audit in ("PG-1", "PG-4", "PG-7", "PG-8", "PG-10", "PG-11"):
        assert f"({audit})" in said


@pytest.mark.parametrize(
    ("old", "new", "gone"),
    [
        ("    command: >", "    user: postgres\n    command: >", "PG-3"),
        ("\n      postgres\n", "\n      gosu postgres postgres\n", "PG-3"),
        ("\n      postgres\n", "\n      exec docker-entrypoint.sh postgres\n", "PG-3"),
        ("        pg_basebackup", "        PGPASSWORD=x pg_basebackup", "PG-5"),
        (" -v -P -W", " -v -P -w -R", "PG-5"),
        ("echo 'primary_conninfo", "true 'primary_conninfo", "PG-6"),
    ],
)
def test_each_repair_of_the_guide_takes_its_reason_away(tmp_path, old, new, gone) -> None:
    assert old in GUIDE
    stack, _ = make(tmp_path, PRIMARY + GUIDE.replace(old, new))
    assert gone not in failures(stack)


def test_the_repaired_replica_is_a_standby_of_the_primary(tmp_path) -> None:
    text = GUIDE.replace("    command: >", "    user: postgres\n    command: >")
    text = text.replace("-v -P -W", "-v -P -w -R").replace("echo 'primary_conninfo", "true 'p")
    stack, _ = make(tmp_path, PRIMARY + text)
    assert not failures(stack)
    one = stack.instance("agentic-postgres-replica")
    assert one.config.standby
    assert one.config.backup.keeps_going
    assert one.peers["postgres:5432"] == "agentic-postgres"
    assert one.config.get("hot_standby") is True


# ---- layers --------------------------------------------------------------------------------------
def test_flags_win_over_alter_system_and_that_over_the_file(tmp_path) -> None:
    services = PRIMARY.replace(
        "    volumes: [pg:/var/lib/postgresql/data]",
        "    command: postgres -c max_connections=300 -c config_file=/etc/pg.conf\n"
        "    volumes:\n      - pg:/var/lib/postgresql/data\n      - ./pg.conf:/etc/pg.conf\n"
        "      - ./init.sql:/docker-entrypoint-initdb.d/init.sql",
    )
    conf = "max_connections = 100\nwal_keep_size = 1GB # one\ncheckpoint_timeout = '10min'\n"
    sql = "ALTER SYSTEM SET wal_keep_size = '2GB';\nALTER SYSTEM SET max_connections = 200;\n"
    stack, _ = make(tmp_path, services, pg__conf=conf, init__sql=sql)
    config = stack.instance("agentic-postgres").config
    assert config.get("max_connections") == 300
    assert config.get("wal_keep_size") == 2 * 1024**3
    assert config.get("checkpoint_timeout") == 600.0
    assert str(config.origin("wal_keep_size")) == "init.sql:1:35"
    assert config.origin("checkpoint_timeout").file == "pg.conf"
    assert config.origin("max_connections").file == "docker-compose.yml"
    assert "manual 20.6.1" in str(config.origin("max_wal_senders"))
    assert stack.service(stack.instance("agentic-postgres").service).workers == 300


def test_a_knob_is_patched_where_its_value_stands(tmp_path) -> None:
    from hasim.source import apply_patches

    services = PRIMARY.replace(
        "    volumes: [pg:/var/lib/postgresql/data]",
        "    command: postgres -c config_file=/etc/pg.conf -c max_connections=300\n"
        "    volumes: [./pg.conf:/etc/pg.conf, ./a.sql:/docker-entrypoint-initdb.d/a.sql]",
    )
    texts = {
        "pg.conf": "wal_keep_size = '1GB'  # keep\n",
        "a.sql": "alter system set hot_standby to on;",
    }
    files = {name.replace(".", "__"): text for name, text in texts.items()}
    stack, _ = make(tmp_path, services, **files)
    texts["docker-compose.yml"] = (tmp_path / "docker-compose.yml").read_text()
    knobs = {k.name.rpartition(".")[2]: k for k in stack.knobs if k.name.startswith("postgres.")}
    wanted = {
        "wal_keep_size": ("2GB", "wal_keep_size = '2GB'  # keep\n"),
        "max_connections": ("50", "max_connections=50\n"),
        "hot_standby": ("off", "set hot_standby to off;"),
        "wal_sender_timeout": ("5s", "# keep\nwal_sender_timeout = '5s'\n"),
    }
    for name, (value, expected) in wanted.items():
        patch = patch_of(knobs[name], value)
        assert expected in apply_patches(texts[patch.span.file], [patch])
    assert knobs["max_connections"].effect == "restart"
    assert knobs["wal_sender_timeout"].effect == "reload"
    assert "synchronous_standby_names" in knobs


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ("max_connections = lots\n", "is not a number"),
        ("wal_keep_size = 1gb\n", "unknown unit"),
        ("hot_standby = maybe\n", "is not a Boolean"),
        ("max_wal_senders 5 6\n", "syntax error"),
        ("= 5\n", "syntax error"),
        ("wal_level = minimal\n", "requires wal_level replica"),
        ("max_connections = 3\n", "superuser_reserved_connections must be less"),
        ("synchronous_standby_names = 'FIRST 0 (a)'\n", "greater than zero"),
    ],
)
def test_a_server_does_not_start_over_a_bad_value(tmp_path, conf, reason) -> None:
    services = PRIMARY.replace(
        "    volumes: [pg:/var/lib/postgresql/data]",
        "    command: postgres -c config_file=/etc/pg.conf\n    volumes: [./pg.conf:/etc/pg.conf]",
    )
    stack, _ = make(tmp_path, services, pg__conf=conf)
    (down,) = failures(stack, "agentic-postgres").values()
    assert reason in down.reason
    assert down.span.file == "pg.conf"


def test_without_a_superuser_password_the_image_does_not_start(tmp_path) -> None:
    services = PRIMARY.replace("[POSTGRES_PASSWORD=postgres]", "[POSTGRES_DB=x]")
    stack, _ = make(tmp_path, services)
    (down,) = failures(stack, "agentic-postgres").values()
    assert "superuser password is not specified" in down.reason


def test_an_empty_and_a_strange_file_do_no_harm(tmp_path) -> None:
    for text in ("", "\x00\x01'''\\", "include 'x'\n", "# only a comment", "a" * 10000, "'\n='"):
        settings, found = pg_conf.read(text, "pg.conf")
        assert all(f.code == "HA190" for f in found)
        pg_hba.read(text, "pg_hba.conf")
        pg_sql.read_sql(text, "x.sql")
        script.read(text, {}, None)
        pg_conf.conninfo(text)


# ---- readers -------------------------------------------------------------------------------------
def test_the_server_reads_a_file_as_we_do(tmp_path) -> None:
    """postgres -C on the same file."""
    if not BIN.exists() or shutil.which("runuser") is None:
        pytest.skip("no PostgreSQL 15 on this machine")
    text = (
        "max_connections 123\nwal_keep_size='2GB'\ncheckpoint_timeout = 7min # x\n"
        "cluster_name = 'it''s me'\nmax_connections = 77\nsynchronous_standby_names = '*'\n"
        "WAL_SENDER_TIMEOUT=30s\n\nhot_standby=f\nmax_slot_wal_keep_size = -1\n"
    )
    (tmp_path / "postgresql.conf").write_text(text, encoding="utf-8")
    (tmp_path / "PG_VERSION").write_text("15\n", encoding="utf-8")
    settings, found = pg_conf.read(text, "postgresql.conf")
    assert not found
    ours = {s.name: s.value for s in settings}
    for name, value in ours.items():
        run = subprocess.run(
            [BIN / "postgres", "-C", name, "-D", tmp_path], capture_output=True, text=True
        )
        if run.returncode:
            pytest.skip(run.stderr[:200])
        row = PARAMETERS[name]
        assert parse(row, value) == parse(row, run.stdout.rstrip("\n"))


def test_include_is_followed_once() -> None:
    asked = []

    def text_of(path: str, optional: bool) -> str | None:
        asked.append((path, optional))
        return {"more.conf": "port = 5433\n"}.get(path)

    settings, found = pg_conf.read("include 'more.conf'\n", "p.conf", text_of)
    assert [(s.name, s.value, s.span.file) for s in settings] == [("port", "5433", "more.conf")]
    _, found = pg_conf.read("include 'none.conf'\ninclude_if_exists 'x'\n", "p.conf", text_of)
    assert len(found) == 1
    assert asked == [("more.conf", False), ("none.conf", False), ("x", True)]


@pytest.mark.parametrize(
    ("line", "meets"),
    [
        ("host all all all scram-sha-256", None),
        ("host replication replicator all scram-sha-256", "scram-sha-256"),
        ("hostssl replication,all all 10.0.0.0/8 md5", "md5"),
        ("host replication all 127.0.0.1/32 trust", None),
        ("local replication all trust", None),
        ("host replication other all md5", None),
        ("host replication all 10.0.0.0 255.0.0.0 reject", "reject"),
        ('host "replication" all all md5', None),
        ("host replication all samenet trust # x", "trust"),
    ],
)
def test_replication_needs_a_line_of_its_own(line, meets) -> None:
    rules, found = pg_hba.read(line + "\n", "pg_hba.conf")
    assert not found
    rule = pg_hba.replication_rule(rules, "replicator")
    assert (rule.method if rule else None) == meets


def test_a_bad_line_of_pg_hba_is_named() -> None:
    text = "hosts all all all md5\nhost all all\nhost all all all scram\n"
    rules, found = pg_hba.read(text, "pg_hba.conf")
    assert not rules
    assert [f.span.line for f in found] == [1, 2, 3]
    assert "did you mean 'host'" in found[0].hint


def test_sql_scripts_alter_the_system_make_slots_and_roles() -> None:
    text = (
        "-- ALTER SYSTEM SET port = 1;\nALTER SYSTEM SET wal_level = replica;\n"
        "/* x; */ alter system set \"max_wal_senders\" to '7' ; SELECT 'a;b';\n"
        "DO $x$ BEGIN; ALTER SYSTEM SET port = 2; END $x$;\n"
        "SELECT pg_create_physical_replication_slot('pg_2', true);\n"
        f"CREATE USER replicator WITH REPLICATION ENCRYPTED PASSWORD '{PASSWORD}';\n"
        "CREATE ROLE plain LOGIN PASSWORD 'replication';\nALTER SYSTEM SET port = 9;\n"
        "ALTER SYSTEM RESET port"
    )
    facts, found = pg_sql.read_sql(text, "a.sql")
    assert not found
    assert [(s.name, s.value) for s in facts.settings] == [
        ("wal_level", "replica"),
        ("max_wal_senders", "7"),
    ]
    for setting in facts.settings:
        assert text[setting.span.start : setting.span.end] == setting.value
    assert [name for name, _ in facts.slots] == ["pg_2"]
    assert PASSWORD not in str(facts)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("host=a port=5433 user='x y'", {"host": "a", "port": "5433", "user": "x y"}),
        (r"host = a application_name=pg\'2", {"host": "a", "application_name": "pg'2"}),
        (
            "postgresql://u:p@h1:5432,h2:5433/db?target_session_attrs=read-write",
            {"host": "h1,h2", "port": "5432,5433", "user": "u", "dbname": "db"},
        ),
    ],
)
def test_conninfo(text, words) -> None:
    found, wrong = pg_conf.conninfo(text)
    assert not wrong
    assert words.items() <= found.items()
    assert pg_conf.conninfo("host=a port")[1]


# ---- synchronous_standby_names -------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", Rule()),
        ("a, b", Rule("first", 1, ("a", "b"))),
        ("*", Rule("first", 1, ("*",))),
        ("2 (a, b, c)", Rule("first", 2, ("a", "b", "c"))),
        ("ANY 2 (a, \"B c\")", Rule("any", 2, ("a", "B c"))),
        ("first 1 (pg-2)", Rule("first", 1, ("pg-2",))),
    ],
)  # fmt: skip
def test_the_rule(text, rule) -> None:
    assert parse_rule(text) == rule


def test_first_takes_by_priority_and_any_the_quickest() -> None:
    rows = ["b", "c", "a"]
    first, any_ = parse_rule("FIRST 2 (a, b, c)"), parse_rule("ANY 2 (a, b, c)")
    named = lambda row: (row,)  # noqa: E731
    assert candidates(first, rows, named) == ["a", "b"]
    assert wait_s(first, [3.0, 1.0]) == 3.0
    assert wait_s(any_, [3.0, 1.0, 2.0]) == 2.0
    assert wait_s(any_, [3.0]) is None
    assert wait_s(any_, [1.0, float("inf"), float("inf")]) is None
    assert wait_s(Rule(), []) == 0.0


# ---- design of the stack -------------------------------------------------------------------------
def test_two_servers_on_one_volume_are_named(tmp_path) -> None:
    again = PRIMARY.replace("  postgres:", "  other:").replace("agentic-postgres", "other")
    _, found = make(tmp_path, PRIMARY + again)
    assert any("PG-15" in f.message for f in found)


def test_pools_that_exceed_max_connections_are_added_up(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(
        globals(), "PROFILE", PROFILE.replace("source:", "pool: {to: postgres, size: 90, "
        "overflow: 20}, source:")
    )  # fmt: skip
    _, found = make(tmp_path, PRIMARY)
    assert any("110 connections" in f.message and "(PG-17)" in f.message for f in found)


# ---- knobs without a file of their own -----------------------------------------------------------
@pytest.mark.parametrize(
    "command", ["", "    command: postgres -c max_wal_size=2GB\n"], ids=["none", "flags"]
)
def test_a_default_is_set_on_the_command_line_and_read_back(tmp_path, command) -> None:
    from hasim.stack import with_settings

    make(tmp_path, PRIMARY + command)
    settings = {"postgres.agentic-postgres.wal_sender_timeout": "5s"}
    if command:
        settings["postgres.agentic-postgres.max_wal_size"] = "3GB"
        settings["postgres.agentic-postgres.wal_keep_size"] = "1GB"
    after = with_settings(tmp_path, settings)
    config = after.instance("agentic-postgres").config
    assert config.get("wal_sender_timeout") == 5.0
    assert config.get("max_wal_size") == (3 if command else 1) * 1024**3
    assert not [f for f in after.boot_failures if f.instance == "agentic-postgres"]


def test_flags_that_other_services_share_are_not_patched(tmp_path) -> None:
    base = "services:\n  base:\n    image: postgres:16\n    command: postgres -c port=5432 -N 50\n"
    service = (
        "\n  postgres:\n    extends: {file: base.yml, service: base}\n"
        "    container_name: agentic-postgres\n    environment: [POSTGRES_PASSWORD=x]\n"
    )
    stack, _ = make(tmp_path, service, base__yml=base)
    knob = next(k for k in stack.knobs if k.name.endswith("agentic-postgres.max_connections"))
    assert knob.value == "50"
    assert knob.origin.file == "base.yml"
    with pytest.raises(ValueError, match="cannot be patched"):
        patch_of(knob, "60")
