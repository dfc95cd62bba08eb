package probes

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

// identity is a certificate that signed itself, for some names, and the roots that trust it.
func identity(t *testing.T, expired bool, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if expired {
		template.NotAfter = time.Now().Add(-24 * time.Hour)
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// listen listens on loopback.
func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// raw serves each connection with a function, after it read the request.
func raw(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					serve(conn)
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// text is a raw server that answers with some text.
func text(t *testing.T, answer string) string {
	t.Helper()
	return raw(t, func(conn net.Conn) { io.WriteString(conn, answer) })
}

// web is an HTTP server; with an identity, one of HTTPS.
func web(t *testing.T, address string, certificate *tls.Certificate, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Listener.Close()
	s.Listener = listen(t, address)
	s.Config.ErrorLog = quiet
	if certificate != nil {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{*certificate}}
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s.URL
}

// expectCheck checks once, and compares why it fails; "" is that it passes.
func expectCheck(t *testing.T, target string, change func(*Probe), why string) {
	t.Helper()
	p := Default()
	var err error
	if p.Target, err = url.Parse(target); err != nil {
		t.Fatal(err)
	}
	p.Timeout = 10 * time.Second
	if change != nil {
		change(&p)
	}
	switch err := p.Check(t.Context()); {
	case err == nil && why != "":
		t.Errorf("%s passes, but should fail: %s", target, why)
	case err != nil && (why == "" || !strings.Contains(err.Error(), why)):
		t.Errorf("%s: got %q, want %q", target, err, why)
	}
}

// hasty is for servers that never answer: the test waits for the timeout.
func hasty(p *Probe) { p.Timeout = 200 * time.Millisecond }

func TestCheckTCP(t *testing.T) {
	t.Parallel()
	open, shut := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	shut.Close()
	expectCheck(t, "tcp://"+open.Addr().String(), nil, "")
	expectCheck(t, "tcp://"+shut.Addr().String(), nil, "connect: connection refused")
	expectCheck(t, "tcp://"+listen(t, "[::1]:0").Addr().String(), nil, "")

	expectCheck(t, "tcp://localhost:"+port(open), nil, "")
	expectCheck(t, "tcp://no-such-name.invalid:443", func(p *Probe) { p.Timeout = 2 * time.Second }, "no-such-name.invalid")
}

func port(l net.Listener) string {
	return fmt.Sprint(netip.MustParseAddrPort(l.Addr().String()).Port())
}

func TestCheckSource(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 1)
	target := web(t, "127.0.0.1:0", nil, func(_ http.ResponseWriter, r *http.Request) { seen <- r.RemoteAddr })
	expectCheck(t, target, func(p *Probe) { p.Source = netip.MustParseAddr("127.0.0.77") }, "")
	if from := <-seen; !strings.HasPrefix(from, "127.0.0.77:") {
		t.Errorf("it came from %s", from)
	}
	// An address that this host does not have says nothing of the target.
	p := Default()
	p.Target, _ = url.Parse(target)
	p.Source = netip.MustParseAddr("192.0.2.99")
	if err := p.Check(t.Context()); !errors.Is(err, errHere) {
		t.Errorf("from an address of another host: %v", err)
	}
}

func TestCheckTLS(t *testing.T) {
	t.Parallel()
	good, roots := identity(t, false, "play.bet.example", "127.0.0.1")
	old, oldRoots := identity(t, true, "play.bet.example")
	serve := func(certificate *tls.Certificate) string {
		return strings.Replace(web(t, "127.0.0.1:0", certificate, func(http.ResponseWriter, *http.Request) {}), "https", "tls", 1)
	}
	target := serve(&good)
	trusting := func(host string) func(*Probe) {
		return func(p *Probe) { p.Roots, p.Host = roots, host }
	}
	expectCheck(t, target, trusting("play.bet.example"), "")
	expectCheck(t, target, trusting(""), "")
	expectCheck(t, target, trusting("other.example"), "TLS: certificate is valid for play.bet.example, not other.example")
	expectCheck(t, target, nil, "TLS: certificate signed by unknown authority")
	expectCheck(t, target, func(p *Probe) { p.Insecure = true }, "")
	expectCheck(t, serve(&old), func(p *Probe) { p.Roots, p.Host = oldRoots, "play.bet.example" }, "TLS: certificate has expired")
	expectCheck(t, serve(&old), func(p *Probe) { p.Insecure = true }, "")

	plain := strings.Replace(web(t, "127.0.0.1:0", nil, func(http.ResponseWriter, *http.Request) {}), "http", "tls", 1)
	expectCheck(t, plain, nil, "TLS: first record does not look like a TLS handshake")
	// It accepts, by the kernel, and never says a word.
	silent := listen(t, "127.0.0.1:0").Addr().String()
	expectCheck(t, "tls://"+silent, hasty, "TLS: no answer within 200ms")
	expectCheck(t, "https://"+silent, hasty, "TLS: no answer within 200ms")
	expectCheck(t, "http://"+silent, hasty, "HTTP: no answer within 200ms")
}

func TestCheckHTTP(t *testing.T) {
	t.Parallel()
	certificate, roots := identity(t, false, "play.bet.example")
	handler := func(w http.ResponseWriter, r *http.Request) {
		var status int
		fmt.Sscanf(r.URL.Path, "/status/%d", &status)
		if status > 0 {
			w.WriteHeader(status)
			return
		}
		name := ""
		if r.TLS != nil {
			name = r.TLS.ServerName
		}
		w.WriteHeader(http.StatusEarlyHints) // which is no answer yet
		fmt.Fprintf(w, "%s %s host=%s name=%s query=%s close=%v from=%s", r.Method, r.URL.Path, r.Host, name, r.URL.RawQuery, r.Close, r.UserAgent())
	}
	target := web(t, "127.0.0.1:0", nil, handler)
	host := strings.TrimPrefix(target, "http://")
	body := func(text string) func(*Probe) { return func(p *Probe) { p.Body = text } }
	expectCheck(t, target+"/a%2Fb?c=d&e", body("GET /a/b host="+host+" name= query=c=d&e close=true from=nearside-probe"), "")
	expectCheck(t, target, body("GET / "), "")
	expectCheck(t, target, body("nowhere"), "status 200, but the text is not in the body")
	expectCheck(t, target, func(p *Probe) { p.Body, p.Host = "host=play.bet.example", "play.bet.example" }, "")
	expectCheck(t, web(t, "[::1]:0", nil, handler), nil, "")
	expectCheck(t, target+"/status/503", nil, "status 503")
	expectCheck(t, target+"/status/204", nil, "")
	expectCheck(t, target+"/status/404", func(p *Probe) { p.Statuses = []Statuses{{200, 200}, {401, 404}} }, "")
	expectCheck(t, target+"/status/204", func(p *Probe) { p.Statuses = []Statuses{{200, 200}, {401, 404}} }, "status 204")

	secure := web(t, "127.0.0.1:0", &certificate, handler)
	expectCheck(t, secure, func(p *Probe) {
		p.Roots, p.Host, p.Body = roots, "play.bet.example", "host=play.bet.example name=play.bet.example"
	}, "")
	expectCheck(t, secure, func(p *Probe) { p.Insecure, p.Body = true, "name= query" }, "")
	expectCheck(t, secure, func(p *Probe) { p.Roots = roots }, "TLS: cannot validate certificate for 127.0.0.1")
}

func TestCheckRedirects(t *testing.T) {
	t.Parallel()
	certificate, roots := identity(t, false, "play.bet.example")
	secure := web(t, "127.0.0.1:0", &certificate, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "secure %s %s", r.Host, r.URL)
	})
	securePort := secure[strings.LastIndex(secure, ":"):]
	other := web(t, "[::1]:0", nil, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "other %s", r.Host) })
	target := web(t, "127.0.0.1:0", nil, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/relative":
			w.Header().Set("Location", "status")
			w.WriteHeader(302)
		case "/secure":
			http.Redirect(w, r, "https://play.bet.example"+securePort+"/x", http.StatusMovedPermanently)
		case "/other":
			http.Redirect(w, r, other, http.StatusTemporaryRedirect)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/mail":
			w.Header().Set("Location", "mailto:somebody")
			w.WriteHeader(302)
		default:
			fmt.Fprintf(w, "here %s", r.Host)
		}
	})
	follow := func(body string) func(*Probe) {
		return func(p *Probe) { p.Redirects, p.Host, p.Roots, p.Body = true, "play.bet.example", roots, body }
	}
	expectCheck(t, target+"/relative", func(p *Probe) { p.Statuses = []Statuses{{302, 302}} }, "")
	// Nobody but us knows play.bet.example: its requests stay with the target.
	expectCheck(t, target+"/relative", follow("here play.bet.example"), "")
	expectCheck(t, target+"/secure", follow("secure play.bet.example"+securePort+" /x"), "")
	expectCheck(t, target+"/other", follow("other "+strings.TrimPrefix(other, "http://")), "")
	expectCheck(t, target+"/loop", follow(""), "more than 10 redirects")
	expectCheck(t, target+"/mail", follow(""), "redirected to what is no URL")
}

