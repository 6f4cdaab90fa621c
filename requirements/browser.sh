#!/usr/bin/env bash
# Chromium for the tests that look at pages, from Debian where this may install it. Where it cannot
# be had, they are skipped and say so.
set -euo pipefail
if command -v chromium >/dev/null || command -v google-chrome >/dev/null; then
  exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "setup: no chromium: tests that look at pages will be skipped" >&2
  exit 0
fi
echo "setup: chromium"
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-noto-cjk; } \
  >/dev/null || echo "setup: no chromium to be had: tests that look at pages will be skipped" >&2
