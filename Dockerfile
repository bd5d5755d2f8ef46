# The gateway alone: one binary on a slim Debian, for production beside a PostgreSQL of its own (DATABASE_URL).
# Settings and secrets come from the environment at run time; none are in the image.

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
# Names of functions stay for backtraces; line tables, four fifths of the file, do not.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --bin checkstand \
    && strip --strip-debug -o /checkstand target/release/checkstand \
    && /checkstand --help >/dev/null

FROM debian:bookworm-slim
# Certificates, because webhooks and providers are reached over TLS. The user has a passwd entry: tools that look up
# their own name fail without one.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 checkstand \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin checkstand
COPY --from=build /checkstand /usr/local/bin/checkstand
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
# Inside a container loopback is nobody's but the container's.
ENV CHECKSTAND_LISTEN=0.0.0.0:4242
EXPOSE 4242
# The binary asks itself over loopback: the image has no curl.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["checkstand", "health"]
ENTRYPOINT ["checkstand"]
CMD ["serve"]
