# An MLflow server of the version that recdistill is tested with, and its driver for PostgreSQL.
# From the root of the tree: docker build -f deploy/mlflow.Dockerfile -t recdistill-mlflow .
FROM python:3.11-slim-bookworm AS build
ENV UV_CACHE_DIR=/var/cache/uv UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /src
COPY pyproject.toml constraints.txt ./
COPY deploy/install.sh deploy/
RUN --mount=type=cache,target=/var/cache/uv \
    deploy/install.sh dependencies /opt/venv mlflow psycopg-binary==3.3.9 psycopg==3.3.9

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="recdistill MLflow" \
      org.opencontainers.image.description="MLflow tracking server with a PostgreSQL driver" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN install -d -o 10001 -g 10001 /var/lib/mlflow
COPY --from=build /opt/venv /opt/venv
WORKDIR /var/lib/mlflow
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp USER=mlflow PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:5000/health', timeout=4)"]
# Where it keeps its tables comes with MLFLOW_BACKEND_STORE_URI. Clients send and fetch artefacts through the server itself.
ENTRYPOINT ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "2", \
    "--serve-artifacts", "--artifacts-destination", "/var/lib/mlflow/artifacts"]
