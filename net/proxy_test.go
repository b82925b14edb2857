package net_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

// Both directions, with the ends in either order.
func TestProxy(t *testing.T) { // M19
	each(t, func(t *testing.T, ctx context.Context) {
		for i, networks := range [][2]string{{"tcp", "tcp"}, {"unix", "tcp"}, {"tcp", "unix"}, {"unixpacket", "unix"}} {
			left, a := connect(t, ctx, networks[0])
			b, right := connect(t, ctx, networks[1])
			if left == nil || b == nil {
				return
			}
			if i%2 == 1 { // the end of the second is the first to come
				left, a, b, right = right, b, a, left
			}
			there, back := noise(1<<20+3), noise(2<<20+5)
			if networks[0] == "unixpacket" {
				there, back = noise(1003), noise(2005) // each is a packet
			}
			err := together(ctx, func(ctx context.Context) error {
				toB, toA, err := net.Proxy(ctx, a, b)
				if toB != int64(len(there)) || toA != int64(len(back)) || err != nil {
					return fmt.Errorf("Proxy: %d of %d, %d of %d, %w", toB, len(there), toA, len(back), err)
				}
				return nil
			}, func(ctx context.Context) error {
				return writeAll(ctx, left, there)
			}, func(ctx context.Context) error {
				got, err := readAll(ctx, right) // it has ended, and the other direction has not begun
				if err := same(got, there, err); err != nil {
					return err
				}
				return writeAll(ctx, right, back)
			}, func(ctx context.Context) error {
				got, err := readAll(ctx, left)
				return same(got, back, err)
			})
			if err != nil {
				t.Errorf("%v: %v", networks, err)
			}
			closeAll(t, ctx, left, a, b, right)
		}
	})
}

// A reset ends both directions at once, and so does the context.
func TestProxyFails(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, how := range []string{"reset", "cancel"} {
			left, a := connect(t, ctx, "tcp")
			b, right := connect(t, ctx, "tcp")
			if left == nil || b == nil {
				return
			}
			err := together(ctx, func(ctx context.Context) error {
				limit, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
				defer cancel()
				if how == "reset" {
					limit = ctx
				}
				_, _, err := net.Proxy(limit, a, b)
				if err == nil {
					return errors.New("no error")
				}
				return nil
			}, func(ctx context.Context) error {
				if how != "reset" {
					return nil
				}
				if _, _, err := left.WriteAll(ctx, []byte("x")); err != nil {
					return err
				}
				if _, _, err := right.ReadFull(ctx, make([]byte, 1)); err != nil {
					return err
				}
				if err := left.SetLinger(0); err != nil {
					return err
				}
				return left.Close(ctx)
			})
			if err != nil {
				t.Errorf("%s: %v", how, err)
			}
			closeAll(t, ctx, a, b, right)
			if how != "reset" {
				closeAll(t, ctx, left)
			}
		}
	})
}

// Connections that wait to be passed on have no pipe, however many they are.
func TestProxyIdle(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		net.ClosePipes()
		before := pipeEnds(t) // the process's own
		left, a := connect(t, ctx, "tcp")
		b, right := connect(t, ctx, "tcp")
		if left == nil || b == nil {
			return
		}
		defer closeAll(t, ctx, left, a, b, right)
		err := together(ctx, func(ctx context.Context) error {
			_, _, err := net.Proxy(ctx, a, b)
			return err
		}, func(ctx context.Context) error {
			defer right.CloseWrite()
			defer left.CloseWrite()
			for range 3 {
				if _, _, err := left.WriteAll(ctx, []byte("ping")); err != nil {
					return err
				}
				if _, _, err := right.ReadFull(ctx, make([]byte, 4)); err != nil {
					return err
				}
				for tries := 0; ; tries++ { // until it waits again
					net.ClosePipes()
					now := pipeEnds(t)
					if now == before {
						break
					}
					if tries == 1000 {
						return fmt.Errorf("%d ends of pipes are open, and %d before", now, before)
					}
					if err := executor.Sleep(ctx, 5*time.Millisecond); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func pipeEnds(t *testing.T) (n int) {
	for _, what := range testenv.Descriptors(t) {
		if strings.HasPrefix(what, "pipe:") {
			n++
		}
	}
	return n
}
