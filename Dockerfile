# One image for every verb: `consume`, `serve`, `refresh`, and the short ones. No torch, no compiler, no root.
#
#     docker build -t headrace:0.1.0 .
#     docker run --rm headrace:0.1.0 consume --help

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY src/ src/
COPY streams/ streams/
COPY models/ models/
COPY online/ online/
RUN python -m venv /opt/headrace \
 && /opt/headrace/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt \
    ".[streams,serve,models]"

FROM python:3.12-slim
COPY --from=build /opt/headrace /opt/headrace
# Owned by the user, so that a volume that is mounted here for the first time is too.
RUN groupadd --gid 10001 headrace \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/headrace --shell /usr/sbin/nologin headrace \
 && install -d -o headrace -g headrace -m 0750 /var/lib/headrace /var/lib/headrace/models /var/lib/headrace/refresh
ENV PATH=/opt/headrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HEADRACE_REPOSITORY=/var/lib/headrace/models \
    HEADRACE_PARTS_BUILD_CACHE=/tmp/wheels \
    HEADRACE_REFRESH_STATE=/var/lib/headrace/refresh \
    HEALTH_URL=http://127.0.0.1:8080/livez
WORKDIR /var/lib/headrace
USER 10001:10001
# A worker that listens beyond loopback wants its token on every door, this one too.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(u.Request(os.environ['HEALTH_URL'], headers={'Authorization': 'Bearer ' + os.environ.get('HEADRACE_SERVE_TOKEN', '')}), timeout=4)"]
ENTRYPOINT ["headrace"]
CMD ["--help"]
