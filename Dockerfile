# gfocal for CPUs. docs/install.md has the commands that build and run it.
FROM python:3.12-slim

# The CPU build of torch first: the installation of gfocal then finds it, and takes no CUDA libraries.
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu

COPY pyproject.toml README.md LICENSE /build/
COPY src /build/src
RUN pip install --no-cache-dir /build && rm -rf /build

# Published weights are kept here; any user may write, as --user takes other ids than that below.
RUN useradd --uid 1000 --create-home gfocal && install -d -m 1777 /cache /data
ENV GFOCAL_CACHE=/cache/gfocal HF_HOME=/cache/huggingface TORCH_HOME=/cache/torch
USER gfocal
WORKDIR /data
ENTRYPOINT ["gfocal"]
CMD ["--help"]
