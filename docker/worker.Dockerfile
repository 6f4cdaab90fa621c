# The pipeline without torch and vLLM: workers of the cpu pool, and the servers of Prefect and MLflow.
#
#   docker build -f docker/worker.Dockerfile -t intent-pipeline-worker:0.1.0 \
#     --build-arg INTENT_COMMIT=$(git rev-parse HEAD) .
#
# To pin the base image: docker/pin-images.sh, or --build-arg BASE=registry.example/python@sha256:...
# To use another package index: --secret id=pip,src=pip.conf
ARG BASE=docker.io/library/python:3.11.14-slim-bookworm

FROM ${BASE} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /opt/intent
# Three packages are compiled from source: the compiler stays in this stage.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ENV XDG_CACHE_HOME=/var/cache/build UV_LINK_MODE=copy
COPY requirements requirements
COPY pyproject.toml ./
COPY docker/precompile.py docker/finish.sh docker/
# A separate layer, so that a change of the code does not reinstall all packages.
RUN --mount=type=cache,target=/var/cache/build \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    requirements/setup.sh .venv requirements/worker.txt \
    && .venv/bin/python docker/precompile.py .venv
COPY README.md LICENSE ./
COPY flows flows
COPY tasks tasks
COPY intent_core intent_core
COPY clients/python clients/python
# Editable install: the code finds recipes and pools relative to its own path.
RUN --mount=type=cache,target=/var/cache/build \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    sed -n '/^setuptools==/,/[^\\]$/p' requirements/pipeline.txt \
    | .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
      --require-hashes --requirement /dev/stdin \
    && .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
      --no-build-isolation --editable . --editable clients/python \
    && rm -rf ./*.egg-info clients/python/src/*.egg-info build \
    && docker/finish.sh .venv requirements/worker.txt flows tasks intent_core \
      clients/python/src

FROM ${BASE}
# Any user of group 0 can write to the home; a mounted home keeps its own permissions.
RUN groupadd --gid 10001 intent \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/intent \
      --shell /usr/sbin/nologin intent \
    && install -d -o 10001 -g 0 -m 0775 /var/lib/intent \
    && rm -f /var/log/lastlog /var/log/faillog /etc/*-
WORKDIR /opt/intent
COPY docker/with-secrets /usr/local/bin/with-secrets
COPY docker/healthy.py /usr/local/bin/healthy
COPY --from=build /opt/intent/.venv .venv
COPY deployments deployments
COPY prefect.yaml LICENSE ./
COPY --from=build /opt/intent/intent_core intent_core
COPY --from=build /opt/intent/tasks tasks
COPY --from=build /opt/intent/flows flows
COPY --from=build /opt/intent/clients clients
# HOME and USER for users that are not in the image.
ENV PATH=/opt/intent/.venv/bin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin \
    HOME=/var/lib/intent \
    USER=intent \
    INTENT_HOME=/var/lib/intent \
    PREFECT_HOME=/var/lib/intent/prefect \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=true \
    GRADIO_ANALYTICS_ENABLED=false \
    HF_HUB_DISABLE_TELEMETRY=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    VLLM_NO_USAGE_STATS=1 \
    GIT_PYTHON_REFRESH=quiet
USER 10001:10001
VOLUME ["/var/lib/intent"]
ENTRYPOINT ["with-secrets"]
CMD ["prefect", "--no-prompt", "worker", "start", "--pool", "cpu", "--type", "process", "--with-healthcheck"]
HEALTHCHECK --interval=15s --timeout=5s --start-period=2m --retries=5 \
  CMD ["healthy", "http://127.0.0.1:8080/health"]
ARG INTENT_COMMIT=""
ENV INTENT_COMMIT=${INTENT_COMMIT}
LABEL org.opencontainers.image.title="intent-pipeline-worker" \
      org.opencontainers.image.description="Intent pipeline: worker of the cpu pool, Prefect and MLflow" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${INTENT_COMMIT}" \
      org.opencontainers.image.licenses="Apache-2.0"
