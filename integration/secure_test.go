package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// signer is an authority: it signs certificates.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newSigner(t testing.TB, name string) *signer {
	t.Helper()
	a := &signer{}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key, a.pem, _ = sign(t, template, nil)
	return a
}

// issue returns a certificate for loopback that is valid until then, and its key.
func (a *signer) issue(t testing.TB, name string, until time.Time) (cert, key string) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(nextNumber()) + 1), Subject: pkix.Name{CommonName: name},
		NotBefore: until.Add(-10 * time.Hour), NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	_, _, cert, key = sign(t, template, a)
	return cert, key
}

// sign makes a key and a certificate for it, signed by a or, without one, by itself.
func sign(t testing.TB, template *x509.Certificate, a *signer) (made *x509.Certificate, key *ecdsa.PrivateKey, certPEM, keyPEM string) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	parent, by := template, key
	if a != nil {
		parent, by = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	must(err)
	made, err = x509.ParseCertificate(der)
	must(err)
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	return made, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: plain}))
}

// valid is until when the certificates of tests are valid.
func valid() time.Time { return time.Now().Add(9 * time.Hour) }

// replace writes a file as whatever rotates certificates does: whole or not at all.
func replace(t testing.TB, path, text string) {
	t.Helper()
	write(t, path+".tmp", text)
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

// secured is a server beside an etcd that it reaches by TLS.
type secured struct {
	*server
	store *cluster
}

// newSecured starts an etcd whose certificate is signed by a, which lets nobody in
// without a certificate signed by a, and a server that has one.
func newSecured(t testing.TB, a *signer) *secured {
	t.Helper()
	s := &secured{store: reserve(t, thisMachine, "https", 1)}
	files := t.TempDir()
	path := func(name string) string { return filepath.Join(files, name) }
	s.store.flags = []string{"--cert-file", path("etcd.pem"), "--key-file", path("etcd-key.pem"), "--client-cert-auth", "--trusted-ca-file", path("clients.pem")}
	s.store.access = []string{"--cacert", path("ctl-ca.pem"), "--cert", path("ctl.pem"), "--key", path("ctl-key.pem")}
	s.identify(t, a)
	s.store.trust(t, a.pem)
	s.store.launch(t, 0)
	s.store.await(t)

	own := t.TempDir()
	cert, key := a.issue(t, "ns1", valid())
	write(t, filepath.Join(own, "ca.pem"), a.pem)
	write(t, filepath.Join(own, "cert.pem"), cert)
	write(t, filepath.Join(own, "key.pem"), key)
	s.server = newServer(t, setup{etcd: fmt.Sprintf("%s, ca: %s/ca.pem, cert: %s/cert.pem, key: %s/key.pem", s.store.settings(), own, own, own)})
	if err := os.Symlink(own, s.path("tls")); err != nil {
		t.Fatal(err)
	}
	return s
}

// identify gives etcd, and etcdctl, certificates signed by a.
func (s *secured) identify(t testing.TB, a *signer) {
	t.Helper()
	for i, name := range []string{"etcd", "ctl"} {
		cert, key := a.issue(t, name, valid())
		paths := [][]string{{s.store.flags[1], s.store.flags[3]}, {s.store.access[3], s.store.access[5]}}[i]
		replace(t, paths[0], cert)
		replace(t, paths[1], key)
	}
	replace(t, s.store.access[1], a.pem)
}

// trust makes etcd let in who has a certificate signed by one of the authorities.
func (c *cluster) trust(t testing.TB, authorities ...string) {
	t.Helper()
	replace(t, c.flags[6], strings.Join(authorities, ""))
}

// restart restarts etcd, which reads its authorities at the start only.
func (s *secured) restart(t testing.TB) {
	t.Helper()
	s.store.members[0].kill()
	s.store.launch(t, 0)
	s.store.await(t)
}

// follows drains a region with etcdctl and waits for it, to and fro.
func (s *secured) follows(t testing.TB, when string) {
	t.Helper()
	c := s.client(t, "udp")
	s.store.drain(t, "eu-west")
	eventually(t, "a drain "+when, func() error { return mustBe("eu-central", s.from(t, c, ireland)) })
	s.store.undrain(t, "eu-west")
	eventually(t, "an undrain "+when, func() error { return mustBe("eu-west", s.from(t, c, ireland)) })
}

// says waits until status shows the words as alarm, or as what is wrong with
// the connection to etcd; "" waits until there is nothing wrong.
func (s *server) says(t testing.TB, words string) {
	t.Helper()
	eventually(t, fmt.Sprintf("status says %q", words), func() error {
		st := s.status(t)
		lines := append(st.Alarms, st.State.Error)
		if words == "" && len(st.Alarms) == 0 && st.State.Connected {
			return nil
		}
		if words != "" && slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, words) }) {
			return nil
		}
		return fmt.Errorf("it says %q", lines)
	})
}

