package net_test

import (
	"context"
	"errors"
	stdnet "net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/internal/testenv"
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

// TestKeepAlivePeriod reads back what periods mean: also none, and less than that.
func TestKeepAlivePeriod(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		for _, p := range []struct {
			period time.Duration
			want   int // seconds
		}{{7 * time.Second, 7}, {0, 15}, {time.Millisecond, 1}, {-1, 1}} {
			if err := c.SetKeepAlivePeriod(p.period); err != nil {
				t.Errorf("%v: %v", p.period, err)
			}
			for _, option := range []int{unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL} {
				if got, err := unix.GetsockoptInt(int(c.Fd()), unix.IPPROTO_TCP, option); got != p.want || err != nil {
					t.Errorf("%v: %d seconds, %v", p.period, got, err)
				}
			}
		}
	})
}

// linger is how long closing may wait.
const linger = 20 * time.Second

// TestLinger closes connections that wait for a peer who takes nothing: that holds up neither the ring nor other tasks, whoever set it.
func TestLinger(t *testing.T) {
	testenv.SkipShort(t)
	set := func(_, _ string, raw syscall.RawConn) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: int32(linger.Seconds())})
		}), err)
	}
	each(t, func(t *testing.T, ctx context.Context) {
		plain, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return
		}
		defer plain.Close(ctx)
		lingering, err := (&net.ListenConfig{Control: set}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return
		}
		defer lingering.Close(ctx)
		accepted := func(l *net.Listener, dl net.Dialer) (client, server *net.Conn, err error) {
			if client, err = dl.Dial(ctx, "tcp", l.Addr().String()); err == nil {
				server, err = l.Accept(ctx)
			}
			return client, server, err
		}
		for what, connect := range map[string]func() (lingers ringOrNot, peer *net.Conn, err error){
			"SetLinger": func() (ringOrNot, *net.Conn, error) {
				c, s, err := accepted(plain, net.Dialer{})
				if err == nil {
					err = c.SetLinger(int(linger.Seconds()))
				}
				return c, s, err
			},
			"SyscallConn": func() (ringOrNot, *net.Conn, error) {
				c, s, err := accepted(plain, net.Dialer{})
				if err != nil {
					return nil, nil, err
				}
				raw, err := c.SyscallConn()
				return c, s, errors.Join(err, set("", "", raw))
			},
			"SyscallConn of a NetConn": func() (ringOrNot, *net.Conn, error) {
				c, s, err := accepted(plain, net.Dialer{})
				if err != nil {
					return nil, nil, err
				}
				raw, err := c.NetConn().(syscall.Conn).SyscallConn()
				return c, s, errors.Join(err, set("", "", raw))
			},
			"Fd": func() (ringOrNot, *net.Conn, error) {
				c, s, err := accepted(plain, net.Dialer{})
				if err != nil {
					return nil, nil, err
				}
				return c, s, unix.SetsockoptLinger(int(c.Fd()), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: int32(linger.Seconds())})
			},
			"File": func() (ringOrNot, *net.Conn, error) {
				c, s, err := accepted(plain, net.Dialer{})
				if err != nil {
					return nil, nil, err
				}
				f, err := c.File()
				if err != nil {
					return nil, nil, err
				}
				defer f.Close()
				raw, err := f.SyscallConn()
				return c, s, errors.Join(err, set("", "", raw))
			},
			"a listener's SyscallConn": func() (ringOrNot, *net.Conn, error) {
				l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
				if err != nil {
					return nil, nil, err
				}
				defer l.Close(ctx)
				raw, err := l.SyscallConn()
				if err := errors.Join(err, set("", "", raw)); err != nil {
					return nil, nil, err
				}
				c, s, err := accepted(l, net.Dialer{})
				return s, c, err
			},
			"Dial": func() (ringOrNot, *net.Conn, error) {
				c, s, err := accepted(plain, net.Dialer{Control: set})
				return c, s, err
			},
			"Accept": func() (ringOrNot, *net.Conn, error) {
				c, s, err := accepted(lingering, net.Dialer{})
				return s, c, err
			},
			"AcceptRing": func() (ringOrNot, *net.Conn, error) {
				c, err := net.Dial(ctx, "tcp", lingering.Addr().String())
				if err != nil {
					return nil, nil, err
				}
				s, err := lingering.AcceptRing(ctx)
				return s, c, err
			},
			"Install": func() (ringOrNot, *net.Conn, error) {
				c, s, err := accepted(plain, net.Dialer{})
				if err != nil {
					return nil, nil, err
				}
				if err := c.SetLinger(int(linger.Seconds())); err != nil {
					return nil, nil, err
				}
				r, err := c.IntoRing(ctx)
				if err != nil {
					return nil, nil, err
				}
				defer r.Close(ctx)
				c, err = r.Install(ctx)
				return c, s, err
			},
			"FromNet": func() (ringOrNot, *net.Conn, error) {
				std, err := stdnet.Dial("tcp", plain.Addr().String())
				if err != nil {
					return nil, nil, err
				}
				s, err := plain.Accept(ctx)
				err = errors.Join(err, std.(*stdnet.TCPConn).SetLinger(int(linger.Seconds())))
				if err != nil {
					return nil, nil, err
				}
				c, err := net.FromNet(ctx, std)
				return c, s, err
			},
		} {
			c, peer, err := connect()
			if err != nil {
				t.Errorf("%s: %v", what, err)
				return
			}
			lingersAlone(t, ctx, what, c, peer)
		}
	})
}

