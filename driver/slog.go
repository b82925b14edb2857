package driver

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Slog returns a logger for [Config] that writes to h, for programs that log by package log/slog. The handler decides which levels it
// wants. The name of a logger is the attribute "logger", and a stack "stack".
func Slog(h slog.Handler) *zap.Logger { return zap.New(slogCore{h}) }

// slogCore is a zapcore.Core over a slog.Handler.
type slogCore struct{ h slog.Handler }

// slogLevel takes four steps for one of zap's: Debug is -1 there and -4 here, Error 2 and 8.
func slogLevel(l zapcore.Level) slog.Level { return 4 * slog.Level(l) }

func (c slogCore) Enabled(l zapcore.Level) bool {
	return c.h.Enabled(context.Background(), slogLevel(l))
}

func (c slogCore) With(fields []zapcore.Field) zapcore.Core {
	for i, f := range fields {
		if f.Type == zapcore.NamespaceType { // what comes later, with records too, is inside
			return slogCore{c.h.WithAttrs(slogAttrs(fields[:i])).WithGroup(f.Key)}.With(fields[i+1:])
		}
	}
	return slogCore{c.h.WithAttrs(slogAttrs(fields))}
}

func (c slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	r := slog.NewRecord(e.Time, slogLevel(e.Level), e.Message, e.Caller.PC)
	if e.LoggerName != "" {
		r.AddAttrs(slog.String("logger", e.LoggerName))
	}
	r.AddAttrs(slogAttrs(fields)...)
	if e.Stack != "" {
		r.AddAttrs(slog.String("stack", e.Stack))
	}
	return c.h.Handle(context.Background(), r)
}

func (slogCore) Sync() error { return nil }

func slogAttrs(fields []zapcore.Field) (attrs []slog.Attr) {
	for i, f := range fields {
		switch f.Type {
		case zapcore.ErrorType:
			attrs = append(attrs, slog.Any(f.Key, f.Interface)) // the error itself, and not its text
			continue
		case zapcore.NamespaceType:
			return append(attrs, slog.Attr{Key: f.Key, Value: slog.GroupValue(slogAttrs(fields[i+1:])...)})
		}
		enc := zapcore.NewMapObjectEncoder()
		f.AddTo(enc)
		for _, key := range slices.Sorted(maps.Keys(enc.Fields)) {
			attrs = append(attrs, slog.Any(key, enc.Fields[key]))
		}
	}
	return attrs
}