// TestRotation: all certificates and authorities are replaced, one after the
// other, under a server that never restarts.
func TestRotation(t *testing.T) {
	t.Parallel()
	first, second := newSigner(t, "first"), newSigner(t, "second")
	s := newSecured(t, first)
	s.says(t, "")
	s.follows(t, "by TLS")
	succeed(t, s.nearside("drain", "us-east", "--reason", "tls"))
	succeed(t, s.nearside("undrain", "us-east"))

	replace(t, s.path("tls/ca.pem"), first.pem+second.pem)
	s.store.trust(t, first.pem, second.pem)
	s.identify(t, second)
	s.restart(t)
	s.follows(t, "with etcd's certificate of a new authority")

	// The certificate is there before its key: meanwhile the old pair counts.
	cert, key := second.issue(t, "ns1", valid())
	replace(t, s.path("tls/cert.pem"), cert)
	s.says(t, "private key does not match public key")
	s.restart(t)
	s.follows(t, "with a certificate whose key is not there yet")
	replace(t, s.path("tls/key.pem"), key)
	s.says(t, "")
	replace(t, s.path("tls/ca.pem"), second.pem)
	s.store.trust(t, second.pem)
	s.restart(t)
	s.follows(t, "with the first authority gone")

	for _, file := range []string{"ca.pem", "cert.pem", "key.pem"} {
		good, err := os.ReadFile(s.path("tls/" + file))
		if err != nil {
			t.Fatal(err)
		}
		replace(t, s.path("tls/"+file), "-----BEGIN CERTIFICATE-----\nrubbish\n")
		s.says(t, "etcd."+strings.TrimSuffix(strings.Replace(file, "key", "cert", 1), ".pem")+": ")
		s.restart(t)
		s.follows(t, "with rubbish in "+file)
		if err := os.Remove(s.path("tls/" + file)); err != nil {
			t.Fatal(err)
		}
		s.says(t, "etcd."+strings.TrimSuffix(file, ".pem")+": stat ")
		s.restart(t)
		s.follows(t, "without "+file)
		replace(t, s.path("tls/"+file), string(good))
		s.says(t, "")
	}
}

