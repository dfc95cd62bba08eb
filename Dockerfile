# docs/docker.md says how to build and run this; scripts/try-image proves it.
#
# The build needs Debian with Go and Git, as the default image has them.
ARG BASE=golang:1.26

FROM ${BASE} AS build

# Where the image runs as an ordinary user on the network of the host, the
# capability to bind port 53 can only come from the file of the program.
RUN command -v setcap >/dev/null || \
    { apt-get update -qq && apt-get install -qq --no-install-recommends libcap2-bin; }

WORKDIR /src
ARG GOPROXY
COPY go.mod go.sum ./
RUN go mod download

COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /image/bin/nearside ./cmd/nearside && \
    setcap cap_net_bind_service=+ep /image/bin/nearside

# Our licence, those of the data, and those of everything linked into the program.
RUN set -e; licenses=/image/licenses; \
    install -D -m 644 -t $licenses/nearside LICENSE NOTICE; \
    install -D -m 644 -t $licenses/nearside/geo geo/builtin/LICENSE; \
    install -D -m 644 -t $licenses/go "$(go env GOROOT)/LICENSE"; \
    go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}' ./cmd/nearside | sort -u | \
    while read -r module folder; do \
      find "$folder" -maxdepth 1 \( -iname 'LICEN[CS]E*' -o -iname 'COPYING*' -o -iname 'NOTICE*' \) \
        -exec install -D -m 644 -t "$licenses/$module" {} +; \
      [ -d "$licenses/$module" ] || { echo "no licence: $module" >&2; exit 1; }; \
    done

# The health check asks the control socket, which the next stage puts in a fixed
# place. It has a configuration of its own: a mistake saved into the real one
# must not make a server that still answers from the old one look ill.
RUN mkdir -p /data /image/etc/nearside /image/var/lib && echo 'zones: {dir: /}' >/image/health.yaml

FROM scratch
LABEL org.opencontainers.image.title="nearside" \
      org.opencontainers.image.description="An authoritative DNS server that answers with the nearest healthy data center" \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-4.0"
COPY --from=build /image /
COPY --from=build --chown=65532:65532 /data /var/lib/nearside

# The environment wins over the file, so the data is in the volume whatever the
# file says. Configuration and zones are mounted at /etc/nearside, or copied
# there by an image FROM this one, which a VOLUME could hide.
ENV NEARSIDE_DATA_DIR=/var/lib/nearside
VOLUME /var/lib/nearside

USER 65532:65532
EXPOSE 53/udp 53/tcp
HEALTHCHECK --interval=15s --timeout=5s --start-period=2m \
    CMD ["/bin/nearside", "status", "--config=/health.yaml"]
ENTRYPOINT ["/bin/nearside"]
CMD ["serve"]
