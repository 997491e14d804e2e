#!/bin/sh
# The image runs this on its first start.
psql -c "CREATE USER replicator WITH REPLICATION PASSWORD 'change-me-replicator'"
echo "host replication replicator 10.0.5.0/24 scram-sha-256" >> "$PGDATA/pg_hba.conf"
