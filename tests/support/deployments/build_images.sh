#!/usr/bin/env bash
# Build the images without a Docker engine, inspect them and run them:
#
#   apt-get install buildah debootstrap
#   tests/support/deployments/build_images.sh [IMAGE...]      worker s3 serve train; without a name: worker serve
#
# Run as root on Debian. It needs about 15 GB for worker and serve, and takes minutes. All files are
# below WORK and are removed at the end (KEEP=1 keeps them). Only committed files are built.
# `train` also runs `intent demo` in its image, from an export to an answer, without a GPU.
set -euo pipefail
cd "$(dirname "$0")/../../.."
images=("$@")
[ $# -gt 0 ] || images=(worker serve)
work=${WORK:-/var/tmp/intent-images}
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)

fail() {
  echo "build_images: $*" >&2
  exit 1
}
for program in buildah debootstrap git; do
  command -v "$program" >/dev/null || fail "$program is missing: apt-get install buildah debootstrap git"
done
[ "$(id -u)" = 0 ] || fail "run it as root: debootstrap and chroot require it"

containers() { buildah --root "$work/storage" --runroot "$work/run" "$@"; }
clean() {
  [ -n "${KEEP:-}" ] && return
  containers rm --all >/dev/null 2>&1 || true
  ! mountpoint -q "$work/storage/overlay" || umount "$work/storage/overlay"
  rm -rf "$work"
}
trap clean EXIT
mkdir -p "$work/context" "$work/tmp"
# buildah unpacks layers here.
export TMPDIR=$work/tmp

