#!/usr/bin/env bash
# Install PostgreSQL from Debian for tests that run Prefect and MLflow on it. If it cannot be
# installed, these tests are skipped with a message.
set -euo pipefail
if command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
  exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "setup: no postgresql: tests that need it will be skipped" >&2
  exit 0
fi
echo "setup: postgresql"
export DEBIAN_FRONTEND=noninteractive
# Debian must not create a cluster; the tests create their own.
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] ||
  echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql; } \
  >/dev/null || echo "setup: failed to install postgresql: tests that need it will be skipped" >&2
