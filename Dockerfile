# Three images, each with only what it runs: `api` has no TensorFlow, `worker` has it, and `ray` has Ray too: it is a node
# of a cluster, or a worker that trains there. How to run them: docs/deployment.md. Needs BuildKit, for the cache of packages that is kept between builds.

# 3.13 is the newest Python that requirements/*.txt are locked for.
FROM python:3.13-slim AS python
ENV PIP_CACHE_DIR=/var/cache/pip
WORKDIR /src


# Epochd itself, as a wheel. The migrations travel inside it.
FROM python AS wheel
COPY requirements/build.txt requirements/
RUN --mount=type=cache,target=/var/cache/pip \
    python -m venv --without-pip /opt/build && \
    pip --python /opt/build install --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY migrations migrations
RUN pip --python /opt/build wheel --no-deps --no-build-isolation --wheel-dir /dist .


# The packages come before the wheel, so that a change of epochd's own code does not install them again.
# The images get these environments as they are, without pip.
FROM python AS api-environment
COPY requirements/base.txt requirements/
RUN --mount=type=cache,target=/var/cache/pip \
    python -m venv --without-pip /opt/epochd && \
    pip --python /opt/epochd install --require-hashes -r requirements/base.txt
COPY --from=wheel /dist /dist
RUN pip --python /opt/epochd install --no-deps --no-index /dist/*.whl


FROM python AS worker-environment
COPY requirements/train.txt requirements/
RUN --mount=type=cache,target=/var/cache/pip \
    python -m venv --without-pip /opt/epochd && \
    pip --python /opt/epochd install --require-hashes -r requirements/train.txt
COPY --from=wheel /dist /dist
RUN pip --python /opt/epochd install --no-deps --no-index /dist/*.whl


FROM python AS ray-environment
COPY requirements/ray.txt requirements/
RUN --mount=type=cache,target=/var/cache/pip \
    python -m venv --without-pip /opt/epochd && \
    pip --python /opt/epochd install --require-hashes -r requirements/ray.txt
COPY --from=wheel /dist /dist
RUN pip --python /opt/epochd install --no-deps --no-index /dist/*.whl


# What all images share. The uid is fixed and given as a number: files in a volume keep their owner from one version
# to the next, and Kubernetes can see that it is not root.
FROM python:3.13-slim AS runtime
LABEL org.opencontainers.image.title="epochd" \
      org.opencontainers.image.description="Trains Keras models behind a REST API, and shows why depth hurts sigmoid and not ReLU." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13-slim"
RUN groupadd --gid 10001 epochd && \
    useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin epochd && \
    install --directory --owner 10001 --group 10001 --mode 0750 /data
ENV PATH=/opt/epochd/bin:$PATH \
    EPOCHD_DATA_DIR=/data
# After the folder has its owner: a new volume takes it from here.
VOLUME /data
WORKDIR /data
USER 10001:10001


# SIGTERM is the default stop signal; `epochd worker` drains on it. There is no npm here: where Keras's own download
# is not reachable, MNIST comes from a mounted file (EPOCHD_MNIST_PATH).
FROM runtime AS worker
COPY --from=worker-environment /opt/epochd /opt/epochd
# A worker keeps a warm trainer process for every slot, and trainers end with their worker. So one that runs means a
# worker that lives; none means that it is gone, or has lost all its slots. The brackets keep the pattern from
# finding itself.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD grep -qsa 'service[.]engines[.]trainer' /proc/[0-9]*/cmdline || exit 1
CMD ["epochd", "worker"]


# Ray keeps its sockets and logs below /tmp, and wants shared memory: give it `--shm-size`.
FROM runtime AS ray
COPY --from=ray-environment /opt/epochd /opt/epochd
ENV RAY_USAGE_STATS_ENABLED=0
# A node of a cluster, or a worker by the process of its that is part of one.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD grep -qsaE 'raylet|service[.]engines[.]ray_driver' /proc/[0-9]*/comm /proc/[0-9]*/cmdline || exit 1
CMD ["epochd", "worker"]


# The last stage is what `docker build .` makes. It listens on every address of its container, for only so a port can
# be published. So it does not start before an API key was made, unless EPOCHD_INSECURE=true: publish it on the loopback
# address then.
FROM runtime AS api
COPY --from=api-environment /opt/epochd /opt/epochd
ENV EPOCHD_HOST=0.0.0.0 \
    EPOCHD_PORT=8000
EXPOSE 8000
# Past any proxy that the environment names. An answer that is not 200 is an error.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(f\"http://127.0.0.1:{os.environ['EPOCHD_PORT']}/health/ready\", timeout=4)"]
CMD ["epochd", "serve", "--no-worker"]
