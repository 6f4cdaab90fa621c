#!/usr/bin/env bash
# Chromium for the test that looks at pages, from Debian where this may install it. Where it cannot
# be had, that test is skipped and says so.
set -euo pipefail
if command -v chromium >/dev/null || command -v google-chrome >/dev/null; then
  exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "setup: no chromium: the test of the reviewer's pages will be skipped" >&2
  exit 0
fi
echo "setup: chromium"
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-noto-cjk; } \
  >/dev/null || echo "setup: no chromium to be had: the test of the reviewer's pages will be skipped" >&2
