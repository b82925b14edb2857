package net_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"uringo/buf"
	"uringo/driver"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/net"
)

// TestFixed moves more than the kernel's buffers hold with buffers of a pool, both by attempts and by the ring alone.
func TestFixed(t *testing.T) { // T27, N1
	each(t, func(t *testing.T, ctx context.Context) {
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 64 << 10, Count: 4}}})
		for _, route := range []net.Route{net.Auto, net.Ring} {
			for _, op := range []net.Operation{net.OpRead, net.OpWrite} {
				defer net.Pin(op, net.Pin(op, route))
			}
			for _, network := range []string{"tcp", "unix"} {
				c, s := connect(t, ctx, network)
				if c == nil || s == nil {
					return
				}
				if err := moveFixed(ctx, pool, c, c.CloseWrite, s); err != nil {
					t.Errorf("%s, %v: %v", network, route, err)
				}
				closeAll(t, ctx, c, s)
				r, q := ringPair(t, ctx, network)
				if r == nil {
					return
				}
				if err := moveFixed(ctx, pool, r, func() error { return r.CloseWrite(ctx) }, q); err != nil {
					t.Errorf("%s, %v, in the ring's table: %v", network, route, err)
				}
				closeRing(t, ctx, r, q)
			}
		}
		d, err := driver.FromContext(ctx)
		if err == nil && d.Engine() == driver.Uring && testenv.MayRegister(t) && d.Stats().Fixed == 0 {
			t.Error("no operation was on registered memory")
		}
	})
}

// fixedConn is a connection that moves registered memory.
type fixedConn interface {
	ReadFixed(ctx context.Context, b *buf.Fixed) (int, *buf.Fixed, error)
	WriteFixed(ctx context.Context, b *buf.Fixed) (int, *buf.Fixed, error)
	WriteFixedAll(ctx context.Context, b *buf.Fixed) (int, *buf.Fixed, error)
}

func moveFixed(ctx context.Context, pool *buf.Pool, c fixedConn, end func() error, s fixedConn) error {
	const size = 4 << 20
	return together(ctx, func(ctx context.Context) error {
		b, err := pool.Get(ctx, 64<<10)
		if err != nil {
			return err
		}
		defer func() { b.Release() }()
		write := c.WriteFixed
		for sent := 0; sent < size; {
			if sent > size/2 {
				b.View(100, 64<<10)
				write = func(ctx context.Context, b *buf.Fixed) (int, *buf.Fixed, error) {
					n, back, err := c.WriteFixedAll(ctx, b)
					if lo, hi := b.Bounds(); err == nil && (n != hi-lo || lo != 100 || hi != 64<<10) {
						err = fmt.Errorf("all are %d, of a view from %d to %d", n, lo, hi)
					}
					return n, back, err
				}
			}
			fill(b.Bytes(), sent)
			var n int
			if n, b, err = write(ctx, b); err != nil {
				return fmt.Errorf("WriteFixed: %w", err)
			}
			sent += n
		}
		return end()
	}, func(ctx context.Context) error {
		b, err := pool.Get(ctx, 64<<10)
		if err != nil {
			return err
		}
		defer func() { b.Release() }()
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		got := 0
		for read := short; ; {
			var n int
			n, b, err = s.ReadFixed(read, b)
			if err := sentAt(b.Bytes()[:n], got); err != nil {
				return err
			}
			got += n
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded) && read == short:
				read = ctx
			case err == io.EOF && got >= size:
				return nil
			case err != nil:
				return fmt.Errorf("ReadFixed after %d bytes: %w", got, err)
			}
		}
	})
}

func TestFixedEnds(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 2}}})
		c, s := connect(t, ctx, "tcp")
		if c == nil || s == nil {
			return
		}
		b, err := pool.Get(ctx, 4096)
		if err != nil {
			t.Error(err)
			return
		}
		if _, _, err := c.WriteAll(ctx, []byte("rest")); err != nil {
			t.Error(err)
		}
		closeAll(t, ctx, c)
		if n, b, err := s.ReadFixed(ctx, b); err != nil || !bytes.Equal(b.Bytes()[:n], []byte("rest")) {
			t.Errorf("ReadFixed = %d, %v", n, err)
		}
		if n, _, err := s.ReadFixed(ctx, b); n != 0 || err != io.EOF {
			t.Errorf("ReadFixed at the end = %d, %v", n, err)
		}
		if n, _, err := s.ReadFixed(ctx, b.View(0, 0)); n != 0 || err != nil {
			t.Errorf("ReadFixed of nothing = %d, %v", n, err)
		}
		b.Whole()
		closeAll(t, ctx, s)
		if _, _, err := s.WriteFixed(ctx, b); !errors.Is(err, net.ErrClosed) {
			t.Errorf("WriteFixed after Close: %v", err)
		}
		b.Release()
		if _, _, err := s.WriteFixed(ctx, b); !errors.Is(err, buf.ErrReleased) {
			t.Errorf("WriteFixed of a released buffer: %v", err)
		}
		r, q := ringPair(t, ctx, "tcp")
		if r == nil {
			return
		}
		if b, err = pool.Get(ctx, 4096); err != nil {
			t.Error(err)
			return
		}
		if n, _, err := q.ReadFixed(ctx, b.View(0, 0)); n != 0 || err != nil {
			t.Errorf("ReadFixed of nothing = %d, %v", n, err)
		}
		b.Whole()
		closeRing(t, ctx, q)
		if n, _, err := r.ReadFixed(ctx, b); n != 0 || err != io.EOF {
			t.Errorf("ReadFixed at the end = %d, %v", n, err)
		}
		closeRing(t, ctx, r)
		for what, call := range map[string]func(context.Context, *buf.Fixed) (int, *buf.Fixed, error){"ReadFixed": r.ReadFixed, "WriteFixed": r.WriteFixed,
			"WriteFixedAll": r.WriteFixedAll, "WriteFixedAll of a Conn": s.WriteFixedAll} {
			if _, _, err := call(ctx, b); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s after Close: %v", what, err)
			}
		}
		b.Release()
		for what, call := range map[string]func(context.Context, *buf.Fixed) (int, *buf.Fixed, error){"WriteFixed": q.WriteFixed,
			"WriteFixedAll": q.WriteFixedAll, "WriteFixedAll of a Conn": s.WriteFixedAll} {
			if _, _, err := call(ctx, b); !errors.Is(err, buf.ErrReleased) {
				t.Errorf("%s of a released buffer: %v", what, err)
			}
		}
	})
}

