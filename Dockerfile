# syntax=docker/dockerfile:1
# The gateway in a slim image: one binary, no shell needed, not root.

FROM rust:1.95-slim-bookworm AS build
# aws-lc-sys and libmimalloc-sys compile C; their bindings are shipped, so a C compiler is all they need. The load generators
# and curl are for the profile that the gateway is built by.
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev make cmake curl nghttp2-client wrk \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY gateway.toml ./
COPY upstreams ./upstreams
COPY src ./src
COPY benches ./benches
COPY scripts ./scripts
RUN scripts/release \
 && strip --strip-debug target/shipped/durward

FROM debian:bookworm-slim
# The system's authorities, for upstreams over TLS.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/durward --create-home --shell /usr/sbin/nologin durward \
 && install -d -o durward -g durward -m 0700 /var/lib/durward/state
COPY --from=build /build/target/shipped/durward /usr/local/bin/durward
USER 10001:10001
# `state/` of the configuration is relative to the configuration file: mount both here.
WORKDIR /var/lib/durward
VOLUME ["/var/lib/durward/state"]
EXPOSE 8080 8443
STOPSIGNAL SIGTERM
# Through the operator socket: answers only while the gateway is up, and says whether it is ready.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
  CMD ["durward", "status", "--config", "/var/lib/durward/gateway.toml"]
ENTRYPOINT ["durward"]
CMD ["serve", "--config", "/var/lib/durward/gateway.toml"]
