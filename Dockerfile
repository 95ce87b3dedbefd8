# entrada as a static binary on an image that holds certificate authorities and nothing else.
#
#   docker build -t entrada .
#   docker run --read-only -p 8443:8443 -v ./my-config:/etc/entrada:ro entrada
#
# The folder holds entrada.yaml, whose listener has to be on 0.0.0.0:8443 for that: within a container 127.0.0.1 is the container's own.
# Pin both bases by their digests (`FROM name@sha256:…`) where images are built for production.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# glibc can be linked in whole; `--target` keeps the flags away from procedural macros, which cannot be static. What was compiled
# before is kept, so that a change of the gateway compiles no dependency again.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    target="$(rustc --print host-tuple)" \
    && RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --profile dist --target "$target" \
    && cp "target/$target/dist/entrada" /entrada

FROM gcr.io/distroless/static-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="entrada" \
      org.opencontainers.image.description="An authenticating reverse proxy for Microsoft Entra ID" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="gcr.io/distroless/static-debian12:nonroot"
COPY --from=build /entrada /usr/bin/entrada
WORKDIR /etc/entrada
# The image calls it nonroot.
USER 65532:65532
EXPOSE 8080 8443 9902
# Asks the admin listener within the container, or that of `health` on port 9902; Kubernetes has its own probes.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/usr/bin/entrada", "health"]
ENTRYPOINT ["/usr/bin/entrada"]
CMD ["run", "--config", "/etc/entrada/entrada.yaml"]
