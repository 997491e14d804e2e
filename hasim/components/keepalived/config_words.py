"""The words of keepalived.conf: those with a meaning here, those without an effect on who holds an
address, and those whose effect is not simulated. Source of all names: keepalived.conf(5), 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from hasim.source import Default


def manual(section: str, what: str) -> Default:
    """A default of keepalived with its citation."""
    return Default(f"keepalived.conf(5) 2.2, {section}: {what}")


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a block: its word, the field that keeps it, what is allowed, the default."""

    key: str
    field: str
    low: float
    high: float
    default: float
    unit: str = ""  # "s": seconds, may have a fraction
    inherits: str = ""  # the word of global_defs that sets the default


# Ranges and defaults. Source: keepalived.conf(5) 2.2, "VRRP instance(s)" and "VRRP script(s)";
# ranges as `keepalived -t` 2.2.7 reports them.
INSTANCE_NUMBERS = (
    Number("virtual_router_id", "router_id", 1, 255, 0),
    Number("priority", "priority", 1, 255, 100),
    Number("advert_int", "advert_s", 0.01, 255, 1, "s"),
    Number("version", "version", 2, 3, 2, "", "vrrp_version"),
    Number("preempt_delay", "preempt_delay_s", 0, 1000, 0, "s"),
    Number("garp_master_delay", "garp_delay_s", 0, 86400, 5, "s", "vrrp_garp_master_delay"),
    Number("garp_master_refresh", "garp_refresh_s", 0, 86400, 0, "s", "vrrp_garp_master_refresh"),
    Number("down_timer_adverts", "down_adverts", 1, 100, 3, "", "vrrp_down_timer_adverts"),
)
SCRIPT_NUMBERS = (
    Number("interval", "interval_s", 1, 1_000_000, 1, "s"),
    Number("timeout", "timeout_s", 1, 1_000_000, 0, "s"),
    Number("rise", "rise", 1, 2**31 - 1, 1),
    Number("fall", "fall", 1, 2**31 - 1, 1),
)
WEIGHTS = (-253, 253)  # source: as above


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TOP_READ = _words("global_defs vrrp_script vrrp_track_process vrrp_instance")
TOP_UNSIMULATED = _words(
    "vrrp_sync_group garp_group track_file vrrp_track_file track_group static_track_group "
    "bfd_instance virtual_server virtual_server_group linkbeat_interfaces interface_up_down_delays "
    "static_ipaddress static_routes static_rules net_namespace instance daemon"
)

GLOBAL_READ = _words(
    "vrrp_version vrrp_garp_master_delay vrrp_garp_master_refresh vrrp_down_timer_adverts "
    "default_interface vrrp_startup_delay"
)
GLOBAL_UNSIMULATED = _words(
    "vrrp_strict vrrp_lower_prio_no_advert vrrp_higher_prio_send_advert startup_script "
    "net_namespace instance"
)
GLOBAL_QUIET = _words(
    "router_id script_user enable_script_security max_auto_priority min_auto_priority_delay "
    "notification_email notification_email_from smtp_server smtp_connect_timeout smtp_helo_name "
    "smtp_alert smtp_alert_checker smtp_alert_vrrp no_email_faults no_checker_emails process_name "
    "process_names use_pid_dir umask random_seed dynamic_interfaces linkbeat_use_polling "
    "log_unknown_vrids child_wait_time data_use_instance dbus_service_name enable_dbus "
    "disable_local_igmp include_check notify_fifo notify_fifo_script reload_check_config "
    "reload_file reload_repeat reload_time_file rs_init_notifies shutdown_script "
    "shutdown_script_timeout startup_script_timeout snmp_socket tmp_config_directory "
    "config_save_dir fifo_write_vrrp_states_on_reload namespace_with_ipsets net_namespace_ipvs "
    "vmac_addr_prefix vmac_prefix process_monitor_rcv_bufs process_monitor_rcv_bufs_force "
    "vrrp_mcast_group4 vrrp_mcast_group6 vrrp_iptables vrrp_ipsets vrrp_min_garp "
    "vrrp_check_unicast_src vrrp_skip_check_adv_addr vrrp_cpu_affinity vrrp_priority "
    "vrrp_process_name vrrp_no_swap vrrp_rt_priority vrrp_rlimit_rttime vrrp_notify_fifo "
    "vrrp_notify_fifo_script vrrp_notify_priority_changes vrrp_rx_bufs_policy "
    "vrrp_rx_bufs_multiplier vrrp_gna_interval vrrp_garp_interval vrrp_garp_extra_if "
    "vrrp_garp_lower_prio_delay vrrp_garp_lower_prio_repeat vrrp_garp_master_repeat "
    "vrrp_garp_master_refresh_repeat vrrp_netlink_cmd_rcv_bufs vrrp_netlink_cmd_rcv_bufs_force "
    "vrrp_netlink_monitor_rcv_bufs vrrp_netlink_monitor_rcv_bufs_force"
)
GLOBAL_QUIET_PREFIXES = ("lvs_", "bfd_", "checker_", "nftables", "enable_snmp", "enable_traps")

INSTANCE_READ = _words(
    "state interface nopreempt preempt unicast_src_ip mcast_src_ip unicast_peer virtual_ipaddress "
    "virtual_ipaddress_excluded track_script track_process authentication"
) | {n.key for n in INSTANCE_NUMBERS}
INSTANCE_UNSIMULATED = _words(
    "track_interface track_file track_bfd track_src_ip lower_prio_no_advert "
    "higher_prio_send_advert strict_mode use_vmac use_ipvlan no_accept unicast_fault_no_peer "
    "linkbeat_use_polling"
)
INSTANCE_QUIET = _words(
    "notify notify_master notify_backup notify_fault notify_stop notify_deleted "
    "notify_master_rx_lower_pri notify_priority_changes smtp_alert debug dont_track_primary "
    "accept native_ipv6 promote_secondaries kernel_rx_buf_size mcast_dst_ip unicast_ttl "
    "check_unicast_src skip_check_adv_addr old_unicast_checksum use_vmac_addr vmac_xmit_base vrf "
    "virtual_routes virtual_rules garp_extra_if garp_lower_prio_delay garp_lower_prio_repeat "
    "garp_master_repeat garp_master_refresh_repeat garp_interval gna_interval"
)
SCRIPT_READ = _words("script weight init_fail") | {n.key for n in SCRIPT_NUMBERS}
SCRIPT_QUIET = _words("user")
PROCESS_READ = _words("process weight terminate_delay delay")
PROCESS_QUIET = _words("param_match quorum quorum_max fork_delay full_command")
