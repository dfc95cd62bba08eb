package healthsync

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"

	"github.com/rs/zerolog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/grpclog"
)

// gRPC would write errors of connections to standard error in a format of its
// own. It must be told BEFORE it is first used, hence here.
func init() {
	if os.Getenv("GRPC_GO_LOG_SEVERITY_LEVEL") == "" {
		grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	}
}

// harmless are warnings about what is as it should be: the embedded etcd needs
// no HTTP port, nobody logs in to it, and before it was first written to it has no
// schema, which it needs for its own downgrade alone.
var harmless = []string{
	"Running http and grpc server on single port. This is not recommended for production.",
	"simple token is not cryptographically signed",
	"Failed to detect schema version",
	"failed to update storage version",
}

// forwardTo returns a zap logger, as etcd wants one, whose warnings and errors
// appear in log at the given level.
func forwardTo(log zerolog.Logger, level zerolog.Level) *zap.Logger {
	// A fatal error of etcd must not end the process behind everybody's back.
	return zap.New(forwarder{log: log, level: level}, zap.WithFatalHook(zapcore.WriteThenPanic))
}

// forwarder is a zapcore.Core over zerolog.
type forwarder struct {
	log    zerolog.Logger
	level  zerolog.Level
	fields []zapcore.Field
}

func (f forwarder) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

func (f forwarder) With(fields []zapcore.Field) zapcore.Core {
	f.fields = append(f.fields[:len(f.fields):len(f.fields)], fields...)
	return f
}

func (f forwarder) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if f.Enabled(e.Level) {
		return checked.AddCore(e, f)
	}
	return checked
}

func (f forwarder) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if f.log.GetLevel() > f.level || slices.Contains(harmless, e.Message) {
		return nil // before the work of encoding
	}
	encoder := zapcore.NewMapObjectEncoder()
	for _, list := range [][]zapcore.Field{f.fields, fields} {
		for _, field := range list {
			field.AddTo(encoder)
		}
	}
	f.log.WithLevel(f.level).Fields(encoder.Fields).Msg("etcd: " + e.Message)
	return nil
}

func (f forwarder) Sync() error { return nil }

// giveUp is what etcd's logger does after a fatal error or a panic, instead of
// ending the process: it passes the error on and ends that goroutine alone.
type giveUp func(error)

func (g giveUp) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := errors.New(e.Message)
	for _, field := range fields {
		if cause, ok := field.Interface.(error); ok {
			err = fmt.Errorf("%s: %w", e.Message, cause)
		}
	}
	g(err)
	runtime.Goexit()
}
