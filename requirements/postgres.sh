#!/usr/bin/env bash
# PostgreSQL for the tests that put Prefect and MLflow on it, from Debian where this may install it.
# Where it cannot be had, they are skipped and say so.
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
# No cluster of Debian's own beside those that the tests make.
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] ||
  echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql; } \
  >/dev/null || echo "setup: no postgresql to be had: tests that need it will be skipped" >&2
