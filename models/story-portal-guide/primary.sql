-- Run by hand on the primary; only a restart makes it count (PG-9).
ALTER SYSTEM SET wal_level = replica;
ALTER SYSTEM SET max_wal_senders = 3;
ALTER SYSTEM SET max_replication_slots = 3;
ALTER SYSTEM SET hot_standby = on;

CREATE USER replicator WITH REPLICATION ENCRYPTED PASSWORD 'repl_password';