// TestRefusedCertificates: etcd is not let in, or does not let us in. What was
// in force stays, status says what to do, and all is well when it is done.
func TestRefusedCertificates(t *testing.T) {
	t.Parallel()
	ours, other := newSigner(t, "ours"), newSigner(t, "other")
	s := newSecured(t, ours)
	c := s.client(t, "udp")
	s.store.drain(t, "eu-west")
	eventually(t, "a drain", func() error { return mustBe("eu-central", s.from(t, c, ireland)) })
	before := panel(t, s.server)

	s.store.trust(t, ours.pem, other.pem)
	s.identify(t, other)
	s.restart(t)
	s.says(t, "no authority of etcd.ca signed etcd's certificate")
	samePanel(t, s.server, before, "with an etcd that nobody vouches for")
	if r := finish(t, s.nearside("drain", "us-east")); r.status != 1 || !strings.Contains(r.stderr, "see to etcd.ca") {
		t.Errorf("nearside drain, with status %d: %s", r.status, r.stderr)
	}
	replace(t, s.path("tls/ca.pem"), ours.pem+other.pem)
	s.says(t, "")
	plain := strings.Replace(s.store.clients[0], "https", "http", 1)
	for _, cmd := range []*exec.Cmd{
		s.nearside("drain", "us-east", "--etcd.endpoints", plain, "--etcd.ca", "", "--etcd.cert", "", "--etcd.key", ""),
	} {
		if r := finish(t, cmd); r.status != 1 || !strings.Contains(r.stderr, "seems to want TLS; see to etcd.endpoints") {
			t.Errorf("%s: status %d: %s", cmd, r.status, r.stderr)
		}
	}

	// Our certificate has expired, then is signed by a stranger.
	cert, key := ours.issue(t, "ns1", time.Now().Add(-time.Minute))
	replace(t, s.path("tls/cert.pem"), cert)
	replace(t, s.path("tls/key.pem"), key)
	s.says(t, "has expired at")
	s.restart(t)
	s.says(t, "the last state stays in force: etcd refuses our certificate; see to etcd.cert and etcd.key")
	samePanel(t, s.server, before, "with an expired certificate")
	if out := succeed(t, s.nearside("check")); !strings.Contains(out, "has expired at") {
		t.Errorf("check is silent about an expired certificate:\n%s", out)
	}
	stranger := newSigner(t, "stranger")
	cert, key = stranger.issue(t, "ns1", valid())
	replace(t, s.path("tls/cert.pem"), cert)
	replace(t, s.path("tls/key.pem"), key)
	s.says(t, "the last state stays in force: etcd refuses our certificate; see to etcd.cert and etcd.key")
	samePanel(t, s.server, before, "with the certificate of a stranger")

	// A restart in that condition, then with a file that cannot be used at all.
	s.stop(t)
	s.launch(t)
	samePanel(t, s.server, before, "after a restart with the certificate of a stranger")
	s.stop(t)
	replace(t, s.path("tls/key.pem"), "rubbish")
	s.launch(t)
	samePanel(t, s.server, before, "after a restart with rubbish for a key")
	cert, key = ours.issue(t, "ns1", valid())
	replace(t, s.path("tls/cert.pem"), cert)
	replace(t, s.path("tls/key.pem"), key)
	s.says(t, "")
	s.follows(t, "with a good certificate again")
}

// TestUserOfCertificate: etcd takes the name in a certificate for the user, unless
// there is a password.
func TestUserOfCertificate(t *testing.T) {
	t.Parallel()
	s := newSecured(t, newSigner(t, "ours"))
	for _, command := range []string{
		"role add server", "role grant-permission server --prefix=true read /nearside/",
		"role grant-permission server --prefix=true readwrite /nearside/verdicts/",
		"role add operator", "role grant-permission operator --prefix=true read /nearside/",
		"role grant-permission operator --prefix=true readwrite /nearside/regions/",
		"user add root:secret", "user grant-role root root", "user add ns1:unused", "user grant-role ns1 server",
		"user add ann:hers", "user grant-role ann operator", "auth enable",
	} {
		succeed(t, s.store.ctl(strings.Fields(command)...))
	}
	s.store.access = append(s.store.access, "--user", "root:secret")
	s.restart(t)
	s.follows(t, "as the user of the certificate")
	if r := finish(t, s.nearside("drain", "us-east")); r.status != 1 || !strings.Contains(r.stderr, "permission denied") {
		t.Errorf("as the server: %d, %s", r.status, r.stderr)
	}
	write(t, s.path("password"), "hers\n")
	succeed(t, s.nearside("drain", "us-east", "--etcd.username", "ann", "--etcd.password_file", s.path("password")))
}

