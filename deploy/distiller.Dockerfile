# The student learns from the teacher's rankings: examples -> checkpoints and bundles.
# From the root of the tree: docker build -f deploy/distiller.Dockerfile -t recdistill-distiller .
# The Dockerfiles of the five processes are alike but for the extras, the folders and the port; tests/deploy holds them to it.
FROM python:3.11-slim-bookworm AS build
ENV UV_CACHE_DIR=/var/cache/uv UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
# torch for CPU, a quarter of the size; --build-arg UV_TORCH_BACKEND= takes the one that constraints.txt was tested with, or name a CUDA version.
ARG UV_TORCH_BACKEND=cpu
WORKDIR /src
COPY pyproject.toml constraints.txt ./
COPY deploy/install.sh deploy/
RUN --mount=type=cache,target=/var/cache/uv \
    deploy/install.sh dependencies /opt/venv train,serve,kafka,registry
COPY README.md LICENSE ./
COPY recdistill recdistill
RUN --mount=type=cache,target=/var/cache/uv \
    deploy/install.sh package /opt/venv /app
COPY services /app/services

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="recdistill distiller" \
      org.opencontainers.image.description="The student learns from the teacher's rankings: examples -> checkpoints and bundles." \
      org.opencontainers.image.licenses="Apache-2.0"
# What a process may write to, so that a new volume there belongs to its user; everything else can be read-only, but for /tmp.
RUN install -d -o 10001 -g 10001 /var/lib/recdistill/student /var/lib/recdistill/student-control /var/lib/recdistill/teacher /var/lib/recdistill/cache
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
# Libraries look for a home and a user name; there is no account behind the number.
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp USER=recdistill PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    RECDISTILL_HEALTH_HOST=0.0.0.0 RECDISTILL_HEALTH_PORT=8081
USER 10001:10001
EXPOSE 8081
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8081/livez', timeout=4)"]
ENTRYPOINT ["python", "-m", "services.distiller"]
