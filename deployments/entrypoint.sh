#!/bin/sh
# Secrets come as files; Prefect wants two of them in its environment, where only this process's children see them.
set -eu
umask 077
if [ -r /run/secrets/postgres_password ]; then
  PREFECT_SERVER_DATABASE_CONNECTION_URL="postgresql+asyncpg://prefect:$(cat /run/secrets/postgres_password)@postgres:5432/prefect"
  export PREFECT_SERVER_DATABASE_CONNECTION_URL
fi
if [ -r /run/secrets/prefect_auth ]; then
  PREFECT_API_AUTH_STRING="$(cat /run/secrets/prefect_auth)"
  PREFECT_SERVER_API_AUTH_STRING="$PREFECT_API_AUTH_STRING"
  export PREFECT_API_AUTH_STRING PREFECT_SERVER_API_AUTH_STRING
fi
exec "$@"
