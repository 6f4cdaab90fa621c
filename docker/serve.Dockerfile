# The served model: `intent serve`, and vLLM with our middleware in a separate environment.
# Extends the worker image.
#
#   docker build -f docker/serve.Dockerfile -t intent-pipeline-serve:0.1.0-cpu .
#   docker build -f docker/serve.Dockerfile -t intent-pipeline-serve:0.1.0 --build-arg SERVER=gpu .
ARG WORKER=intent-pipeline-worker:0.1.0

FROM ${WORKER} AS build
ARG SERVER=cpu
USER 0:0
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /opt/intent
ENV XDG_CACHE_HOME=/var/cache/build UV_LINK_MODE=copy
COPY requirements requirements
COPY pyproject.toml ./
COPY docker/precompile.py docker/finish.sh docker/
RUN --mount=type=cache,target=/var/cache/build \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    PATH=${PATH#*.venv/bin:} requirements/setup.sh .venv-vllm "requirements/vllm-${SERVER}.txt" \
    && docker/finish.sh .venv-vllm "requirements/vllm-${SERVER}.txt"

FROM ${WORKER}
ARG SERVER=cpu
USER 0:0
# vLLM on a CPU needs libnuma to place its threads; on a GPU triton compiles kernel launchers.
RUN case ${SERVER} in \
      cpu) packages=libnuma1 ;; \
      gpu) packages="libnuma1 g++" ;; \
      *) echo "SERVER=${SERVER}: cpu or gpu" >&2; exit 2 ;; \
    esac \
    && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ${packages} \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache \
      /var/log/apt /var/log/dpkg.log
COPY --from=build /opt/intent/.venv-vllm .venv-vllm
# The gateway accepts other hosts; vLLM itself stays on loopback behind it.
ENV INTENT_GATEWAY_HOST=0.0.0.0 \
    INTENT_GATEWAY_PORT=8000 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
EXPOSE 8000
CMD ["intent", "serve"]
# Checks the gateway: having no model before the first promotion is not an error.
HEALTHCHECK --interval=15s --timeout=5s --start-period=2m --retries=5 \
  CMD ["healthy", "http://127.0.0.1:8000/gateway/health"]
# The revision label comes from the worker image, which contains the code.
LABEL org.opencontainers.image.title="intent-pipeline-serve" \
      org.opencontainers.image.description="Intent pipeline: the served model, gateway and vLLM" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
