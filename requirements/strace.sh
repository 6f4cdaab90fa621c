#!/usr/bin/env bash
# strace for the test that watches what a whole walk reaches for, from Debian where this may install it.
# Where it cannot be had, the test is skipped and says so.
set -euo pipefail
command -v strace >/dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "setup: no strace: the test that needs it will be skipped" >&2
  exit 0
fi
echo "setup: strace"
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends strace; } \
  >/dev/null || echo "setup: no strace to be had: the test that needs it will be skipped" >&2
