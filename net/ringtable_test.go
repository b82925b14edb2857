package net_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdnet "net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

// TestRingCycles opens and closes connections many times, several at a time, so that places are used again all the time: none gets what was meant for
// another, and none stays taken.
func TestRingCycles(t *testing.T) { // HAZARDS T4
	const tasks = 6
	rounds := size(400, 1700) // with two places a round, more than the table has
	if testing.Short() {
		rounds = 50
	}
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "unix")
		if l == nil {
			return
		}
		before := testenv.Descriptors(t)
		var fs []func(context.Context) error
		fs = append(fs, func(ctx context.Context) error {
			for s, err := range l.RingAccepts(ctx) {
				if errors.Is(err, net.ErrClosed) {
					return nil
				}
				if err != nil {
					return err
				}
				n, b, err := s.Read(ctx, make([]byte, 40))
				if err == nil {
					_, _, err = s.WriteAll(ctx, b[:n])
				}
				if err := errors.Join(err, s.Close(ctx)); err != nil {
					return err
				}
			}
			return nil
		})
		var left atomic.Int32
		left.Store(tasks)
		for i := range tasks {
			fs = append(fs, func(ctx context.Context) error {
				defer func() {
					if left.Add(-1) == 0 {
						l.Close(ctx)
					}
				}()
				for round := range rounds {
					c, err := new(net.Dialer).DialRing(ctx, "unix", l.Addr().String())
					if err != nil {
						return err
					}
					tag := fmt.Sprintf("%d %d", i, round)
					if _, _, err = c.WriteAll(ctx, []byte(tag)); err == nil {
						var n int
						var b []byte
						if n, b, err = c.Read(ctx, make([]byte, 40)); string(b[:n]) != tag && err == nil {
							err = fmt.Errorf("got %q instead of %q", b[:n], tag)
						}
					}
					if err := errors.Join(err, c.Close(ctx)); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := together(ctx, fs...); err != nil {
			t.Error(err)
		}
		noneTaken(t, ctx)
		testenv.NoneLeft(t, without(before, int(l.Fd())))
	})
}

// without is a copy of descriptors without one.
func without(fds map[string]string, fd int) map[string]string {
	some := map[string]string{}
	for k, v := range fds {
		if k != fmt.Sprint(fd) {
			some[k] = v
		}
	}
	return some
}

// smallTable lets the process have few files while a driver makes its table, which is no larger than that.
func smallTable(t *testing.T, ctx context.Context, n uint64) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Error(err)
		return
	}
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: old.Max}, nil); err != nil {
		t.Error(err)
	}
	defer unix.Prlimit(0, unix.RLIMIT_NOFILE, &old, nil)
	if a, b, err := net.UnixPair(ctx); err != nil {
		t.Error(err)
	} else if r, err := a.IntoRing(ctx); err != nil {
		t.Error(err)
	} else {
		closeRing(t, ctx, r)
		closeAll(t, ctx, b)
	}
}

// TestRingExhaustion accepts more connections than the table holds: the rest have descriptors, all of them work, and none is lost.
func TestRingExhaustion(t *testing.T) { // G11
	each(t, func(t *testing.T, ctx context.Context) {
		const files, table, most = 128, 96, 150 // a quarter is for driver.TakePlace
		smallTable(t, ctx, files)
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		defer l.Close(ctx)
		clients := dialAll(t, l, most)
		var all []*net.RingConn
		outside := 0
		for s, err := range l.RingAccepts(ctx) {
			if err != nil {
				t.Error(err)
				break
			}
			if all = append(all, s); !s.InRing() {
				outside++
			}
			if len(all) == most {
				break
			}
		}
		if want := most - table; hasTable(ctx) && outside != want || !hasTable(ctx) && outside != most {
			t.Errorf("%d connections of %d are not in the ring", outside, len(all))
		}
		byAddr := map[string]stdnet.Conn{}
		for _, c := range clients {
			byAddr[c.LocalAddr().String()] = c
		}
		for i, s := range all {
			if _, _, err := s.WriteAll(ctx, []byte{byte(i)}); err != nil {
				t.Error(err)
			}
			c := byAddr[s.RemoteAddr().String()]
			if c == nil {
				t.Errorf("connection %d with %v", i, s.RemoteAddr())
				continue
			}
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			b := make([]byte, 1)
			if _, err := io.ReadFull(c, b); err != nil || b[0] != byte(i) {
				t.Errorf("connection %d: %v, %v", i, b, err)
			}
			c.Close()
			closeRing(t, ctx, s)
		}
		noneTaken(t, ctx)
		clients = dialAll(t, l, 1)
		s, err := l.AcceptRing(ctx)
		if err != nil || s.InRing() != hasTable(ctx) {
			t.Errorf("when there is room again: %v", err)
		}
		if err == nil {
			closeRing(t, ctx, s)
		}
		clients[0].Close()
	})
}

// TestRingConnCloseBackground closes connections with a context that does not say who asks, also on the driver's own thread, and with a read
// in flight.
func TestRingConnCloseBackground(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := ringPair(t, ctx, "tcp")
		if c == nil {
			return
		}
		err := together(ctx, func(ctx context.Context) error {
			if _, _, err := s.Read(ctx, make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("the reader is told %w", err)
			}
			return nil
		}, func(ctx context.Context) error {
			_ = executor.Sleep(ctx, time.Millisecond)
			return errors.Join(s.Close(context.Background()), c.Close(context.Background()))
		})
		if err != nil {
			t.Error(err)
		}
		noneTaken(t, ctx)
	})
}

// noneTakenBut sees that so many places are taken.
func noneTakenBut(t *testing.T, ctx context.Context, n int) {
	t.Helper()
	if d, err := driver.FromContext(ctx); err != nil || d.Stats().Direct != n {
		t.Errorf("%d places of the table are taken, %v", d.Stats().Direct, err)
	}
}

// TestRingConnDropped drops connections without closing them.
func TestRingConnDropped(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for range 5 {
			ringPair(t, ctx, "tcp")
		}
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		for range 200 {
			runtime.GC()
			if d.Stats().Direct == 0 {
				break
			}
			_ = executor.Sleep(ctx, 5*time.Millisecond)
		}
		noneTaken(t, ctx)
	})
}