// ringOrNot is a connection of either kind.
type ringOrNot interface {
	Write(ctx context.Context, b []byte) (int, []byte, error)
	Close(ctx context.Context) error
}

// lingersAlone closes c, which lingers, and sees that the ring and the tasks of ctx go on. Close may return early: whatever interrupts its thread
// ends the wait.
func lingersAlone(t *testing.T, ctx context.Context, what string, c ringOrNot, peer *net.Conn) {
	t.Helper()
	if err := peer.SetLinger(0); err != nil {
		t.Error(err)
	}
	stuff(ctx, c)
	wait := start(ctx, func(ctx context.Context) {
		if err := c.Close(ctx); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	})
	goesOn(t, ctx, what)
	closeAll(t, ctx, peer) // a reset: nobody will take it
	wait()
}

// goesOn sees for a while that the ring and the tasks of ctx go on.
func goesOn(t *testing.T, ctx context.Context, what string) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < 30*time.Millisecond; {
		now := time.Now()
		if err := executor.Do(ctx, ops.Nop()).Err; err != nil {
			t.Error(err)
		}
		if err := executor.Yield(ctx); err != nil && ctx.Value(plainKey{}) == nil {
			t.Error(err)
		}
		if held := time.Since(now); held > linger/2 {
			t.Errorf("%s: the ring and the tasks were held up for %v", what, held)
		}
	}
}

// stuff sends to one who takes nothing until there is no room.
func stuff(ctx context.Context, c ringOrNot) {
	const enough = 512 << 10 // for one who takes nothing, even if it is the machine's fault that a write ends for want of time
	for sent, full := 0, false; !full; {
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		n, _, err := c.Write(short, make([]byte, 1<<20))
		cancel()
		sent += n
		full = err != nil && sent > enough
	}
}

// TestLingerDropped drops a connection that waits for a peer who takes nothing, without closing it: that holds up nobody either.
func TestLingerDropped(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		fd, peer := dropLingering(t, ctx)
		if peer == nil {
			return
		}
		begun := time.Now()
		for {
			runtime.GC()
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == unix.EBADF {
				break
			}
			// Until its next operation, a task may hold what the last one was on.
			if err := executor.Do(ctx, ops.Nop()).Err; err != nil || time.Since(begun) > linger {
				t.Errorf("still open: %v", err)
				break
			}
		}
		goesOn(t, ctx, "dropped")
		if held := time.Since(begun); held > linger/2 {
			t.Errorf("held up for %v", held)
		}
		closeAll(t, ctx, peer)
	})
}

// dropLingering makes a connection that nobody has any more when it returns.
func dropLingering(t *testing.T, ctx context.Context) (fd int, peer *net.Conn) {
	t.Helper()
	l := listenOn(t, ctx, "tcp")
	if l == nil {
		return -1, nil
	}
	defer l.Close(ctx)
	c, err := net.Dial(ctx, "tcp", l.Addr().String())
	if err != nil {
		t.Error(err)
		return -1, nil
	}
	if peer, err = l.Accept(ctx); err != nil {
		t.Error(err)
		return -1, nil
	}
	if err := errors.Join(c.SetLinger(int(linger.Seconds())), peer.SetLinger(0)); err != nil {
		t.Error(err)
	}
	stuff(ctx, c)
	return int(c.Fd()), peer
}
