package healthsync

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Connect makes a client for the given endpoints, as the given credentials; nil
// is nobody. It does not wait for a connection: the first request does, for as
// long as its context allows, or until no endpoint can be reached.
func Connect(endpoints []string, c *Credentials, log zerolog.Logger) (*clientv3.Client, error) {
	return connect(clientv3.Config{Endpoints: endpoints}, c, log)
}

// connect fills in what all clients share.
func connect(config clientv3.Config, c *Credentials, log zerolog.Logger) (*clientv3.Client, error) {
	config.DialTimeout = 5 * time.Second
	// 10 s is the least that gRPC allows. What notices a silent partition sooner
	// is the unanswered progress request of a watch.
	config.DialKeepAliveTime = 10 * time.Second
	config.DialKeepAliveTimeout = 3 * time.Second
	config.Logger = forwardTo(log, zerolog.DebugLevel)
	config.DialOptions = append(config.DialOptions, grpc.WithChainUnaryInterceptor(failFast), grpc.WithConnectParams(redial))
	if c != nil && c.identity.Username != "" {
		// The client logs in where both are set. The password is read from its file then.
		config.Username, config.Password = c.identity.Username, "from etcd.password_file"
		config.DialOptions = append(config.DialOptions, grpc.WithChainUnaryInterceptor(logIn(c)))
	}
	if strings.HasPrefix(config.Endpoints[0], "https://") {
		config.DialOptions = append(config.DialOptions, grpc.WithTransportCredentials(newHandshake(c)))
	}
	return clientv3.New(config)
}

// redial makes a client that lives long notice within seconds that etcd is back; by
// itself gRPC would wait for up to two minutes.
var redial = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
	MinConnectTimeout: 5 * time.Second,
}

// failFast makes a request fail when no endpoint can be reached, with the reason:
// the client would wait for the end of its context, and say no more than that.
func failFast(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	return invoke(ctx, method, request, reply, cc, append(options, grpc.WaitForReady(false))...)
}

// logIn makes a client log in with the password of today, when a request first
// needs it and whenever the client thinks that its token is used up.
func logIn(c *Credentials) grpc.UnaryClientInterceptor {
	var made, loggedIn atomic.Bool
	return func(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		if _, login := request.(*etcdserverpb.AuthenticateRequest); !login {
			if !loggedIn.Load() {
				// The client logs in over this, and asks again. Without a token the request
				// would be that of the user who has our certificate's name, if there is one.
				return rpctypes.ErrGRPCUserEmpty
			}
			return invoke(ctx, method, request, reply, cc, options...)
		}
		if !made.Swap(true) {
			// The client logs in while it is made, and so would wait for a connection.
			return rpctypes.ErrGRPCAuthNotEnabled // which it takes for an answer
		}
		username, password := c.login()
		err := invoke(ctx, method, &etcdserverpb.AuthenticateRequest{Name: username, Password: password}, reply, cc, options...)
		if err == nil || errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled) {
			loggedIn.Store(true)
		}
		return err
	}
}

// wantsTLS is the hint where somebody hangs up before a word of HTTP/2. An etcd that
// dies does, too.
const wantsTLS = "what answers there seems to want TLS; see to etcd.endpoints"

// Hint says what to do about an error of etcd that the configuration or the
// rights of the user are to blame for; "" is for others.
func Hint(err error) string {
	switch {
	case err == nil:
	case errors.Is(err, rpctypes.ErrAuthFailed):
		return "see to etcd.username and etcd.password_file"
	case errors.Is(err, rpctypes.ErrUserEmpty):
		return "etcd wants to know who asks; set etcd.username and etcd.password_file, or etcd.cert"
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		return "grant the user the role it needs, with `etcdctl role grant-permission` and `etcdctl user grant-role`"
	case strings.Contains(err.Error(), "remote error: tls: "):
		return "etcd refuses our certificate; see to etcd.cert and etcd.key"
	case strings.Contains(err.Error(), "error reading server preface"):
		return wantsTLS
	}
	return ""
}

// Brief returns what an error says to people, without the layers that gRPC puts
// around it.
func Brief(err error) string {
	text := err.Error()
	for _, layer := range []*regexp.Regexp{grpcStatus, grpcConnection, grpcTransport} {
		text = layer.ReplaceAllString(text, "$1")
	}
	return text
}

var (
	grpcStatus     = regexp.MustCompile(`rpc error: code = \w+ desc = ()`)
	grpcConnection = regexp.MustCompile(`connection error: desc = "((?:[^"\\]|\\.)*)"`)
	grpcTransport  = regexp.MustCompile(`transport: (?:[Ee]rror while dialing: |authentication handshake failed: )?()`)
)
