package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// Controlled is what the control socket needs of the server. Its methods are
// called from many goroutines.
type Controlled interface {
	Status() Status
	// Reload reads zones and databases again. The faults are what stays wrong.
	Reload(ctx context.Context, r ReloadRequest) (Reloaded, error)
	// AcceptState ends a freeze: the state of etcd is taken as it is.
	AcceptState(ctx context.Context) error
}

// ReloadRequest asks for everything to be read again. With Accept, what is held
// because it shrank is taken: of one zone, or of all if Zone is empty.
type ReloadRequest struct {
	Accept bool   `json:"accept"`
	Zone   string `json:"zone,omitempty"`
}

// Reloaded is what became of a reload.
type Reloaded struct {
	Summary string   `json:"summary"`
	Faults  []string `json:"faults"` // what is wrong now: the last good version stays
}

type failure struct {
	Error string `json:"error"`
}

// Control returns the handler of the control socket.
func Control(s Controlled) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, s.Status(), nil)
	})
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, r *http.Request) {
		var request ReloadRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&request); err != nil {
			reply(w, nil, fmt.Errorf("read the request: %w", err))
			return
		}
		done, err := s.Reload(r.Context(), request)
		reply(w, done, err)
	})
	mux.HandleFunc("POST /state/accept", func(w http.ResponseWriter, r *http.Request) {
		reply(w, struct{}{}, s.AcceptState(r.Context()))
	})
	return mux
}

func reply(w http.ResponseWriter, value any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusConflict)
		value = failure{err.Error()}
	}
	// An error here means that the client went away: there is nobody to tell.
	_ = json.NewEncoder(w).Encode(value)
}

// longestRequest bounds a request: a reload of very large zones takes its time.
// longestStatus bounds one that only looks: a server that takes longer hangs.
const (
	longestRequest = 10 * time.Minute
	longestStatus  = 10 * time.Second
)

// maxSocketPath is what fits into sockaddr_un.
const maxSocketPath = 107

// ListenControl opens the control socket at path for its owner alone. The lock
// on the data folder is held: a socket that is there was left by a server that died.
func ListenControl(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("control socket %s: a path of over %d characters cannot be a socket; choose a shorter data_dir", path, maxSocketPath)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old control socket: %w", err)
	}
	// With the mask, the socket never has a wider mode, not even for a moment.
	old := syscall.Umask(0o177)
	listener, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	return listener, nil
}

// Client talks to the server over its control socket.
type Client struct {
	path     string
	http     *http.Client
	patience time.Duration // with a server that is only looked at
}

// NewClient returns a client of the control socket at path.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true} // a command asks once
	return &Client{path, &http.Client{Transport: transport, Timeout: longestRequest}, longestStatus}
}

// Status returns the status of the server, unless that hangs.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	return s, c.call(ctx, http.MethodGet, "/status", nil, &s)
}

// Reload makes the server read zones and databases again and waits for the end.
func (c *Client) Reload(ctx context.Context, r ReloadRequest) (done Reloaded, err error) {
	return done, c.call(ctx, http.MethodPost, "/reload", r, &done)
}

// AcceptState makes the server take the state of etcd as it is.
func (c *Client) AcceptState(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/state/accept", struct{}{}, nil)
}

func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	// The host is the socket: its name in the URL means nothing.
	request, err := http.NewRequestWithContext(ctx, method, "http://nearside"+path, bytes.NewReader(content))
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return c.explain(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		var f failure
		if err := json.NewDecoder(response.Body).Decode(&f); err != nil || f.Error == "" {
			return fmt.Errorf("the server at %s answers %s", c.path, response.Status)
		}
		return errors.New(f.Error)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return fmt.Errorf("read the answer of the server at %s: %w", c.path, err)
	}
	return nil
}

// explain turns the errors of a socket into what an operator can act on.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no server runs here: nobody listens on %s; start `nearside serve`, or name its configuration with --config", c.path)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s belongs to another user; run this as root or as the user of the server", c.path)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the server takes the connection to %s and does not answer: its process hangs or is stopped; restart it", c.path)
	}
	return fmt.Errorf("ask the server at %s: %w", c.path, err)
}
