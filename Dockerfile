# qatspec on the CPU:
#
#     docker build -t qatspec .
#     docker run --rm -v "$PWD:/work" qatspec run specs/quickstart.yaml
#
# `--build-arg TORCH_INDEX=URL` takes torch from another index: that of its builds for the CPU, which
# are ten times smaller than those for CUDA.
FROM python:3.11-slim
ARG TORCH_INDEX=""
WORKDIR /opt/qatspec
COPY . .
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.9,<2.14" \
 && pip install --no-cache-dir -e '.[demo]'
WORKDIR /work
ENTRYPOINT ["qatspec"]
CMD ["--help"]
