// Package integration tests the built binary from outside, as operators,
// resolvers and players meet it: with a real etcd and its etcdctl, a real
// parent zone in NSD, a real resolver, unbound, the judges of delegations,
// Zonemaster and DNSViz, and those of zone files from BIND, Knot and NSD. It
// imports no package of ours, and computes what it expects in its own way.
//
// `make integration` provides what the tests need; without it they fail, for a
// test that skips proves nothing.
package integration
