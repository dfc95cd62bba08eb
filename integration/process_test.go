package integration

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for something that must happen. It bounds
// hangs alone: nothing here is a measurement.
const patience = 20 * time.Second

// eventually calls check until it returns nil, and fails the test if that does
// not happen in time.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	within(t, patience, what, check)
}

// within is eventually with a time limit of its own; it returns the time taken.
func within(t testing.TB, limit time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	start := time.Now()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		err := check()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		<-again.C
	}
}

// process is a running program. It ends with the test at the latest; what it
// printed is shown if the test fails.
type process struct {
	cmd    *exec.Cmd
	output *output
	ended  chan struct{} // closed when it has ended and err is set
	err    error
	hidden bool // what it printed is not worth showing
}

// output collects what a program prints. Safe to call concurrently.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start runs cmd in the background.
func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, output: &output{}, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	// Whatever becomes of this test, nothing it started stays behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() && !p.hidden {
			t.Logf("output of %s:\n%s", cmd, lastLines(p.output.String(), 60))
		}
	})
	return p
}

// kill ends the process at once, as a power cut would.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// stop asks the process to end and fails the test if it does not end cleanly.
func (p *process) stop(t testing.TB) {
	t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.await(t)
	if p.err != nil {
		t.Errorf("%s did not end cleanly after SIGTERM: %v", p.cmd, p.err)
	}
}

// await waits until the process has ended by itself.
func (p *process) await(t testing.TB) {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("%s goes on and on", p.cmd)
	}
}

// failed says that the process has ended too early.
func (p *process) failed() error {
	select {
	case <-p.ended:
		return errors.New("it has ended")
	default:
		return nil
	}
}

func lastLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// result is what a command that ran to its end left.
type result struct {
	stdout, stderr string
	status         int
}

// run runs cmd to its end.
func finish(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", cmd, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// succeed runs cmd to its end and returns what it printed; it must exit with 0.
func succeed(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	r := finish(t, cmd)
	if r.status != 0 {
		t.Fatalf("%s: exit status %d\n%s%s", cmd, r.status, r.stdout, r.stderr)
	}
	return r.stdout
}