// TestFixedSignals writes on several connections at once, on a kernel that refuses a flag which it does not know, and on one that has
// another reason to refuse.
func TestFixedSignals(t *testing.T) {
	if testenv.Engines(t)[0] != driver.Uring {
		t.Skip("needs io_uring")
	}
	defer net.Pin(net.OpWrite, net.Pin(net.OpWrite, net.Ring))
	for _, flagged := range []bool{true, false} {
		for _, e := range executors() {
			t.Run(fmt.Sprintf("flag %v/%v", flagged, e), func(t *testing.T) {
				faults := ring.NewFaults(ring.Linux(), 1, ring.FaultConfig{Inject: 1, Results: []int32{-int32(syscall.EOPNOTSUPP)},
					Match: func(q *ring.SQE) bool {
						return (q.Op == ring.OpWrite || q.Op == ring.OpWriteFixed) && (q.OpFlags != 0 || !flagged)
					}})
				if !faults.CanInject() {
					t.Skip("needs IORING_NOP_INJECT_RESULT (Linux 6.10)")
				}
				net.ForgetOldSignals()
				defer net.ForgetOldSignals()
				run(t, e, driver.OnKernel(driver.Config{Engine: driver.Uring}, faults), func(t *testing.T, ctx context.Context) {
					pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 8}}})
					writers := make([]func(ctx context.Context) error, 8)
					for i := range writers {
						writers[i] = func(ctx context.Context) error {
							c, s := connect(t, ctx, "pair")
							defer closeAll(t, ctx, c, s)
							b, err := pool.Get(ctx, 4096)
							if err != nil {
								return err
							}
							defer b.Release()
							for range 5 {
								switch n, _, err := c.WriteFixed(ctx, b); {
								case flagged && (n != b.Len() || err != nil), !flagged && !errors.Is(err, syscall.EOPNOTSUPP):
									return fmt.Errorf("WriteFixed = %d, %w", n, err)
								}
							}
							return nil
						}
					}
					if err := together(ctx, writers...); err != nil {
						t.Error(err)
					}
				})
				if net.ForgetOldSignals() != flagged {
					t.Errorf("signals are expected: %v", !flagged)
				}
			})
		}
	}
}

// TestFixedReleasedEarly releases a buffer while it waits for room, which is a mistake of the caller: the call ends all the same, with what was sent or
// with buf.ErrReleased, and holds up neither the next writer nor Close.
func TestFixedReleasedEarly(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, route := range []net.Route{net.Auto, net.Ring} {
			defer net.Pin(net.OpWrite, net.Pin(net.OpWrite, route))
			for _, all := range []bool{false, true} {
				pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 64 << 10, Count: 1}}})
				c, s := connect(t, ctx, "unix")
				if c == nil {
					return
				}
				b, err := pool.Get(ctx, 64<<10)
				if err != nil {
					t.Error(err)
					return
				}
				write := c.WriteFixed
				if all {
					write = c.WriteFixedAll
				}
				outcome := errors.New("a panic")
				wait := start(ctx, func(ctx context.Context) {
					var err error
					for err == nil {
						_, _, err = write(ctx, b)
					}
					outcome = err
				})
				if err := inFlight(ctx, 1); err != nil {
					t.Error(err)
				}
				b.Release()
				read := start(ctx, func(ctx context.Context) {
					for err == nil {
						_, _, err = s.Read(ctx, make([]byte, 64<<10))
					}
				})
				if wait(); !errors.Is(outcome, buf.ErrReleased) {
					t.Errorf("%v, all %v: %v", route, all, outcome)
				}
				closeAll(t, ctx, c)
				if read(); err != io.EOF {
					t.Errorf("the reader: %v", err)
				}
				closeAll(t, ctx, s)
			}
		}
	})
}
