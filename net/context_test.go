package net_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/net"
)

// TestOneContext has calls of every kind wait with one context, which another task ends: each is told why, has its own buffer back, and takes
// nothing away from the next. With a context that has ended already nothing begins; one that ends when all is over changes nothing.
func TestOneContext(t *testing.T) { // M6, M7, C20
	each(t, func(t *testing.T, ctx context.Context) {
		a, b := connect(t, ctx, "tcp")
		c, d := connect(t, ctx, "unix")
		p, l := listenPacket(t, ctx, "udp"), listenOn(t, ctx, "tcp")
		if a == nil || c == nil || p == nil || l == nil {
			return
		}
		defer closeAll(t, ctx, a, b, c, d)
		defer p.Close(ctx)
		defer l.Close(ctx)
		reason := errors.New("another has answered")
		read := func(s *net.Conn, read func(context.Context, []byte) (int, []byte, error)) func(context.Context) error {
			return func(ctx context.Context) error {
				buf := make([]byte, 8)
				n, back, err := read(ctx, buf)
				if n != 0 || len(back) != len(buf) || &back[0] != &buf[0] {
					return fmt.Errorf("%d bytes, or another buffer: %w", n, err)
				}
				return err
			}
		}
		kinds := map[string]func(ctx context.Context) error{
			"Read":     read(b, b.Read),
			"ReadFull": read(d, d.ReadFull),
			"RecvFrom": read(nil, func(ctx context.Context, b []byte) (int, []byte, error) {
				n, b, _, err := p.RecvFrom(ctx, b)
				return n, b, err
			}),
			"Accept":   func(ctx context.Context) error { _, err := l.Accept(ctx); return err },
			"Readable": a.Readable,
		}
		for _, when := range []string{"while they wait", "before they begin"} {
			sub, cancel := context.WithCancelCause(ctx)
			if when == "before they begin" {
				cancel(reason)
			}
			var fs []func(ctx context.Context) error
			for what, call := range kinds {
				fs = append(fs, func(context.Context) error {
					if err := call(sub); !errors.Is(err, context.Canceled) || !errors.Is(err, reason) || errors.Is(err, driver.ErrAbandoned) {
						return fmt.Errorf("%s, cancelled %s: %w", what, when, err)
					}
					return nil
				})
			}
			fs = append(fs, func(ctx context.Context) error {
				defer cancel(reason)
				return executor.Sleep(ctx, 3*time.Millisecond)
			})
			if err := together(ctx, fs...); err != nil {
				t.Error(err)
			}
		}

		sub, cancel := context.WithCancel(ctx)
		defer cancel()
		for _, end := range [][2]*net.Conn{{a, b}, {c, d}} {
			if _, _, err := end[0].WriteAll(sub, []byte("to the next")); err != nil {
				t.Error(err)
			}
			if n, got, err := end[1].ReadFull(sub, make([]byte, 11)); err != nil || string(got[:n]) != "to the next" {
				t.Errorf("%q, %v", got[:n], err)
			}
		}
		if _, _, err := p.SendTo(sub, []byte("to the next"), p.LocalAddr()); err != nil {
			t.Error(err)
		}
		if n, got, _, err := p.RecvFrom(sub, make([]byte, 20)); err != nil || string(got[:n]) != "to the next" {
			t.Errorf("%q, %v", got[:n], err)
		}
		dialed := dialAll(t, l, 1)
		accepted, err := l.Accept(sub)
		if err != nil {
			t.Error(err)
			return
		}
		cancel()
		if _, _, err := accepted.WriteAll(ctx, []byte("after all")); err != nil {
			t.Error(err)
		}
		closeAll(t, ctx, accepted)
		for _, c := range dialed {
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, []byte("after all")) {
				t.Errorf("%q, %v", got, err)
			}
			c.Close()
		}
	})
}

// A group of calls ends because one of them was abandoned: the others are cancelled, and not abandoned. Their buffers come back, and nothing of
// theirs keeps a connection from being closed.
func TestEndBecauseOfAnAbandonedCall(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		a, b := connect(t, ctx, "tcp")
		p := listenPacket(t, ctx, "udp")
		if a == nil || p == nil {
			return
		}
		group, cancel := context.WithCancelCause(ctx)
		reads := func(what string, read func(context.Context, []byte) (int, []byte, error)) func(context.Context) error {
			return func(context.Context) error {
				buf := make([]byte, 8)
				_, back, err := read(group, buf)
				if len(back) != len(buf) || !errors.Is(err, context.Canceled) || errors.Is(err, driver.ErrAbandoned) {
					return fmt.Errorf("%s: a buffer of %d bytes and %w", what, len(back), err)
				}
				return nil
			}
		}
		if err := together(ctx,
			reads("Read", a.Read),
			reads("ReadFull", b.ReadFull),
			reads("RecvFrom", func(ctx context.Context, buf []byte) (int, []byte, error) {
				n, back, _, err := p.RecvFrom(ctx, buf)
				return n, back, err
			}),
			func(ctx context.Context) error {
				defer cancel(fmt.Errorf("another: %w", driver.ErrAbandoned))
				return executor.Sleep(ctx, time.Millisecond)
			},
		); err != nil {
			t.Error(err)
		}
		soon, cancelSoon := context.WithTimeout(ctx, 20*time.Second)
		defer cancelSoon()
		for _, c := range []interface{ Close(context.Context) error }{a, b, p} {
			if err := c.Close(soon); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
}
