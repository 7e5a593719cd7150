# syntax=docker/dockerfile:1
# Two stages: the first has the tools, a C compiler among them, the second only what runs. No ClickHouse inside: give it
# a clickhouse.url.

FROM python:3.11 AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/dyncdc
COPY requirements/uv.lock requirements/runtime.lock requirements/
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements/uv.lock \
 && uv pip install --python /opt/dyncdc/bin/python --no-cache --require-hashes --no-deps -r requirements/runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY dyncdc dyncdc
RUN uv pip install --python /opt/dyncdc/bin/python --no-cache --no-deps --no-build-isolation . \
 && /opt/dyncdc/bin/python -I -c "import dyncdc.native._rows, dyncdc.native._get_records" \
 && uv pip uninstall --python /opt/dyncdc/bin/python setuptools \
 && /opt/dyncdc/bin/python -m compileall -q /opt/dyncdc

FROM python:3.11-slim
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dyncdc" \
      org.opencontainers.image.description="Keeps ClickHouse tables equal to DynamoDB tables" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin dyncdc \
 && pip uninstall --yes --root-user-action=ignore setuptools wheel pip
COPY --from=build /opt/dyncdc /opt/dyncdc
ENV PATH=/opt/dyncdc/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DYNCDC_CONFIG=/etc/dyncdc/config.toml \
    DYNCDC_HTTP__LISTEN=0.0.0.0:9108
USER 10001
EXPOSE 9108
# The root filesystem may be read-only: nothing is written but, where it exists, /tmp by the SDK.
# liveness only: an outage of ClickHouse must not restart the container
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", \
  "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9108/livez', timeout=4)"]
# drains within run.shutdown_seconds (25 s): give it 30 (docker run --stop-timeout 30)
STOPSIGNAL SIGTERM
ENTRYPOINT ["dyncdc"]
CMD ["run"]
