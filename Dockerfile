# entrada as a static binary on an image that holds certificate authorities and nothing else.
#
#   docker build -t entrada .
#   docker run --read-only -p 8443:8443 -v ./my-config:/etc/entrada:ro entrada
#
# The folder holds entrada.yaml, whose listener has to be on 0.0.0.0:8443 for that: within a container 127.0.0.1 is the container's own.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# glibc can be linked in whole; `--target` keeps the flags away from procedural macros, which cannot be static.
RUN target="$(rustc --print host-tuple)" \
    && RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --profile dist --target "$target" \
    && cp "target/$target/dist/entrada" /entrada

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /entrada /usr/bin/entrada
WORKDIR /etc/entrada
# The image calls it nonroot.
USER 65532:65532
EXPOSE 8080 8443 9902
ENTRYPOINT ["/usr/bin/entrada"]
CMD ["run", "--config", "/etc/entrada/entrada.yaml"]
