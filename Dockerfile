# The function's image, with the files that `make image` puts into it, for those who have Docker: `docker build -t saffire .`
# `make image` needs no Docker, and is what the tests run. A test compares this file with it; it has not been run yet.
FROM debian:trixie-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends make python3-venv
WORKDIR /build
COPY . .
RUN make install && .venv/bin/python -m release root --into /root-of-image

FROM scratch
COPY --from=build /root-of-image/ /
LABEL org.opencontainers.image.title="saffire" org.opencontainers.image.licenses="Apache-2.0"
USER 65532:65532
EXPOSE 8080/tcp
ENV PATH=/usr/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["/usr/bin/python3.13", "-m", "functions_framework", "--target=receive", "--source=main.py"]
WORKDIR /app
