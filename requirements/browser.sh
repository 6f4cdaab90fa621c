#!/usr/bin/env bash
# Install Chromium from Debian for tests that open pages. If it cannot be installed, these tests are
# skipped with a message.
set -euo pipefail
if command -v chromium >/dev/null || command -v google-chrome >/dev/null; then
  exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "setup: no chromium: tests that open pages will be skipped" >&2
  exit 0
fi
echo "setup: chromium"
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-noto-cjk; } \
  >/dev/null || echo "setup: failed to install chromium: tests that open pages will be skipped" >&2
