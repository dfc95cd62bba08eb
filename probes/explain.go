package probes

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// errHere is a check that did not come about, for a reason that lies on this
// host: it says nothing of the target.
var errHere = errors.New("the check failed on this host")

// errStalled is a check that this host was too busy for, or stopped during.
var errStalled = fmt.Errorf("%w: it was too busy to make it in time", errHere)

// here are errors of the kernel for want of something on this host. A network
// that is unreachable is none of them: a region that is cut off looks like that.
var here = []error{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
	syscall.EADDRNOTAVAIL, syscall.EADDRINUSE, syscall.EACCES, syscall.EPERM,
}

// explain says in few words why a phase of a check failed: addresses are left
// out, since they are known.
func (p *Probe) explain(ctx context.Context, phase string, err error) error {
	for _, errno := range here {
		if errors.Is(err, errno) {
			return fmt.Errorf("%w: %w", errHere, err)
		}
	}
	var timeout net.Error
	var certificate *tls.CertificateVerificationError
	var operation *net.OpError
	var lookup *net.DNSError
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: %w", errHere, err)
	case errors.As(err, &lookup):
		return fmt.Errorf("lookup of %s: %s", lookup.Name, lookup.Err)
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded), overdue(ctx):
		return fmt.Errorf("%s: no answer within %v", phase, p.Timeout)
	case errors.As(err, &certificate):
		return fmt.Errorf("%s: %s", phase, strings.TrimPrefix(certificate.Err.Error(), "x509: "))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s: the connection was closed early", phase)
	case errors.As(err, &operation):
		err = operation.Err
	}
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		err = errno
	}
	return fmt.Errorf("%s: %s", phase, strings.TrimPrefix(err.Error(), "tls: "))
}

// overdue reports whether time ran out: half a line, cut off by that, looks
// malformed to whoever reads it.
func overdue(ctx context.Context) bool {
	deadline, _ := ctx.Deadline()
	return !time.Now().Before(deadline)
}
