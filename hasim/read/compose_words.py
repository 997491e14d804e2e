"""The words of the compose specification that a file may use.

Source: compose specification (services, deploy and build elements), compared with what
docker-compose 1.29.2 and 2.26.1 accept.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TOP = _words("version name services networks volumes secrets configs include models")
SERVICE = _words(
    """
    annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs
    container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime
    cpu_shares cpus cpuset credential_spec depends_on deploy develop device_cgroup_rules devices
    dns dns_opt dns_search domainname entrypoint env_file environment expose extends
    external_links extra_hosts gpus group_add healthcheck hostname image init ipc isolation
    label_file labels links logging mac_address mem_limit mem_reservation mem_swappiness
    memswap_limit models network_mode networks oom_kill_disable oom_score_adj pid pids_limit
    platform ports post_start pre_stop privileged profiles provider pull_policy read_only restart
    runtime scale secrets security_opt shm_size stdin_open stop_grace_period stop_signal
    storage_opt sysctls tmpfs tty ulimits use_api_socket user userns_mode uts volume_driver
    volumes volumes_from working_dir
    """
)
HEALTHCHECK = _words("test interval timeout retries start_period start_interval disable")
DEPLOY = _words(
    """mode endpoint_mode replicas labels rollback_config update_config resources restart_policy
    placement"""
)
RESOURCES = frozenset(("limits", "reservations"))
LIMITS = _words("cpus memory pids devices generic_resources")
CONDITIONS = frozenset(("service_started", "service_healthy", "service_completed_successfully"))
