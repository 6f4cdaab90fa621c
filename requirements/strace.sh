#!/usr/bin/env bash
# Install strace from Debian for the test that traces network connections. If it cannot be installed,
# the test is skipped with a message.
set -euo pipefail
command -v strace >/dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "setup: no strace: the test that needs it will be skipped" >&2
  exit 0
fi
echo "setup: strace"
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends strace; } \
  >/dev/null || echo "setup: failed to install strace: the test that needs it will be skipped" >&2
