"""Which metrics each kind of software really shows, and which of them are simulated.

A rule about a metric that nobody shows never fires: the most frequent mistake in alerting rules,
and one that `promtool check rules` does not find.
"""

from __future__ import annotations

from hasim.errors import did_you_mean

# What a scrape of an instance of this kind shows here: metric -> its labels.
# Source: HAProxy 2.6.12, service prometheus-exporter, a dump of /metrics; postgres_exporter 0.15,
# collector/pg_replication.go; redis_exporter 1.5x, exporter/redis.go; Patroni 4.1, api.py
# do_GET_metrics; etcd 3.4, Documentation/metrics.md.
SHOWN: dict[str, dict[str, tuple[str, ...]]] = {
    "haproxy": {
        "haproxy_backend_active_servers": ("proxy",),
        "haproxy_backend_backup_servers": ("proxy",),
        "haproxy_backend_status": ("proxy", "state"),
        "haproxy_server_status": ("proxy", "server", "state"),
    },
    "postgres": {
        "pg_up": (),
        "pg_replication_is_replica": (),
        "pg_replication_lag_seconds": (),
    },
    "redis": {
        "redis_up": (),
        "redis_connected_slaves": (),
        "redis_master_link_up": (),
    },
    "sentinel": {
        "redis_sentinel_master_status": ("master_name",),
        "redis_sentinel_master_slaves": ("master_name",),
        "redis_sentinel_master_sentinels": ("master_name",),
        "redis_sentinel_master_ok_sentinels": ("master_name",),
    },
}

# Kinds that have no /metrics of their own: an exporter beside them answers, and answers on when
# they are dead. kind -> (the exporter, its usual port, its gauge of the server's life).
# Source: the READMEs of postgres_exporter and redis_exporter.
EXPORTERS = {
    "postgres": ("postgres_exporter", 9187, "pg_up"),
    "redis": ("redis_exporter", 9121, "redis_up"),
    "sentinel": ("redis_exporter", 9121, "redis_up"),
}

# Names that were current once, and what took their place. Source: postgres_exporter's
# queries.yaml and CHANGELOG; haproxy_exporter (retired) README against HAProxy's own exporter.
REPLACED = {
    "haproxy_backend_up": 'haproxy_backend_active_servers{proxy="..."}',
    "haproxy_server_up": 'haproxy_server_status{proxy="...",server="...",state="UP"}',
    "haproxy_up": 'up{job="..."}',
    "pg_replication_lag": "pg_replication_lag_seconds",
    "pg_static": "pg_up",
    "redis_instance_up": "redis_up",
}

