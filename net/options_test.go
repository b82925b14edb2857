package net_test

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/net"
	"uringo/ops"
)

// TestFastOpen connects by the first write. Whether its data went with the first packet is for the kernel to decide; it arrives.
func TestFastOpen(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		l, err := (&net.ListenConfig{FastOpen: 16}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close(ctx)
		for range 3 { // the first one gets the cookie for the others
			c, err := (&net.Dialer{FastOpen: true}).Dial(ctx, "tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			if c.RemoteAddr().String() != l.Addr().String() {
				t.Errorf("dialed %v", c.RemoteAddr())
			}
			if n, _, err := c.WriteAll(ctx, []byte("first")); n != 5 || err != nil {
				t.Errorf("WriteAll = %d, %v", n, err)
			}
			s, err := l.Accept(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			if n, buf, err := s.ReadFull(ctx, make([]byte, 5)); string(buf[:n]) != "first" || err != nil {
				t.Errorf("ReadFull = %q, %v", buf[:n], err)
			}
			if s.RemoteAddr().String() == "" || c.LocalAddr() == nil {
				t.Errorf("accepted from %v", s.RemoteAddr())
			}
			closeAll(t, ctx, c, s)
		}
	})
}

// TestOptionsSet reads back from the kernel what was set.
func TestOptionsSet(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		if c == nil || s == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		raw, err := c.SyscallConn()
		if err != nil {
			t.Error(err)
			return
		}
		for _, o := range []struct {
			set                 func() error
			level, option, want int
		}{
			{func() error { return c.SetNoDelay(false) }, unix.IPPROTO_TCP, unix.TCP_NODELAY, 0},
			{func() error { return c.SetNoDelay(true) }, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			{func() error { return c.SetKeepAlive(false) }, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0},
			{func() error { return c.SetReadBuffer(50_000) }, unix.SOL_SOCKET, unix.SO_RCVBUF, 100_000},
			{func() error { return c.SetWriteBuffer(60_000) }, unix.SOL_SOCKET, unix.SO_SNDBUF, 120_000},
			{func() error { return c.SetHopLimit(9) }, unix.IPPROTO_IP, unix.IP_TTL, 9},
			{func() error { return c.SetTrafficClass(16) }, unix.IPPROTO_IP, unix.IP_TOS, 16},
		} {
			if err := o.set(); err != nil {
				t.Error(err)
			}
			err := raw.Control(func(fd uintptr) {
				if got, err := unix.GetsockoptInt(int(fd), o.level, o.option); got != o.want || err != nil {
					t.Errorf("option %d of %d is %d, not %d, %v", o.option, o.level, got, o.want, err)
				}
			})
			if err != nil {
				t.Error(err)
			}
		}
		if err := c.SetGRO(true); !errors.Is(err, syscall.ENOPROTOOPT) {
			t.Errorf("SetGRO on TCP: %v", err)
		}
		if err := c.SetHopLimit(256); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("SetHopLimit(256): %v", err)
		}
	})
}

// TestLinger closes a connection that waits for its peer, who takes nothing: that holds up neither the ring nor other tasks.
func TestLinger(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, s)
		if err := errors.Join(c.SetLinger(20), s.SetLinger(0)); err != nil {
			t.Error(err)
		}
		for full := false; !full; {
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			_, _, err := c.Write(short, make([]byte, 1<<20))
			cancel()
			full = err != nil
		}
		var closed atomic.Bool
		wait := start(ctx, func(ctx context.Context) {
			if err := c.Close(ctx); err != nil {
				t.Error(err)
			}
			closed.Store(true)
		})
		for begun := time.Now(); time.Since(begun) < 50*time.Millisecond; {
			if err := executor.Do(ctx, ops.Nop()).Err; err != nil {
				t.Error(err)
			}
			if err := executor.Yield(ctx); err != nil && ctx.Value(plainKey{}) == nil {
				t.Error(err)
			}
		}
		if closed.Load() {
			t.Error("the peer has not taken everything, and Close has returned")
		}
		closeAll(t, ctx, s) // a reset: nobody will take it
		wait()
	})
}