// TestCredentialFaults: a first start names the line of the file that it cannot use.
func TestCredentialFaults(t *testing.T) {
	t.Parallel()
	s := newServer(t, setup{etcd: fmt.Sprintf("endpoints: [%q]", "http://"+loopback(t).String())})
	s.stop(t)
	if err := os.RemoveAll(s.path("data")); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(s.path("nearside.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(config), "etcd: {endpoints: [\"http:", "etcd: {ca: absent.pem, endpoints: [\"https:", 1)
	write(t, s.path("nearside.yaml"), text)
	line := 1 + strings.Count(text[:strings.Index(text, "etcd:")], "\n")
	for _, command := range []string{"serve", "check", "drain"} {
		arguments := []string{command, "eu-west"}[:1+strings.Count(command, "drain")]
		r := finish(t, s.nearside(arguments...))
		want := fmt.Sprintf("%s:%d: etcd.ca: stat %s: no such file", s.path("nearside.yaml"), line, s.path("absent.pem"))
		if r.status != 1 || !strings.Contains(r.stdout+r.stderr, want) {
			t.Errorf("%s: status %d, without %q:\n%s%s", command, r.status, want, r.stdout, r.stderr)
		}
	}
}

// guarded is a server beside an etcd that knows users.
type guarded struct {
	*server
	store *cluster
}

// newGuarded starts an etcd with users: ns1, the server, reads everything and
// writes its own keys; ann, an operator, writes drains.
func newGuarded(t testing.TB, flags ...string) *guarded {
	t.Helper()
	g := &guarded{store: reserve(t, thisMachine, "http", 1)}
	g.store.flags = append([]string{"--bcrypt-cost", "4"}, flags...)
	g.store.launch(t, 0)
	g.store.await(t)
	for _, command := range []string{
		"role add nearside-server", "role grant-permission nearside-server --prefix=true read /nearside/",
		"role grant-permission nearside-server --prefix=true readwrite /nearside/verdicts/",
		"role grant-permission nearside-server --prefix=true readwrite /nearside/transitions/",
		"role grant-permission nearside-server --prefix=true readwrite /nearside/servers/",
		"role grant-permission nearside-server --prefix=true readwrite /nearside/alive/",
		"role add nearside-operator", "role grant-permission nearside-operator --prefix=true read /nearside/",
		"role grant-permission nearside-operator --prefix=true readwrite /nearside/regions/",
		"user add root:secret", "user grant-role root root",
		"user add ns1:first", "user grant-role ns1 nearside-server", "user add ann:hers", "user grant-role ann nearside-operator",
		"auth enable",
	} {
		succeed(t, g.store.ctl(strings.Fields(command)...))
	}
	g.store.access = []string{"--user", "root:secret"}
	password := filepath.Join(t.TempDir(), "password")
	write(t, password, "first\n")
	write(t, password+"-ann", "hers")
	g.server = newServer(t, setup{etcd: fmt.Sprintf("%s, username: ns1, password_file: %s", g.store.settings(), password)})
	if err := os.Symlink(filepath.Dir(password), g.path("secret")); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *guarded) as(user, file string, arguments ...string) *exec.Cmd {
	return g.nearside(append(arguments, "--etcd.username", user, "--etcd.password_file", g.path("secret/"+file))...)
}

// TestMayNotRecord: a server that may not write verdicts and transitions acts on its
// own judgement, and says so; an operator who waits is not told that it is safe.
func TestMayNotRecord(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	c := g.client(t, "udp")
	rights := []string{"/nearside/verdicts/", "/nearside/transitions/"}
	for _, below := range rights {
		succeed(t, g.store.ctl("role", "revoke-permission", "nearside-server", "--prefix=true", below))
	}
	r := finish(t, g.as("ann", "password-ann", "drain", "eu-west", "--wait"))
	if r.status != 2 || !strings.Contains(r.stdout, "no server has recorded a verdict on the drain: NOT safe") {
		t.Errorf("drain --wait ended with %d: %s%s", r.status, r.stdout, r.stderr)
	}
	if got := g.from(t, c, ireland); got != "eu-central" {
		t.Errorf("players are on %s", got)
	}
	g.says(t, "etcd does not let this server write /nearside/verdicts/regions/eu-west/drain: grant")
	for _, below := range rights {
		succeed(t, g.store.ctl("role", "grant-permission", "nearside-server", "--prefix=true", "readwrite", below))
	}
	g.says(t, "")
	succeed(t, g.as("ann", "password-ann", "undrain", "eu-west"))
	eventually(t, "an undrain", func() error { return mustBe("eu-west", g.from(t, c, ireland)) })
}

// TestProbeRights: a probe host votes with the least rights.
func TestProbeRights(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	for _, command := range []string{
		"role add nearside-probe-lon1",
		"role grant-permission nearside-probe-lon1 --prefix=true read /nearside/regions/",
		"role grant-permission nearside-probe-lon1 --prefix=true read /nearside/services/",
		"role grant-permission nearside-probe-lon1 readwrite /nearside/probes/lon1",
		"role grant-permission nearside-probe-lon1 readwrite /nearside/regions/eu-west/health/lon1",
		"user add lon1:probes", "user grant-role lon1 nearside-probe-lon1",
	} {
		succeed(t, g.store.ctl(strings.Fields(command)...))
	}
	write(t, g.path("secret/password-lon1"), "probes")
	text, err := os.ReadFile(g.path("nearside.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, g.path("nearside.yaml"), fmt.Sprintf("%s\nprobes: [{region: eu-west, tcp: %q, interval: 1s}]\n", text, g.address))
	p := start(t, g.as("lon1", "password-lon1", "probe", "--host", "lon1", "--admin.listen", loopback(t).String()))
	eventually(t, "a vote that counts", func() error {
		if keys := succeed(t, g.store.ctl("get", "--prefix", "--keys-only", "/nearside/")); !strings.Contains(keys, "/nearside/probes/lon1") || !strings.Contains(keys, "/eu-west/health/lon1") {
			return fmt.Errorf("there are %s; it says %s", keys, p.output)
		}
		return nil
	})
}

// TestUsers: the server and an operator have the least rights; passwords change
// and rights come and go while the server runs.
func TestUsers(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	c := g.client(t, "udp")
	succeed(t, g.as("ann", "password-ann", "drain", "eu-west", "--reason", "rights"))
	eventually(t, "a drain by ann", func() error { return mustBe("eu-central", g.from(t, c, ireland)) })
	before := panel(t, g.server)

	for _, test := range []struct {
		cmd  *exec.Cmd
		says string
	}{
		{g.nearside("undrain", "eu-west"), "permission denied; grant the user the role it needs"},
		{g.as("ann", "password", "undrain", "eu-west"), "see to etcd.username and etcd.password_file"},
		{g.as("nobody", "password", "undrain", "eu-west"), "see to etcd.username and etcd.password_file"},
		{g.as("ann", "absent", "undrain", "eu-west"), "--etcd.password_file: etcd.password_file: stat "},
	} {
		if r := finish(t, test.cmd); r.status != 1 || !strings.Contains(r.stderr, test.says) {
			t.Errorf("%s: status %d, without %q: %s", test.cmd, r.status, test.says, r.stderr)
		}
	}

	// The rights of the server are taken, so that it cannot come back after a loss
	// of the connection, and given back.
	succeed(t, g.store.ctl("user", "revoke-role", "ns1", "nearside-server"))
	g.store.members[0].kill()
	g.store.launch(t, 0)
	g.store.await(t)
	g.says(t, "etcd cannot be followed, the last state stays in force: grant the user the role it needs")
	samePanel(t, g.server, before, "without rights")
	if err := g.ready(t); err != nil {
		t.Errorf("not ready without rights: %v", err)
	}
	succeed(t, g.store.ctl("user", "grant-role", "ns1", "nearside-server"))
	g.says(t, "")

	// The password changes at etcd first, and then in the file.
	succeed(t, g.store.ctl("user", "delete", "ns1"))
	succeed(t, g.store.ctl("user", "add", "ns1:second"))
	succeed(t, g.store.ctl("user", "grant-role", "ns1", "nearside-server"))
	g.store.members[0].kill()
	g.store.launch(t, 0)
	g.store.await(t)
	g.says(t, "the last state stays in force: see to etcd.username and etcd.password_file")
	samePanel(t, g.server, before, "with the wrong password")
	replace(t, g.path("secret/password"), "two\nlines\n")
	g.says(t, "holds no password; write it in the only line")
	samePanel(t, g.server, before, "with a bad password file")
	replace(t, g.path("secret/password"), "second\n")
	g.says(t, "")
	succeed(t, g.as("ann", "password-ann", "undrain", "eu-west"))
	eventually(t, "an undrain by ann", func() error { return mustBe("eu-west", g.from(t, c, ireland)) })

	// Without a user at all.
	succeed(t, g.store.ctl("auth", "disable"))
	g.store.access = nil
	g.store.drain(t, "eu-west")
	eventually(t, "a drain with authentication disabled", func() error { return mustBe("eu-central", g.from(t, c, ireland)) })
	g.store.members[0].kill()
	g.store.launch(t, 0)
	g.store.await(t)
	g.says(t, "")
	g.store.undrain(t, "eu-west")
	eventually(t, "an undrain with authentication disabled", func() error { return mustBe("eu-west", g.from(t, c, ireland)) })
}
