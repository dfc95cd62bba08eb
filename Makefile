# `make test` is everything a change must pass; CI runs just that.
# On a Debian machine it installs what is missing, and says so: see scripts/packages.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL: # two cores, and output that can be read
.PHONY: help build test lint unit fuzz integration differential chaos bench bench-path bench-drain bench-peers peers bench-abuse packages tools FORCE

FUZZTIME ?= 20s
SEED ?= 1
ZONES ?= 240
QUERIES ?= 200
COUNT ?= 10
DURATION ?= 3m
BENCH ?= .
TOOLS := integration/bin
# Network namespaces and port 53 need root; the Go toolchain does not.
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)

help: ## show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 14

build: bin/nearside ## the server, as bin/nearside: static, no C library needed

test: packages lint unit bench-path fuzz integration ## everything, in the order of how soon it fails

lint: tools ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "run gofmt -w on: $$unformatted" >&2; exit 1; }
	go vet ./...
	$(TOOLS)/staticcheck ./...

unit: ## tests of every package, with the race detector
	go test -race $$(go list ./... | grep -v /integration$$)

fuzz: ## every fuzz target for FUZZTIME (20s)
	scripts/fuzz $(FUZZTIME)

integration: tools bin/nearside-race ## the binary against real etcd, NSD, Knot, BIND and unbound
	go test -race -count=1 -timeout=15m -exec "$(SUDO) env NEARSIDE_BINARY=$(CURDIR)/bin/nearside-race" ./integration

# `make integration` has 200 zones and 20,000 queries of it.
differential: tools bin/nearside-race ## more zones and queries to nearside, NSD, Knot and BIND (SEED, ZONES, QUERIES)
	go test -v -count=1 -timeout=30m -run='^TestDifferential' -exec "$(SUDO) env NEARSIDE_BINARY=$(CURDIR)/bin/nearside-race" ./integration \
		-seed=$(SEED) -zones=$(ZONES) -queries=$(QUERIES)

# `make integration` has half a minute of it. What was seen is in bin/chaos.
chaos: tools bin/nearside-race ## break network, disks, etcd and servers at random and judge every answer (SEED, DURATION)
	@mkdir -p bin/chaos
	go test -v -count=1 -timeout=2h -run='^TestChaos$$' -exec "$(SUDO) env NEARSIDE_BINARY=$(CURDIR)/bin/nearside-race" ./integration \
		-artifacts -outputdir=$(CURDIR)/bin/chaos -chaos.seed=$(SEED) -chaos.duration=$(DURATION)

bench-drain: peers tools bin/nearside bin/bench-peers bin/bench-echo ## 1,000 drains of three servers under load: from the put to the last changed answer; and start-up
	$(SUDO) scripts/bench-peers -sections fleet $(PEERS_FLAGS)
	go test -run='^$$' -bench=Start -benchtime=10x -exec "env NEARSIDE_BINARY=$(CURDIR)/bin/nearside" ./integration

# Beside NSD, Knot and BIND, which must be installed, as for `differential`.
bench-abuse: tools bin/nearside ## a million malformed messages, spoofed floods, random names, crowds of TCP connections
	go test -v -count=1 -timeout=20m -run='^(TestMalformedFlood|TestSpoofedFlood|TestCrowdedTCP)$$' -exec "$(SUDO) env NEARSIDE_BINARY=$(CURDIR)/bin/nearside" ./integration -malformed=1000000
	go test -v -timeout=20m -run='^TestMemoryOfIdleConnections$$' -bench=RandomNames ./dnsserver
	go test -timeout=20m -run='^$$' -bench=CrowdedTCP -benchtime=1x -exec "$(SUDO) env NEARSIDE_BINARY=$(CURDIR)/bin/nearside" ./integration

# So few queries that it is a look, not a measurement: ARCHITECTURE.md has the budget.
bench-path: ## the query path in process: ns of a whole query of each kind, and of its stages
	go test -run='^$$' -bench='^BenchmarkRespond$$/names=10000$$|^BenchmarkRespond$$/names=500000/^(warm|cold)$$/^static$$|^BenchmarkStage$$' -benchtime=65536x ./dnsserver

# BASE is a revision; without it, the last tag.
bench: tools ## our Go benchmarks, compared with those of the last tag by benchstat (BASE, COUNT, BENCH)
	scripts/bench "$(BASE)" $(COUNT) '$(BENCH)'

# It takes half an hour, wants two cores and nothing else on the machine. While you
# work on it: make bench-peers PEERS_FLAGS="-quick".
bench-peers: peers tools bin/nearside bin/bench-peers bin/bench-echo ## nearside beside other name servers: throughput, latency, load, drain (PEERS_FLAGS)
	$(SUDO) scripts/bench-peers $(PEERS_FLAGS)

# The name servers that are measured beside us.
peers:
	@scripts/packages peers

packages: ## install the Debian packages that the tests need and that are missing
	@scripts/packages

# The go command knows best what is out of date, so these always ask it.
bin/nearside: FORCE
	CGO_ENABLED=0 go build -trimpath -o $@ ./cmd/nearside

bin/nearside-race: FORCE # with a clock that tests can set
	go build -race -overlay integration/testdata/clock/overlay.json -o $@ ./cmd/nearside

bin/bench-peers: FORCE
	go build -trimpath -o $@ ./bench

bin/bench-echo: bench/echo/echo.c
	gcc -O2 -Wall -Wextra -o $@ $<

# etcd cannot be had by `go install`, so the tools are a module of their own.
tools: $(TOOLS)/etcd $(TOOLS)/etcdctl $(TOOLS)/staticcheck $(TOOLS)/benchstat

$(TOOLS)/etcd: PACKAGE = go.etcd.io/etcd/server/v3
$(TOOLS)/etcdctl: PACKAGE = go.etcd.io/etcd/etcdctl/v3
$(TOOLS)/benchstat: PACKAGE = golang.org/x/perf/cmd/benchstat
$(TOOLS)/staticcheck: PACKAGE = honnef.co/go/tools/cmd/staticcheck
$(TOOLS)/%: integration/tools/go.mod integration/tools/go.sum
	go -C integration/tools build -trimpath -o ../bin/$(@F) $(PACKAGE)
