package healthsync

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/grpc/credentials"
)

// Identity names the files that say who we are to etcd and whom we take for it.
// Empty is none; of the CA, those that the system trusts.
type Identity struct {
	CA           string // certificates of authorities, PEM
	Cert, Key    string // our certificate with its chain, and its key, PEM
	Username     string
	PasswordFile string // the password in its only line
}

// Files returns the paths that are set.
func (id Identity) Files() []string {
	return slices.DeleteFunc([]string{id.CA, id.Cert, id.Key, id.PasswordFile}, func(path string) bool { return path == "" })
}

// Folders returns the folders of the files, each once.
func (id Identity) Folders() []string {
	folders := id.Files()
	for i, path := range folders {
		folders[i] = filepath.Dir(path)
	}
	slices.Sort(folders)
	return slices.Compact(folders)
}

// Credentials is what the files of an Identity hold. They are read again for
// each connection and by Reload: a file that was replaced counts from the next
// connection or login on, and one that cannot be used leaves what was read from
// it last in force. All methods may be called concurrently; nil is nobody.
type Credentials struct {
	identity Identity
	log      zerolog.Logger

	mu       sync.Mutex
	roots    kept[*x509.CertPool]
	pair     kept[*tls.Certificate]
	password kept[string]
}

// kept is what a file holds, or held when it could last be used.
type kept[T any] struct {
	value T
	fault *CredentialFault // why the file as it is now is not taken; nil if it is
}

// CredentialFault is a file that cannot be used.
type CredentialFault struct {
	Key string // of the section etcd of the configuration
	Err error
}

func (f *CredentialFault) Error() string { return "etcd." + f.Key + ": " + f.Err.Error() }

func (f *CredentialFault) Unwrap() error { return f.Err }

// maxCredential bounds a file, in octets: the authorities of a whole system fit.
const maxCredential = 4 << 20

// OpenCredentials reads the files. Faults says which of them cannot be used.
func OpenCredentials(identity Identity, log zerolog.Logger) *Credentials {
	c := &Credentials{identity: identity, log: log}
	c.Reload()
	return c
}

// Reload reads the files again.
func (c *Credentials) Reload() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.identity.CA != "" {
		take(c, &c.roots, readRoots)
	}
	if c.identity.Cert != "" {
		take(c, &c.pair, readPair)
	}
	if c.identity.PasswordFile != "" {
		take(c, &c.password, readPassword)
	}
}

// take keeps what was read, or notes why it was not. It says so once.
func take[T any](c *Credentials, k *kept[T], read func(Identity) (T, *CredentialFault)) {
	value, fault := read(c.identity)
	was := k.fault
	if k.fault = fault; fault == nil {
		k.value = value
		if was != nil {
			c.log.Info().Msgf("etcd.%s: the file is good again", was.Key)
		}
		return
	}
	if was == nil || was.Error() != fault.Error() {
		c.log.Error().Msg(fault.Error() + "; what was read last stays in use")
	}
}

