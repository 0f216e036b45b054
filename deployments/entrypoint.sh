#!/bin/sh
# Secrets come as files; Prefect wants them in its environment, where only this process's children see them.
set -eu
umask 077
secrets="${MAMMO_SECRETS_DIR:-/run/secrets}"
if [ -r "$secrets/postgres_password" ]; then
  PREFECT_SERVER_DATABASE_CONNECTION_URL="postgresql+asyncpg://prefect:$(cat "$secrets/postgres_password")@postgres:5432/prefect"
  export PREFECT_SERVER_DATABASE_CONNECTION_URL
fi
if [ -r "$secrets/redis_password" ]; then
  PREFECT_REDIS_MESSAGING_PASSWORD="$(cat "$secrets/redis_password")"
  PREFECT_SERVER_DOCKET_URL="redis://:$PREFECT_REDIS_MESSAGING_PASSWORD@${PREFECT_SERVER_DOCKET_URL#redis://}"
  export PREFECT_REDIS_MESSAGING_PASSWORD PREFECT_SERVER_DOCKET_URL
fi
if [ -r "$secrets/prefect_auth" ]; then
  PREFECT_API_AUTH_STRING="$(cat "$secrets/prefect_auth")"
  PREFECT_SERVER_API_AUTH_STRING="$PREFECT_API_AUTH_STRING"
  export PREFECT_API_AUTH_STRING PREFECT_SERVER_API_AUTH_STRING
fi
exec "$@"
