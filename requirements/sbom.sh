#!/usr/bin/env bash
# Write what is installed, as CycloneDX: sbom.sh FOLDER [IMAGE...]
# Of this checkout's environments from the environments; of images from the locks, which setup.sh
# installs and nothing else, and Debian's packages from each IMAGE (DOCKER=podman for another engine).
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1
mkdir -p "$folder"
# Not compared with the schema, which takes a minute.
write() {
  .venv/bin/cyclonedx-py "$@" --output-reproducible --no-validate \
    2>&1 | { grep -v 'Validation skipped' >&2 || true; }
}

for environment in .venv .venv-vllm; do
  write environment -o "$folder/${environment#.}.cdx.json" "$environment/bin/python"
done
for lock in worker train vllm-cpu vllm-gpu; do
  write requirements -o "$folder/image-$lock.cdx.json" "requirements/$lock.txt"
done
for image in "${@:2}"; do
  name=${image//[\/:]/-}
  "${DOCKER:-docker}" run --rm --network none --entrypoint dpkg-query "$image" --show \
    --showformat '${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n' \
    > "$folder/$name.debian.tsv"
done
ls "$folder"