func readRoots(id Identity) (*x509.CertPool, *CredentialFault) {
	content, err := readLimited(id.CA, maxCredential)
	if err != nil {
		return nil, &CredentialFault{"ca", err}
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(content) {
		return nil, &CredentialFault{"ca", fmt.Errorf("%s has no certificate; name a PEM file of the authority that signed etcd's", id.CA)}
	}
	return roots, nil
}

func readPair(id Identity) (*tls.Certificate, *CredentialFault) {
	cert, err := readLimited(id.Cert, maxCredential)
	if err != nil {
		return nil, &CredentialFault{"cert", err}
	}
	key, err := readLimited(id.Key, maxCredential)
	if err != nil {
		return nil, &CredentialFault{"key", err}
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, &CredentialFault{"cert", fmt.Errorf("%s and the key %s: %w; name PEM files of one certificate", id.Cert, id.Key, err)}
	}
	return &pair, nil
}

func readPassword(id Identity) (string, *CredentialFault) {
	content, err := readLimited(id.PasswordFile, maxCredential)
	if err != nil {
		return "", &CredentialFault{"password_file", err}
	}
	content = bytes.TrimSuffix(bytes.TrimSuffix(content, []byte("\n")), []byte("\r"))
	// The content is not shown: it may be most of a password.
	if len(content) == 0 || bytes.ContainsAny(content, "\r\n\x00") {
		return "", &CredentialFault{"password_file", fmt.Errorf("%s holds no password; write it in the only line", id.PasswordFile)}
	}
	return string(content), nil
}

// Faults returns the files that cannot be used as they are now.
func (c *Credentials) Faults() []*CredentialFault {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var faults []*CredentialFault
	for _, fault := range []*CredentialFault{c.roots.fault, c.pair.fault, c.password.fault} {
		if fault != nil {
			faults = append(faults, fault)
		}
	}
	return faults
}

// Alarms says what an operator must see to: files that cannot be used, and a
// certificate that nobody renews.
func (c *Credentials) Alarms(now time.Time) []string {
	if c == nil {
		return nil
	}
	var alarms []string
	for _, fault := range c.Faults() {
		alarms = append(alarms, fault.Error()+"; what was read last stays in use: replace the file")
	}
	if fault := c.Expiry(now); fault != nil {
		alarms = append(alarms, fault.Error())
	}
	return alarms
}

// Expiry says that our certificate is out of its time, or nearly so: whatever
// renews certificates does that long before the last tenth of their time.
func (c *Credentials) Expiry(now time.Time) *CredentialFault {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pair.value == nil {
		return nil
	}
	leaf := c.pair.value.Leaf
	var err error
	switch last := leaf.NotAfter.Sub(leaf.NotBefore) / 10; {
	case now.Before(leaf.NotBefore):
		err = fmt.Errorf("%s is valid from %s on: etcd refuses it until then; see to the clocks", c.identity.Cert, leaf.NotBefore.Format(time.RFC3339))
	case now.After(leaf.NotAfter):
		err = fmt.Errorf("%s has expired at %s: etcd refuses it at the next connection; put a new one there", c.identity.Cert, leaf.NotAfter.Format(time.RFC3339))
	case now.After(leaf.NotAfter.Add(-last)):
		err = fmt.Errorf("%s expires at %s: put a new one there", c.identity.Cert, leaf.NotAfter.Format(time.RFC3339))
	default:
		return nil
	}
	return &CredentialFault{"cert", err}
}

// login returns the name and the password of today.
func (c *Credentials) login() (username, password string) {
	c.Reload()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.identity.Username, c.password.value
}

// tls returns what a handshake of today works with.
func (c *Credentials) tls() *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c == nil {
		return config
	}
	c.Reload()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.identity.CA != "" {
		// Without a good file ever nobody is trusted, rather than whom the system trusts.
		if config.RootCAs = c.roots.value; config.RootCAs == nil {
			config.RootCAs = x509.NewCertPool()
		}
	}
	if c.pair.value != nil {
		config.Certificates = []tls.Certificate{*c.pair.value}
	}
	return config
}

// handshake is the TLS of a client, with the credentials of the moment.
type handshake struct {
	credentials.TransportCredentials // what does not depend on them
	credentials                      *Credentials
}

func newHandshake(c *Credentials) handshake {
	return handshake{credentials.NewTLS(&tls.Config{}), c}
}

func (h handshake) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := credentials.NewTLS(h.credentials.tls()).ClientHandshake(ctx, authority, conn)
	if err != nil {
		err = explainHandshake(err)
	}
	return secured, info, err
}

func (h handshake) Clone() credentials.TransportCredentials { return h }

// explainHandshake says what to do about a handshake that failed on our side.
func explainHandshake(err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: no authority of etcd.ca signed etcd's certificate; see to etcd.ca", err)
	case errors.As(err, &name):
		return fmt.Errorf("%w: etcd's certificate is for other names; write one of them in etcd.endpoints, or renew it with this one", err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("%w: renew etcd's certificate, and see to the clocks", err)
	case errors.As(err, &record), errors.Is(err, io.EOF):
		return fmt.Errorf("%w: what answers there seems to take no TLS; see to etcd.endpoints", err)
	}
	return err
}
