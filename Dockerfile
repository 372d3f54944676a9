# mattergen-lite in a container.
#
#   docker build -t mattergen-lite --build-arg TORCH_INDEX=<index of PyTorch's CPU wheels> .
#   docker run --rm -v "$PWD/results:/workspace/results" mattergen-lite \
#       generate --num-samples 16 --out results/first
#
# TORCH_INDEX is the pip index that PyTorch comes from. Without it pip's own index is used, whose
# Linux wheels carry CUDA: that is the GPU image, several GB larger, to be run with `--gpus all`.
# UID makes the files in a mounted folder yours: --build-arg UID="$(id -u)".
ARG BASE=python:3.11-slim
FROM ${BASE}

ARG TORCH_INDEX=""
ARG UID=1000

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

# PyTorch first: the largest layer, and one that no change of the source touches.
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.5"

# Mounted, not copied: the source leaves no layer behind.
RUN --mount=type=bind,target=/src,rw pip install /src

RUN useradd --create-home --uid "$UID" designer \
    && mkdir -p /workspace/results \
    && chown -R designer /workspace
USER designer
WORKDIR /workspace

ENTRYPOINT ["mattergen-lite"]
CMD ["--help"]
