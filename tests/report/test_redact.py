"""Secrets in every format that the readers read."""

from __future__ import annotations

import pytest

from hasim.report.redact import HIDDEN, redact, redact_all, secrets

LINES = [
    "CREATE USER replicator WITH REPLICATION ENCRYPTED PASSWORD '{}';",
    "    - POSTGRES_PASSWORD={}",
    '    - "API_TOKEN={}"',
    "    - 'MY_SECRET={}'",
    "    - DB_PASS=${{DB_PASS:-{}}}",
    "      POSTGRES_PASSWORD: {}",
    '      POSTGRES_PASSWORD: "{}"',
    "    environment: {{REDIS_PASSWORD: {}, B: y}}",
    "  echo 'primary_conninfo = ''host=pg user=r password={}''' >> x",
    "  command: redis-server --requirepass {} --appendonly yes",
    "  command: redis-server --masterauth {}",
    '  command: ["redis-server", "--requirepass", "{}"]',
    "  command:\n    - --requirepass\n    - {}",
    "sentinel auth-pass mymaster {}",
    "sentinel sentinel-pass {}",
    "requirepass {}",
    'requirepass "{}"',
    "masterauth {}",
    "    auth_pass {}",
    "  stats auth admin:{}",
    "  user haproxy insecure-password {}",
    "  user joe password {}",
    "user default on >{} ~* +@all",
    "DATABASE_URL=postgresql://app:{}@postgres:5432/db",
    "REDIS_URL: redis://:{}@redis:6379",
    '  test: ["CMD-SHELL", "redis-cli -a {} ping"]',
    "  superuser:\n    password: {}",
    "  replication: {{username: r, password: {}}}",
    "  curl -u admin:{} x",
    "Authorization: Bearer {}",
    "export PGPASSWORD={}",
    "SECRET_KEY={}",
    "pg:5432:app:me:{}",
    "password: |\n  {}\nnext: 1",
]


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("secret", ["hunter2hunter2", "Zq9#x!kk7", "0a-b_c.d+e"])
def test_a_secret_is_hidden(line: str, secret: str) -> None:
    out = redact(line.format(secret))
    assert secret not in out
    assert secret[4:] not in out
    assert HIDDEN in out


@pytest.mark.parametrize(
    "line",
    [
        "timeout connect 5000",
        "server l09-1 gw:8009 check inter 2000 fall 3",
        "- POSTGRES_USER=postgres",
        "- X_SECRET=${X_SECRET}",
        'B_TOKEN: "${TOK:?set it}"',
        "secrets:\n  db:\n    file: ./db.txt",
        "http-check expect status 200",
        "image: postgres:16-alpine",
        "restart: unless-stopped",
        "test: curl http://localhost:8009/health/live",
        "option redispatch",
    ],
)
def test_everything_else_stays(line: str) -> None:
    assert redact(line) == line


def test_a_secret_is_hidden_wherever_it_stands() -> None:
    files = {"a.yml": "PASSWORD: hunter2hunter2\n", "b.sh": "echo hunter2hunter2\n"}
    copies, known = redact_all(files)
    assert copies["b.sh"] == f"echo {HIDDEN}\n"
    assert known == {"hunter2hunter2"}


def test_a_common_word_is_hidden_only_in_its_place() -> None:
    text = "services:\n  postgres:\n    environment:\n      - POSTGRES_PASSWORD=postgres\n"
    out = redact(text)
    assert "POSTGRES_PASSWORD=postgres" not in out
    assert "  postgres:\n" in out
    assert secrets(text) == set()


def test_lines_keep_their_numbers() -> None:
    text = "a: 1\npassword: x9x9x9\n# c\nrequirepass y8y8y8\nb: 2\n"
    assert redact(text).count("\n") == text.count("\n")


@pytest.mark.parametrize(
    "line",
    [
        "requirepas hunter22x",
        "require-pass hunter22x",
        "masteraut hunter22x",
        "sentinel auth-pas mymaster hunter22x",
        "sentinel auth_pass mymaster hunter22x",
        "sentinel sentinel-pas hunter22x",
        "    auth_pas hunter22x",
    ],
)
def test_a_misspelt_directive_hides_its_secret(line):
    assert redact(f"port 1\n{line}\n") == f"port 1\n{line.replace('hunter22x', HIDDEN)}\n"


def test_what_only_resembles_a_secret_directive_stays():
    text = "masteruser app\nprimary_slot_name x1\nauth_type PASS\nsentinel auth-user m app\n"
    assert redact(text) == text
