# docker build --tag anomalib-zsad . && docker run --rm --volume "$PWD/demo:/anomalib_zsad/demo" anomalib-zsad
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /anomalib_zsad
COPY . .
RUN make .venv/.ready
CMD ["make", "demo"]