# --- this machine's pip settings, for the builds only ------------------------------------------
pip_setting() {
  local variable=PIP_${1^^}
  variable=${variable//-/_}
  [ -n "${!variable:-}" ] && echo "${!variable}" && return
  python3 -m pip config list 2>/dev/null | sed -n "s/^global\.$1='\(.*\)'$/\1/p" || true
}
mounts=()
echo "[global]" >"$work/pip.conf"
for name in index-url extra-index-url find-links cert; do
  value=$(pip_setting "$name" | tr '\n' ' ')
  [ -n "$value" ] && printf '%s = %s\n' "$name" "$value" >>"$work/pip.conf"
  for place in $value; do
    place=${place#file://}
    [ ! -e "$place" ] || [ "${place#/}" = "$place" ] || mounts+=(--volume "$place:$place:ro")
  done
done

# --- the base ----------------------------------------------------------------------------------
# Without a digest: an image that was made here has another.
base=$(sed -n 's/^ARG BASE=\([^@]*\).*/\1/p' docker/worker.Dockerfile)
make_base() {
  local container root mirror
  # The mirror that apt uses on this machine.
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' | sort -u | head -1)
  container=$(containers from scratch)
  root=$(containers mount "$container")
  debootstrap --variant=minbase --include=python3.11-dev,python3.11-venv,python3-distutils,ca-certificates \
    bookworm "${root:?}" ${mirror:+"$mirror"} >"$work/debootstrap.log" 2>&1 ||
    fail "debootstrap failed: $(tail -3 "$work/debootstrap.log")"
  rm -rf "${root:?}"/var/cache/apt/archives/*.deb "${root:?}"/var/lib/apt/lists/*
  containers umount "$container" >/dev/null
  containers config --cmd bash --env PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin \
    "$container"
  containers commit --quiet --rm "$container" "$base" >/dev/null
}
if containers inspect --type image "$base" >/dev/null 2>&1; then
  echo "base: $base already exists"
elif timeout 90 buildah --root "$work/storage" --runroot "$work/run" pull --quiet "$base" \
    >/dev/null 2>&1; then
  echo "base: $base was pulled"
else
  make_base
  echo "base: no registry is reachable; built $base from Debian's Python"
fi

# --- the images --------------------------------------------------------------------------------
git archive HEAD | tar -x -C "$work/context"
build() {
  local name=$1 tag=$2 started=$SECONDS
  shift 2
  containers build --quiet --format docker --pull-never --file "docker/$name.Dockerfile" \
    --secret "id=pip,src=$work/pip.conf" --timestamp "$(git log -1 --format=%ct)" \
    --build-arg "BASE=$base" --tag "intent-pipeline-$name:$tag" "${mounts[@]}" "$@" "$work/context" \
    >"$work/$name.log" 2>&1 || {
    tail -25 "$work/$name.log" >&2
    fail "could not build $name; complete log: $work/$name.log (KEEP=1 keeps it)"
  }
  echo "$name: built in $((SECONDS - started)) s"
}

# within IMAGE COMMAND...: run as the image's user in a temporary container
within() {
  local container status=0
  container=$(containers from --pull-never "$1")
  containers run --user 10001:10001 "$container" -- "${@:2}" || status=$?
  containers rm "$container" >/dev/null
  return "$status"
}

report() {
  local image=$1 size container root
  size=$(containers images --format '{{.Size}}' "$image")
  echo "$image: $size in all"
  within "$image" sh -c 'du -sh /opt/intent/.venv* 2>/dev/null || true'
  within "$image" sh -c '[ "$(id -u)" = 10001 ] && [ ! -w /opt/intent ] && [ ! -w /usr/local/bin ] &&
    [ -w /var/lib/intent ] && [ ! -e .venv/bin/uv ] && [ ! -e .venv/bin/pip ]' ||
    fail "$image: wrong user, permissions or leftover build tools"
  container=$(containers from --pull-never "$image")
  root=$(containers mount "$container")
  [ -z "$(find "${root:?}/var/cache/build" "$root/var/lib/apt/lists" -type f 2>/dev/null)" ] ||
    fail "$image: contains build caches"
  containers rm "$container" >/dev/null
}

# Check that `intent serve` answers at its gateway and stops on SIGTERM.
serves='
  export INTENT_HOME=/tmp/home INTENT_GATEWAY_PORT=18099 INTENT_GATEWAY_HOST=127.0.0.1
  url=http://127.0.0.1:18099/gateway/health
  intent serve & server=$!
  for second in $(seq 90); do healthy "$url" 2>/dev/null && break; sleep 1; done
  healthy "$url" && echo "intent serve: the gateway answers"
  python -c "import urllib.request as r; print(r.urlopen(\"$url\").read().decode())"
  kill -TERM "$server"
  wait "$server"'

for name in worker serve train s3; do
  case " ${images[*]} " in
    *" $name "*) wanted=1 ;;
    *) wanted= ;;
  esac
  case $name in
    worker)
      # The other images are built on it.
      build worker "$version" --build-arg "INTENT_COMMIT=$(git rev-parse HEAD)"
      image=intent-pipeline-worker:$version
      report "$image"
      within "$image" with-secrets intent --help >/dev/null && echo "worker: intent --help"
      within "$image" prefect version >/dev/null && echo "worker: prefect version"
      within "$image" mlflow --version
      within "$image" sh -euc 'command -v sleep
        if python -c "import torch" 2>/dev/null; then echo "torch is installed" >&2; exit 1; fi
        python -c "import flows.pipeline, flows.watch_exports, flows.promote, psycopg2, asyncpg"'
      within "$image" sh -euc "$serves"
      ;;
    serve)
      [ "$wanted" ] || [[ " ${images[*]} " == *" train "* ]] || continue
      build serve "$version-cpu"
      image=intent-pipeline-serve:$version-cpu
      report "$image"
      within "$image" with-secrets intent --help >/dev/null && echo "serve: intent --help"
      within "$image" .venv-vllm/bin/python -c 'import vllm, vllm._C; print("vllm", vllm.__version__)'
      within "$image" sh -euc "$serves"
      ;;
    train)
      [ "$wanted" ] || continue
      build train "$version-cpu" --build-arg "SERVE=intent-pipeline-serve:$version-cpu"
      image=intent-pipeline-train:$version-cpu
      report "$image"
      within "$image" python -c 'import torch, peft, bitsandbytes; print("torch", torch.__version__)'
      within "$image" sh -euc '
        export INTENT_HOME=/tmp/home INTENT_PREFECT_PORT=14200 INTENT_MLFLOW_PORT=15000 INTENT_GATEWAY_PORT=18099
        intent demo || status=$?
        intent down
        exit ${status:-0}'
      ;;
    s3)
      [ "$wanted" ] || continue
      build s3 "$version"
      image=intent-pipeline-s3:$version
      echo "$image: $(containers images --format '{{.Size}}' "$image") in all"
      within "$image" weed version
      ;;
  esac
done
echo "build_images: ${images[*]}: built and tested"
