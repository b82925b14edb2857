package main

import (
	"errors"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logger takes what the driver and the executor have to say, such as why there is no io_uring, and says it as the program says
// everything else.
func (o *output) logger() *zap.Logger { return zap.New(&logCore{LevelEnabler: zap.WarnLevel, out: o}) }

type logCore struct {
	zapcore.LevelEnabler
	out    *output
	fields []zapcore.Field
}

func (c *logCore) With(fields []zapcore.Field) zapcore.Core {
	return &logCore{c.LevelEnabler, c.out, append(c.fields[:len(c.fields):len(c.fields)], fields...)}
}

func (c *logCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *logCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	text := []string{e.Message}
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(c.fields[:len(c.fields):len(c.fields)], fields...) {
		if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			text = append(text, err.Error())
			continue
		}
		f.AddTo(enc)
	}
	if s, ok := enc.Fields["stack"].(string); ok {
		text = append(text, s)
	}
	if len(text) == 0 {
		return errors.New("empty log entry")
	}
	c.out.complain("", strings.Join(text, ": "))
	return nil
}

func (c *logCore) Sync() error { return nil }
