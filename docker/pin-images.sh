#!/usr/bin/env bash
# Pin the base images, and PostgreSQL, to the digests that the registry has for their tags now:
#
#   docker/pin-images.sh [FOLDER]       # default: this folder; run it again for newer builds
#
# Writes `@sha256:...` after each tag in *.Dockerfile and compose.yaml. Needs skopeo, or docker with
# buildx. If any image cannot be looked up, no file is changed.
set -euo pipefail
cd "${1:-$(dirname "$0")}"
files=(*.Dockerfile compose.yaml)
image='docker\.io/library/[a-z0-9]+:[A-Za-z0-9._-]+'

digest_of() {
  if command -v skopeo >/dev/null; then
    skopeo inspect --no-tags --format '{{.Digest}}' "docker://$1"
  elif command -v docker >/dev/null; then
    docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$1"
  else
    echo "neither skopeo nor docker is installed" >&2
    return 1
  fi
}

pins=()
for tag in $(grep -ohE "$image" "${files[@]}" | sort -u); do
  digest=$(digest_of "$tag") && [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || {
    echo "pin-images: no digest for $tag: run this where its registry is reached; nothing was changed" >&2
    exit 1
  }
  pins+=(-e "s#${tag//./\\.}(@sha256:[0-9a-f]{64})?#$tag@$digest#")
  echo "$tag@$digest"
done
sed -i -E "${pins[@]}" "${files[@]}"
