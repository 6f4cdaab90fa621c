#!/usr/bin/env bash
# Create the missing secrets of compose.yaml; existing files are kept.
set -euo pipefail
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
# The folder's mode protects the files, which must be readable by the containers' user.
chmod 0700 "$folder"
umask 022
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
make() {
  [ -s "$folder/$1" ] && return
  printf '%s\n' "$2" >"$folder/$1"
  echo "created $folder/$1"
}
make PGPASSWORD "$(random)"
make AWS_ACCESS_KEY_ID "intent-$(random | head -c 12)"
make AWS_SECRET_ACCESS_KEY "$(random)"
make INTENT_API_KEY "$(random)"
make inference_keys "default $(random)"
make PREFECT_API_AUTH_STRING "admin:$(random)"
