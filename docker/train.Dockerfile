# Worker of the gpu pool: fine-tuning (torch, peft, bitsandbytes), and evaluation with vLLM.
# Extends the serving image (CPU or GPU) with the training packages.
#
#   docker build -f docker/train.Dockerfile -t intent-pipeline-train:0.1.0 .
#   docker build -f docker/train.Dockerfile -t intent-pipeline-train:0.1.0-cpu \
#     --build-arg SERVE=intent-pipeline-serve:0.1.0-cpu .
ARG SERVE=intent-pipeline-serve:0.1.0

# Installs the additional packages in one layer: copied from another stage, the image would contain
# the whole environment twice.
FROM ${SERVE}
USER 0:0
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN --mount=type=cache,target=/var/cache/build \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=bind,source=.,target=/mnt/context \
    cp -r /mnt/context/{requirements,docker,pyproject.toml} . \
    && XDG_CACHE_HOME=/var/cache/build UV_LINK_MODE=copy PATH=${PATH#*.venv/bin:} \
      requirements/setup.sh .venv requirements/train.txt \
    && docker/finish.sh .venv requirements/train.txt \
    && rm -rf requirements docker pyproject.toml
# Overrides the serving image: here vLLM serves evaluations only.
ENV INTENT_GATEWAY_HOST=127.0.0.1 \
    INTENT_SERVES_HERE=false
USER 10001:10001
CMD ["prefect", "--no-prompt", "worker", "start", "--pool", "gpu", "--type", "process", "--with-healthcheck"]
HEALTHCHECK --interval=15s --timeout=5s --start-period=2m --retries=5 \
  CMD ["healthy", "http://127.0.0.1:8080/health"]
# The revision label comes from the worker image, which contains the code.
LABEL org.opencontainers.image.title="intent-pipeline-train" \
      org.opencontainers.image.description="Intent pipeline: worker of the gpu pool, training and evaluation" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
