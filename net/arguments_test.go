package net_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"uringo/buf"
	"uringo/internal/testenv"
	"uringo/net"
)

// TestReadNothing reads into no room at all: that takes nothing, not even a datagram, and waits for nothing, as in the standard library; on a
// closed connection it fails.
func TestReadNothing(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		peer := listenPacket(t, ctx, "udp")
		if peer == nil {
			return
		}
		defer peer.Close(ctx)
		c, err := net.Dial(ctx, "udp", peer.LocalAddr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close(ctx)
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 1}}})
		fixed, err := pool.Get(ctx, 4096)
		if err != nil {
			t.Error(err)
			return
		}
		defer fixed.Release()
		fixed.View(0, 0)
		ways := map[string]func(ctx context.Context) (int, error){
			"Read":      func(ctx context.Context) (int, error) { n, _, err := c.Read(ctx, nil); return n, err },
			"Peek":      func(ctx context.Context) (int, error) { n, _, err := c.Peek(ctx, nil); return n, err },
			"Readv":     func(ctx context.Context) (int, error) { n, _, err := c.Readv(ctx, [][]byte{nil, {}}); return n, err },
			"ReadFixed": func(ctx context.Context) (int, error) { n, _, err := c.ReadFixed(ctx, fixed); return n, err },
			"NetConn":   func(ctx context.Context) (int, error) { return c.NetConn().Read(nil) },
		}
		check := func(when string, want error) {
			_ = c.NetConn().SetDeadline(time.Now().Add(time.Second))
			for name, read := range ways {
				short, cancel := context.WithTimeout(ctx, time.Second)
				if n, err := read(short); n != 0 || !errors.Is(err, want) {
					t.Errorf("%s %s: %d, %v, want %v", name, when, n, err, want)
				}
				cancel()
			}
		}
		check("before anything has come", nil)
		if _, _, err := peer.SendTo(ctx, []byte("here"), c.LocalAddr()); err != nil {
			t.Error(err)
		}
		if err := c.Readable(ctx); err != nil {
			t.Error(err)
		}
		check("of a datagram", nil)
		b := make([]byte, 10)
		if n, _, err := c.Read(ctx, b); err != nil || string(b[:n]) != "here" {
			t.Errorf("%q, %v", b[:n], err)
		}
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
		check("after Close", net.ErrClosed)
	})
}
