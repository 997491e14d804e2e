"""URLs in the environment of a service: hosts in order, discovery, nothing secret."""

from hasim.read.client_urls import client_urls

INF = float("inf")


def one(text):
    (url,) = client_urls({"URL": text})
    return url


def test_libpq_hosts_in_order():
    url = one("postgresql+asyncpg://u:p%40@pg-1:5432,pg-2,10.0.0.3:5433/db"
              "?target_session_attrs=read-write&connect_timeout=1")  # fmt: skip
    assert url.hosts == (("pg-1", 5432), ("pg-2", 5432), ("10.0.0.3", 5433))
    assert (url.is_libpq, url.read_write, url.connect_timeout_s) == (True, True, 2.0)
    assert one("postgres://h/db").connect_timeout_s == INF
    assert not one("postgres://h/db?target_session_attrs=any").read_write


def test_sentinel_and_plain_redis():
    url = one("redis+sentinel://:secret@s1:26379,s2/mymaster/0")
    assert (url.is_sentinel, url.master, url.hosts) == (
        True, "mymaster", (("s1", 26379), ("s2", 26379)),
    )  # fmt: skip
    assert "secret" not in repr(url)
    plain = one("redis://:secret@redis-master/0")
    assert (plain.is_sentinel, plain.hosts) == (False, (("redis-master", 6379),))


def test_several_urls_in_one_value_and_none():
    found = client_urls({"A": "http://a:1,http://b:2/x", "B": None, "C": "no url", "D": "x://h"})
    assert [u.hosts for u in found] == [(("a", 1),), (("b", 2),)]
