package driver_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"uringo/driver"
)

func TestSlog(t *testing.T) {
	var out bytes.Buffer
	bare := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	log := driver.Slog(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: bare}))
	if log.Core().Enabled(zap.DebugLevel) || !log.Core().Enabled(zap.InfoLevel) {
		t.Error("the handler's level does not count")
	}
	log.Debug("too little")
	log.Named("part").With(zap.Int("worker", 3)).Warn("slow", zap.Duration("for", time.Second), zap.Error(errors.New("why")),
		zap.Strings("stuck", []string{"read", "write"}), zap.Stringer("engine", driver.Uring), zap.Error(nil))
	log.Error("bad", zap.Uint64("user_data", 1<<63), zap.Stack("stack"))
	log.With(zap.Int("a", 1), zap.Namespace("in"), zap.Int("b", 2)).Info("deep", zap.Int("c", 3), zap.Namespace("deeper"), zap.Int("d", 4))
	if err := log.Sync(); err != nil {
		t.Error(err)
	}
	lines := strings.Split(out.String(), "\n")
	if want := `level=WARN msg=slow worker=3 logger=part for=1s error=why stuck="[read write]" engine=uring`; lines[0] != want {
		t.Errorf("%s, want %s", lines[0], want)
	}
	if want := `level=ERROR msg=bad user_data=9223372036854775808 stack="uringo/driver_test.TestSlog`; !strings.HasPrefix(lines[1], want) {
		t.Errorf("%s, want %s…", lines[1], want)
	}
	if want := "level=INFO msg=deep a=1 in.b=2 in.c=3 in.deeper.d=4"; lines[len(lines)-2] != want {
		t.Errorf("%s, want %s", lines[len(lines)-2], want)
	}
	if len(lines) != 4 {
		t.Errorf("%d lines:\n%s", len(lines), out.String())
	}

	var record slog.Record
	e, err := errors.New("why"), errors.New("")
	log = driver.Slog(keeper{&record})
	log.Error("x", zap.Error(e))
	record.Attrs(func(a slog.Attr) bool { err, _ = a.Value.Any().(error); return true })
	if err != e {
		t.Errorf("the handler sees %v of the error", err)
	}
}

// keeper is a handler that keeps the last record.
type keeper struct{ record *slog.Record }

func (keeper) Enabled(context.Context, slog.Level) bool { return true }
func (k keeper) Handle(_ context.Context, r slog.Record) error {
	*k.record = r
	return nil
}
func (k keeper) WithAttrs([]slog.Attr) slog.Handler { return k }
func (k keeper) WithGroup(string) slog.Handler      { return k }