# All names of HAProxy's exporter without their prefix. Source: HAProxy 2.6.12, dump of /metrics.
_HAPROXY = {
    "process": (
        "nbthread nbproc relative_process_id uptime_seconds pool_failures_total max_fds"
        " max_sockets max_connections hard_max_connections current_connections connections_total"
        " requests_total max_ssl_connections current_ssl_connections ssl_connections_total"
        " max_pipes pipes_used_total pipes_free_total current_connection_rate"
        " limit_connection_rate max_connection_rate current_session_rate limit_session_rate"
        " max_session_rate current_ssl_rate limit_ssl_rate max_ssl_rate"
        " current_frontend_ssl_key_rate max_frontend_ssl_key_rate frontend_ssl_reuse"
        " current_backend_ssl_key_rate max_backend_ssl_key_rate ssl_cache_lookups_total"
        " ssl_cache_misses_total http_comp_bytes_in_total http_comp_bytes_out_total"
        " limit_http_comp current_zlib_memory max_zlib_memory current_tasks current_run_queue"
        " idle_time_percent stopping jobs unstoppable_jobs listeners active_peers connected_peers"
        " dropped_logs_total busy_polling_enabled failed_resolutions bytes_out_total"
        " spliced_bytes_out_total bytes_out_rate recv_logs_total build_info max_memory_bytes"
        " pool_allocated_bytes pool_used_bytes start_time_seconds"
    ),
    "frontend": (
        "current_sessions max_sessions limit_sessions sessions_total bytes_in_total"
        " bytes_out_total requests_denied_total responses_denied_total request_errors_total status"
        " limit_session_rate max_session_rate http_responses_total http_requests_rate_max"
        " http_requests_total http_comp_bytes_in_total http_comp_bytes_out_total"
        " http_comp_bytes_bypassed_total http_comp_responses_total connections_rate_max"
        " connections_total intercepted_requests_total denied_connections_total"
        " denied_sessions_total failed_header_rewriting_total http_cache_lookups_total"
        " http_cache_hits_total internal_errors_total"
    ),
    "backend": (
        "current_queue max_queue current_sessions max_sessions limit_sessions sessions_total"
        " bytes_in_total bytes_out_total requests_denied_total responses_denied_total"
        " connection_errors_total response_errors_total retry_warnings_total"
        " redispatch_warnings_total status weight active_servers backup_servers"
        " check_up_down_total check_last_change_seconds downtime_seconds_total loadbalanced_total"
        " max_session_rate http_responses_total http_requests_total client_aborts_total"
        " server_aborts_total http_comp_bytes_in_total http_comp_bytes_out_total"
        " http_comp_bytes_bypassed_total http_comp_responses_total last_session_seconds"
        " queue_time_average_seconds connect_time_average_seconds response_time_average_seconds"
        " total_time_average_seconds failed_header_rewriting_total connection_attempts_total"
        " connection_reuses_total http_cache_lookups_total http_cache_hits_total"
        " max_queue_time_seconds max_connect_time_seconds max_response_time_seconds"
        " max_total_time_seconds internal_errors_total uweight agg_server_status"
        " agg_server_check_status agg_check_status"
    ),
    "server": (
        "current_queue max_queue current_sessions max_sessions limit_sessions sessions_total"
        " bytes_in_total bytes_out_total responses_denied_total connection_errors_total"
        " response_errors_total retry_warnings_total redispatch_warnings_total status weight"
        " check_failures_total check_up_down_total check_last_change_seconds"
        " downtime_seconds_total queue_limit current_throttle loadbalanced_total max_session_rate"
        " check_status check_code check_duration_seconds http_responses_total client_aborts_total"
        " server_aborts_total last_session_seconds queue_time_average_seconds"
        " connect_time_average_seconds response_time_average_seconds total_time_average_seconds"
        " failed_header_rewriting_total connection_attempts_total connection_reuses_total"
        " idle_connections_current idle_connections_limit max_queue_time_seconds"
        " max_connect_time_seconds max_response_time_seconds max_total_time_seconds"
        " internal_errors_total unsafe_idle_connections_current safe_idle_connections_current"
        " used_connections_current need_connections_current uweight"
    ),
}
HAPROXY = {f"haproxy_{kind}_{name}" for kind, names in _HAPROXY.items() for name in names.split()}

# First words of real metrics of which none but those in SHOWN is simulated.
FAMILIES = (
    "pg_stat_", "pg_settings_", "pg_locks_", "pg_database_", "pg_wal_", "pg_replication_slot",
    "redis_", "patroni_", "etcd_", "node_", "container_", "process_", "go_", "probe_",
    "prometheus_", "alertmanager_", "keepalived_", "scrape_", "pgbouncer_", "machine_",
)  # fmt: skip


def shows(kind: str, metric: str) -> bool:
    """Does an instance of this kind show the metric here?"""
    return metric in SHOWN.get(kind, {})


def labels_of(metric: str) -> tuple[str, ...]:
    """The labels of a metric that is simulated, besides job and instance."""
    return next((of[metric] for of in SHOWN.values() if metric in of), ())


def is_real(metric: str) -> bool:
    """Is it a metric of a real exporter that is not simulated?"""
    if any(metric in of for of in SHOWN.values()) or metric in REPLACED:
        return False
    return metric in HAPROXY or metric.startswith(FAMILIES)


def instead_of(metric: str) -> str:
    """A hint for a metric that nobody shows."""
    if metric in REPLACED:
        return f"write {REPLACED[metric]}"
    known = {name for of in SHOWN.values() for name in of} | HAPROXY
    return did_you_mean(metric, sorted(known))
