"""What the kernel does not do yet: here the oracle follows it, so that the rest can be compared.

Each switch has a strict xfail in test_oracle_data_path.py; when the kernel changes, turn it.
"""

# The ping before use and the command after it each have a whole command_timeout.
PING_HAS_ITS_OWN_TIME = True
# HAProxy's idle timer also ends sessions whose server died in silence.
IDLE_TIMER_SEES_SILENT_DEATHS = True
# shutdown-sessions ends a session while a command is on its way from the caller to HAProxy.
SHUTDOWN_MEETS_WHAT_IS_UNDER_WAY = True
# A host that closes before its greeting ends libpq's connect (measured: psql 15).
EARLY_CLOSE_ENDS_LIBPQ = True
# A session outlives its caller's close until the server has answered (measured: HAProxy 2.6.12).
SESSION_OUTLIVES_ITS_CALLER = True