// Servers that break every rule are found out in time, and never get more of us
// than a bounded number of octets.
func TestCheckBadServers(t *testing.T) {
	t.Parallel()
	drip := func(first string) string {
		return raw(t, func(conn net.Conn) {
			io.WriteString(conn, first)
			for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
				if _, err := conn.Write([]byte("a")); err != nil {
					return
				}
			}
		})
	}
	wanted := func(p *Probe) { p.Body, p.Timeout = "b", 200*time.Millisecond }
	expectCheck(t, drip(""), hasty, "HTTP: no answer within 200ms")
	expectCheck(t, drip("HTTP/1.1 200 OK\r\nA: "), hasty, "HTTP: no answer within 200ms")
	expectCheck(t, drip("HTTP/1.1 200 OK\r\n\r\n"), wanted, "HTTP body: no answer within 200ms")
	expectCheck(t, drip("HTTP/1.1 200 OK\r\n\r\n"), hasty, "") // the status is all that was asked for
	flood := func(first, more string) string {
		return raw(t, func(conn net.Conn) {
			io.WriteString(conn, first)
			for {
				if _, err := io.WriteString(conn, more); err != nil {
					return
				}
			}
		})
	}
	search := func(p *Probe) { p.Body = "b" }
	expectCheck(t, flood("HTTP/1.1 200 OK\r\n", "A: a\r\n"), nil, "HTTP: the header has more than 65536 octets")
	expectCheck(t, flood("", "HTTP/1.1 100 Continue\r\n\r\n"), nil, "HTTP: the header has more than 65536 octets")
	expectCheck(t, flood("HTTP/1.1 200 OK\r\n\r\n", "aaaaaaaa"), search, "the text is not in the body")
	expectCheck(t, flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n"), search, "HTTP body: ")

	late := strings.Repeat("a", MaxBody-1) + "b"
	expectCheck(t, text(t, "HTTP/1.1 200 OK\r\n\r\n"+late), search, "")
	expectCheck(t, text(t, "HTTP/1.1 200 OK\r\n\r\na"+late), search, "the text is not in the body")
	expectCheck(t, text(t, ""), nil, "HTTP: the connection was closed early")
	expectCheck(t, text(t, "HTTP/1.1 200"), nil, "HTTP: the connection was closed early")
	expectCheck(t, text(t, "220 mail.example ESMTP\r\n"), nil, "HTTP: malformed HTTP ")
	expectCheck(t, text(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\na"), search, "HTTP body: the connection was closed early")
	expectCheck(t, text(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab"), search, "")
	expectCheck(t, raw(t, func(conn net.Conn) { conn.(*net.TCPConn).SetLinger(0) }), nil, "HTTP: connection reset by peer")
}

// A check ends with its context: nobody waits for a slow target to stop.
func TestCheckCancelled(t *testing.T) {
	t.Parallel()
	p := Default()
	p.Target, _ = url.Parse("http://" + listen(t, "127.0.0.1:0").Addr().String())
	p.Timeout = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Check(ctx) }()
	cancel()
	if err := <-done; err == nil {
		t.Error("it passed")
	}
}

var quiet = log.New(io.Discard, "", 0)
