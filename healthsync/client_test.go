package healthsync

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// etcdOfUsers starts an etcd that knows root and ns1, and whose tokens are good
// for a second. It returns a client of root.
func etcdOfUsers(t *testing.T) (e *Embedded, root *clientv3.Client) {
	t.Helper()
	folder := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"private": {Type: "EC PRIVATE KEY", Bytes: private}, "public": {Type: "PUBLIC KEY", Bytes: public}} {
		if err := os.WriteFile(filepath.Join(folder, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	listen, err := freeAddress("http://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := embeddedConfig(filepath.Join(folder, "etcd"), listen)
	config.AuthToken = "jwt,sign-method=ES256,ttl=1s,priv-key=" + folder + "/private,pub-key=" + folder + "/public"
	config.BcryptCost = 4
	e = &Embedded{endpoint: listen.String(), failed: make(chan error, 1)}
	if err := e.start(t.Context(), config, testLog(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	nobody := client(t, e)
	for _, step := range []func() error{
		func() error { _, err := nobody.UserAdd(t.Context(), "root", "secret"); return err },
		func() error { _, err := nobody.UserGrantRole(t.Context(), "root", "root"); return err },
		func() error { _, err := nobody.UserAdd(t.Context(), "ns1", "first"); return err },
		func() error { _, err := nobody.UserGrantRole(t.Context(), "ns1", "root"); return err },
		func() error { _, err := nobody.AuthEnable(t.Context()); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	root, err = clientv3.New(clientv3.Config{Endpoints: []string{e.Endpoint()}, Username: "root", Password: "secret", Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return e, root
}

// A client lives longer than its tokens, and than its password.
func TestTokens(t *testing.T) {
	t.Parallel()
	e, root := etcdOfUsers(t)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("first\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ours, err := Connect([]string{e.Endpoint()}, OpenCredentials(Identity{Username: "ns1", PasswordFile: file}, testLog(t)), testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	put(t, ours, "regions/eu-west/drain", "")
	session := ours.Watch(t.Context(), "/nearside/", clientv3.WithPrefix())

	// A token that is younger than that of our client expires.
	login, err := root.Authenticate(t.Context(), "ns1", "first")
	if err != nil {
		t.Fatal(err)
	}
	bearer, err := clientv3.New(clientv3.Config{Endpoints: []string{e.Endpoint()}, Token: login.Token, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer bearer.Close()
	eventually(t, "the end of a token", func() bool {
		_, err := bearer.Get(t.Context(), "/nearside/")
		return errors.Is(err, rpctypes.ErrInvalidAuthToken)
	})
	put(t, ours, "regions/us-east/drain", "")

	if _, err := root.UserChangePassword(t.Context(), "ns1", "second"); err != nil {
		t.Fatal(err)
	}
	_, err = ours.Put(t.Context(), "/nearside/regions/us-east/drain", "false")
	if !errors.Is(err, rpctypes.ErrAuthFailed) || Hint(err) != "see to etcd.username and etcd.password_file" {
		t.Errorf("with the password of before: %v", err)
	}
	if err := os.WriteFile(file, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, ours, "regions/us-east/drain", "true")
	for seen := 0; seen < 2; {
		response := <-session
		if err := response.Err(); err != nil {
			t.Fatal(err)
		}
		seen += len(response.Events)
	}
}

// Connect does not wait, whoever it is; the first request fails at once, and
// says why, where nobody answers.
func TestConnectToNobody(t *testing.T) {
	t.Parallel()
	for name, identity := range map[string]Identity{"a user": {Username: "ns1", PasswordFile: "/absent"}, "nobody": {}} {
		t.Run(name, func(t *testing.T) {
			for _, endpoint := range []string{"http://127.0.0.1:1", "https://127.0.0.1:1"} {
				c, err := Connect([]string{endpoint}, OpenCredentials(identity, zerolog.Nop()), zerolog.Nop())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if _, err := c.Put(t.Context(), "a", "b"); err == nil || !strings.Contains(err.Error(), "connection refused") {
					t.Errorf("%s: %v", endpoint, err)
				}
			}
		})
	}
}

// TLS towards an etcd that has none, and the other way round.
func TestTLSMismatch(t *testing.T) {
	t.Parallel()
	e := etcd(t)
	address, err := url.Parse(e.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	c, err := Connect([]string{"https://" + address.Host}, nil, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Put(t.Context(), "a", "b"); err == nil || !strings.Contains(err.Error(), "what answers there seems to take no TLS; see to etcd.endpoints") {
		t.Errorf("%v", err)
	}
}

// People are told what happened, not through how many layers that came.
func TestBriefErrors(t *testing.T) {
	for err, want := range map[string]string{
		`reading: rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`: "reading: dial tcp 127.0.0.1:1: connect: connection refused",
		`rpc error: code = Unavailable desc = connection error: desc = "error reading server preface: EOF"; and more`:                                                "error reading server preface: EOF; and more",
		`connection error: desc = "transport: authentication handshake failed: tls: first record \"x\"": see to it`:                                                  `tls: first record \"x\": see to it`,
		"etcdserver: no leader": "etcdserver: no leader",
	} {
		if got := Brief(errors.New(err)); got != want {
			t.Errorf("%s\nis brief as %s\nnot as     %s", err, got, want)
		}
	}
	c, err := Connect([]string{"http://127.0.0.1:1"}, nil, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err = c.Get(t.Context(), "a"); err == nil || strings.Contains(Brief(err), "desc =") || strings.Contains(Brief(err), "transport:") {
		t.Errorf("it is brief as %s", Brief(err))
	}
}

// Whoever hangs up at once seems to want TLS, unless it has spoken without: then it
// is an etcd that dies.
func TestDyingEtcdWantsNoTLS(t *testing.T) {
	preface := errors.New("error reading server preface: EOF")
	s := open((&server{t: t, folder: t.TempDir()}).config("http://127.0.0.1:1"), quickPace(), time.Now)
	hinted := func() bool {
		return slices.ContainsFunc(s.Status().Alarms, func(a string) bool { return strings.Contains(a, wantsTLS) })
	}
	if s.lost("a", preface); !hinted() || !strings.Contains(s.Status().Error, wantsTLS) {
		t.Errorf("one that never spoke: %q, %s", s.Status().Alarms, s.Status().Error)
	}
	if err := s.take(listing{cluster: 1, revision: 1}); err != nil {
		t.Fatal(err)
	}
	s.setLink(link{endpoint: "a", connected: true})
	if s.lost("a", preface); hinted() || strings.Contains(s.Status().Error, wantsTLS) {
		t.Errorf("one that spoke: %q, %s", s.Status().Alarms, s.Status().Error)
	}
}
