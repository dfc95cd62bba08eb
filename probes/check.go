package probes

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// MaxBody is how much of a body is searched, in octets.
const MaxBody = 64 << 10

const (
	maxHeader    = 64 << 10 // octets of a response before its body
	maxFraming   = 64 << 10 // octets around the body, where it comes in chunks
	maxRedirects = 10
)

// Check checks once: it returns nil if all is well, and why if not. Whatever the
// other side does, that takes no longer than the timeout.
//
// It connects anew each time, as players do: a connection that is kept would go
// on working where no new one is taken any more. For the same reason it goes
// without http.Transport, which hides in which phase the time ran out, and lets a
// connection be made that nobody waits for any longer.
func (p *Probe) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	if p.Target.Scheme == "http" || p.Target.Scheme == "https" {
		return p.get(ctx)
	}
	conn, err := p.connect(ctx, p.Target, cmp.Or(p.Host, p.Target.Hostname()))
	if err == nil {
		conn.Close()
	}
	return err
}

// connect connects to a target, with TLS where its scheme has that: name is what
// the certificate must be for.
func (p *Probe) connect(ctx context.Context, to *url.URL, name string) (net.Conn, error) {
	dialer, network := net.Dialer{KeepAlive: -1}, "tcp"
	if p.Source.IsValid() {
		dialer.LocalAddr = &net.TCPAddr{IP: p.Source.AsSlice(), Zone: p.Source.Zone()}
		network = "tcp6"
		if p.Source.Is4() {
			network = "tcp4"
		}
	}
	conn, err := dialer.DialContext(ctx, network, address(to))
	if err != nil {
		return nil, p.explain(ctx, "connect", err)
	}
	if to.Scheme == "tcp" || to.Scheme == "http" {
		return conn, nil
	}
	secured := tls.Client(conn, &tls.Config{
		ServerName: name, RootCAs: p.Roots, InsecureSkipVerify: p.Insecure, NextProtos: protocols[to.Scheme],
	})
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, p.explain(ctx, "TLS", err)
	}
	return secured, nil
}

// protocols are offered by ALPN.
var protocols = map[string][]string{"https": {"http/1.1"}}

// address is where to connect to.
func address(to *url.URL) string {
	port := to.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[to.Scheme]
	}
	return net.JoinHostPort(to.Hostname(), port)
}

// get makes an HTTP request, and those that redirects lead to.
func (p *Probe) get(ctx context.Context) error {
	at, host := p.Target, cmp.Or(p.Host, p.Target.Host)
	for range maxRedirects + 1 {
		next, err := p.exchange(ctx, at, host)
		if err != nil || next == nil {
			return err
		}
		at, host = redirected(at, host, next), next.Host
	}
	return fmt.Errorf("HTTP: more than %d redirects", maxRedirects)
}

// redirected returns next with the host to connect to. Where the name stays the
// same, so does that host: looked up, the name might well lead to another region,
// by our own answers.
func redirected(at *url.URL, host string, next *url.URL) *url.URL {
	to := *next
	switch {
	case next.Scheme == at.Scheme && next.Host == host:
		to.Host = at.Host
	case strings.EqualFold(next.Hostname(), hostname(host)):
		to.Host = strings.TrimSuffix(at.Host, ":"+at.Port())
		if next.Port() != "" {
			to.Host += ":" + next.Port()
		}
	}
	return &to
}

// hostname is a host without its port.
func hostname(host string) string { return (&url.URL{Host: host}).Hostname() }

// exchange makes one HTTP request. next is where it was redirected to, if that is to be followed.
func (p *Probe) exchange(ctx context.Context, at *url.URL, host string) (next *url.URL, err error) {
	conn, err := p.connect(ctx, at, hostname(host))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// A timeout, or a shutdown, ends whatever is read or written then.
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()

	request := &http.Request{
		Method: http.MethodGet, URL: &url.URL{Scheme: at.Scheme, Host: host, Path: at.Path, RawPath: at.RawPath, RawQuery: at.RawQuery},
		Host: host, Header: http.Header{"User-Agent": {"nearside-probe"}, "Accept": {"*/*"}}, Close: true,
	}
	if err := request.Write(conn); err != nil {
		return nil, p.explain(ctx, "HTTP", err)
	}
	bounded := &io.LimitedReader{R: conn, N: maxHeader}
	response, err := readResponse(bufio.NewReader(bounded), request)
	if err != nil {
		if bounded.N <= 0 {
			return nil, fmt.Errorf("HTTP: the header has more than %d octets", maxHeader)
		}
		return nil, p.explain(ctx, "HTTP", err)
	}
	if p.Redirects {
		if location, err := response.Location(); err == nil && response.StatusCode/100 == 3 {
			return followed(location)
		}
	}
	if !p.expects(response.StatusCode) {
		return nil, fmt.Errorf("status %d", response.StatusCode)
	}
	if p.Body == "" {
		return nil, nil
	}
	bounded.N = MaxBody + maxFraming
	content, err := io.ReadAll(io.LimitReader(response.Body, MaxBody))
	switch {
	case bytes.Contains(content, []byte(p.Body)):
		return nil, nil
	case err != nil:
		return nil, p.explain(ctx, "HTTP body", err)
	}
	return nil, fmt.Errorf("status %d, but the text is not in the body", response.StatusCode)
}

// readResponse reads the first response that is final.
func readResponse(r *bufio.Reader, request *http.Request) (*http.Response, error) {
	for {
		response, err := http.ReadResponse(r, request)
		if err != nil || response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols {
			return response, err
		}
	}
}

// followed refuses redirects to what is no web page.
func followed(location *url.URL) (*url.URL, error) {
	if location.Scheme != "http" && location.Scheme != "https" || location.Hostname() == "" {
		return nil, errors.New("HTTP: redirected to what is no URL of http or https")
	}
	return location, nil
}
