package net_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	stdnet "net"
	"os"
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

// hasTable reports whether sockets can be in the ring of ctx.
func hasTable(ctx context.Context) bool {
	d, err := driver.FromContext(ctx)
	return err == nil && d.Engine() == driver.Uring
}

// noneTaken sees that the ring's table of ctx is empty again. What is closed in the background has two seconds.
func noneTaken(t *testing.T, ctx context.Context) {
	t.Helper()
	d, err := driver.FromContext(ctx)
	if err != nil {
		t.Error(err)
		return
	}
	for deadline := time.Now().Add(2 * time.Second); d.Stats().Direct != 0; {
		if time.Now().After(deadline) {
			t.Errorf("%d places of the table are taken", d.Stats().Direct)
			return
		}
		_ = executor.Sleep(ctx, 5*time.Millisecond)
	}
}

// ringPair returns a connection of which both ends are in the ring, if they can be.
func ringPair(t *testing.T, ctx context.Context, network string) (client, server *net.RingConn) {
	t.Helper()
	l := listenOn(t, ctx, network)
	if l == nil {
		return nil, nil
	}
	defer l.Close(ctx)
	err := together(ctx, func(ctx context.Context) (err error) {
		server, err = l.AcceptRing(ctx)
		return err
	}, func(ctx context.Context) (err error) {
		client, err = new(net.Dialer).DialRing(ctx, l.Addr().Network(), l.Addr().String())
		return err
	})
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	return client, server
}

// closeRing closes connections at the end of a test.
func closeRing(t *testing.T, ctx context.Context, cs ...*net.RingConn) {
	t.Helper()
	for _, c := range cs {
		if err := c.Close(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
}

// TestRingConn echoes on connections that are in the ring's table and nowhere else.
func TestRingConn(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"tcp", "tcp6", "unix", "abstract", "unixpacket"} {
			before := testenv.Descriptors(t)
			c, s := ringPair(t, ctx, network)
			if c == nil {
				return
			}
			inRing := hasTable(ctx) && network != "unixpacket"
			if more := len(testenv.Descriptors(t)) - len(before); c.InRing() != inRing || s.InRing() != inRing || inRing != (more == 0) {
				t.Errorf("%s: in the ring: %v, %v; %d descriptors more", network, c.InRing(), s.InRing(), more)
			}
			if c.LocalAddr().String() != s.RemoteAddr().String() || c.RemoteAddr().String() != s.LocalAddr().String() {
				t.Errorf("%s: %v to %v, and %v to %v", network, c.LocalAddr(), c.RemoteAddr(), s.LocalAddr(), s.RemoteAddr())
			}
			sent := []byte("good morning")
			err := together(ctx, func(ctx context.Context) error {
				buf := make([]byte, 100)
				for {
					n, _, err := s.Read(ctx, buf)
					if err == io.EOF {
						return s.CloseWrite(ctx)
					}
					if err != nil {
						return err
					}
					if n, _, err := s.WriteAll(ctx, buf[:n]); err != nil {
						return fmt.Errorf("wrote %d: %w", n, err)
					}
				}
			}, func(ctx context.Context) error {
				for range 100 {
					n, back, err := c.Write(ctx, sent)
					if err != nil || n != len(sent) || &back[0] != &sent[0] {
						return fmt.Errorf("Write = %d, %q, %v", n, back, err)
					}
					buf := make([]byte, len(sent))
					n, back, err = c.ReadFull(ctx, buf)
					if err != nil || n != len(sent) || &back[0] != &buf[0] || !bytes.Equal(buf, sent) {
						return fmt.Errorf("ReadFull = %d, %q, %v", n, back, err)
					}
				}
				if n, _, err := c.Read(ctx, nil); n != 0 || err != nil {
					return fmt.Errorf("nothing: %d, %v", n, err)
				}
				if err := c.CloseWrite(ctx); err != nil {
					return err
				}
				if n, buf, err := c.Read(ctx, make([]byte, 10)); n != 0 || len(buf) != 10 || err != io.EOF {
					return fmt.Errorf("at the end: Read = %d, %q, %v", n, buf, err)
				}
				if n, _, err := c.ReadFull(ctx, make([]byte, 10)); n != 0 || err != io.EOF {
					return fmt.Errorf("at the end: ReadFull = %d, %v", n, err)
				}
				return nil
			})
			if err != nil {
				t.Errorf("%s: %v", network, err)
			}
			closeRing(t, ctx, c, s)
			var op *net.OpError
			if err := c.Close(ctx); !errors.Is(err, net.ErrClosed) || !errors.As(err, &op) {
				t.Errorf("%s: second Close: %v", network, err)
			}
			for what, f := range map[string]func() error{
				"Read":       func() error { _, _, err := c.Read(ctx, make([]byte, 1)); return err },
				"ReadFull":   func() error { _, _, err := c.ReadFull(ctx, make([]byte, 1)); return err },
				"Write":      func() error { _, _, err := c.Write(ctx, make([]byte, 1)); return err },
				"WriteAll":   func() error { _, _, err := c.WriteAll(ctx, make([]byte, 1)); return err },
				"CloseRead":  func() error { return c.CloseRead(ctx) },
				"CloseWrite": func() error { return c.CloseWrite(ctx) },
				"Install":    func() error { _, err := c.Install(ctx); return err },
			} {
				if err := f(); !errors.Is(err, net.ErrClosed) || !errors.As(err, &op) {
					t.Errorf("%s: %s after Close: %v", network, what, err)
				}
			}
		}
		noneTaken(t, ctx)
	})
}

// TestRingConnMuchData moves more than the kernel's buffers hold, both ways at a time, by writers that take turns.
func TestRingConnMuchData(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := ringPair(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeRing(t, ctx, c, s)
		const size = 1 << 20
		block := func(b byte) []byte { return bytes.Repeat([]byte{b}, size) }
		write := func(c *net.RingConn, b byte) func(context.Context) error {
			return func(ctx context.Context) error {
				if n, _, err := c.WriteAll(ctx, block(b)); n != size || err != nil {
					return fmt.Errorf("WriteAll = %d, %w", n, err)
				}
				return nil
			}
		}
		read := func(c *net.RingConn) func(context.Context) error {
			return func(ctx context.Context) error {
				for range 2 {
					n, b, err := c.ReadFull(ctx, make([]byte, size))
					if n != size || err != nil || !bytes.Equal(b, block(b[0])) {
						return fmt.Errorf("ReadFull = %d, %w", n, err)
					}
				}
				return nil
			}
		}
		if err := together(ctx, write(c, 1), write(c, 2), read(s), write(s, 3), write(s, 4), read(c)); err != nil {
			t.Error(err)
		}
	})
}

// TestRingConnWaits ends what waits: by a context, by shutting down, by closing.
func TestRingConnWaits(t *testing.T) { // N14, HAZARDS T6
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := ringPair(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeRing(t, ctx, c, s)
		short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		if n, b, err := s.Read(short, make([]byte, 1)); n != 0 || len(b) != 1 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read = %d, %v, %v", n, b, err)
		}
		n, b, err := s.WriteAll(short, make([]byte, 16<<20))
		if len(b) != 16<<20 || !errors.Is(err, context.DeadlineExceeded) || n == len(b) {
			t.Errorf("WriteAll = %d, %d, %v", n, len(b), err)
		}
		cancel()
		if _, _, err := c.Write(ctx, []byte("x")); err != nil {
			t.Error(err)
		}
		if n, b, err := s.Read(ctx, make([]byte, 10)); string(b[:n]) != "x" || err != nil {
			t.Errorf("after a cancelled Read: %q, %v", b[:n], err)
		}

		var waiting atomic.Int32
		want := func(what string, target error, f func(ctx context.Context) error) func(context.Context) error {
			return func(ctx context.Context) error {
				waiting.Add(1)
				if err := f(ctx); !errors.Is(err, target) {
					return fmt.Errorf("%s: %w", what, err)
				}
				return nil
			}
		}
		settled := func(ctx context.Context, n int32) error {
			for waiting.Load() < n {
				if err := executor.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
			}
			return executor.Sleep(ctx, 5*time.Millisecond)
		}
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		err = together(ctx,
			want("Read, shut down", io.EOF, func(ctx context.Context) error {
				_, _, err := c.Read(ctx, make([]byte, 1))
				return ignoreBytes(ctx, c, err)
			}),
			func(ctx context.Context) error {
				if err := settled(ctx, 1); err != nil {
					return err
				}
				return c.CloseRead(ctx)
			})
		if err != nil {
			t.Error(err)
		}
		waiting.Store(0)
		err = together(ctx,
			want("Read", net.ErrClosed, func(ctx context.Context) error { _, _, err := s.Read(ctx, make([]byte, 1)); return err }),
			want("ReadFull", net.ErrClosed, func(ctx context.Context) error { _, _, err := s.ReadFull(ctx, make([]byte, 1)); return err }),
			want("AcceptRing", net.ErrClosed, func(ctx context.Context) error { _, err := l.AcceptRing(ctx); return err }),
			func(ctx context.Context) error {
				if err := settled(ctx, 3); err != nil {
					return err
				}
				return errors.Join(s.Close(ctx), l.Close(ctx))
			})
		if err != nil {
			t.Error(err)
		}
	})
}

// ignoreBytes reads on if there was no error.
func ignoreBytes(ctx context.Context, c *net.RingConn, err error) error {
	for err == nil {
		_, _, err = c.Read(ctx, make([]byte, 1<<20))
	}
	return err
}

// TestRingInstall gives connections in the table descriptors, and moves ones with descriptors into it.
func TestRingInstall(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := ringPair(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeRing(t, ctx, c, s)
		out, err := s.Install(ctx)
		if errors.Is(err, errors.ErrUnsupported) {
			t.Log("needs FIXED_FD_INSTALL (6.8)")
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		if flag, err := unix.FcntlInt(out.Fd(), unix.F_GETFD, 0); err != nil || flag&unix.FD_CLOEXEC == 0 {
			t.Errorf("a child would inherit the descriptor: %v", err)
		}
		if flag, err := unix.FcntlInt(out.Fd(), unix.F_GETFL, 0); err != nil || flag&unix.O_NONBLOCK == 0 {
			t.Errorf("the descriptor blocks: %v", err)
		}
		nodelay, err := unix.GetsockoptInt(int(out.Fd()), unix.IPPROTO_TCP, unix.TCP_NODELAY)
		if err != nil || nodelay != 1 {
			t.Errorf("TCP_NODELAY is %d, %v", nodelay, err)
		}
		if out.RemoteAddr().String() != c.LocalAddr().String() || out.LocalAddr().String() != c.RemoteAddr().String() {
			t.Errorf("%v to %v", out.LocalAddr(), out.RemoteAddr())
		}
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		if _, _, err := c.Write(ctx, []byte("hello")); err != nil {
			t.Error(err)
		}
		// What was received and not read keeps a connection where it is.
		for chunk, err := range out.Receives(ctx, nil) {
			if err != nil || string(chunk.Bytes()) != "hello" {
				t.Errorf("%q, %v", chunk.Bytes(), err)
			}
			chunk.Release()
			if _, _, err := c.Write(ctx, []byte("again")); err != nil {
				t.Error(err)
			}
			break
		}
		back, err := out.IntoRing(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		defer closeRing(t, ctx, back)
		if back.InRing() {
			if err := out.Close(ctx); !errors.Is(err, net.ErrClosed) {
				t.Errorf("a connection that was moved: %v", err)
			}
		}
		if n, b, err := back.ReadFull(ctx, make([]byte, 5)); string(b[:n]) != "again" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		a, b := connect(t, ctx, "pair")
		if a == nil {
			return
		}
		defer closeAll(t, ctx, a, b)
		if _, err := a.IntoRing(ended); hasTable(ctx) && !errors.Is(err, context.Canceled) {
			t.Errorf("a context that has ended: %v", err)
		}
	})
}

// TestRingInstallLeftover makes an ordinary connection of one that had to stay where it was, and finds there what nobody has read.
func TestRingInstallLeftover(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		leaveOver(t, ctx, c, s, "again")
		r, err := s.IntoRing(ctx)
		if err != nil || r.InRing() {
			t.Errorf("in the ring with what is left: %v, %v", r, err)
			return
		}
		out, err := r.Install(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		defer closeAll(t, ctx, out)
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
		if _, _, err := c.Write(ctx, []byte(" and on")); err != nil {
			t.Error(err)
		}
		if n, b, err := out.ReadFull(ctx, make([]byte, 12)); string(b[:n]) != "again and on" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
	})
}

// TestRingAccepts accepts all who come, however often calls and iterations end in between: none is lost, and no place stays taken.
func TestRingAccepts(t *testing.T) { // HAZARDS T6, M8, M9
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		defer l.Close(ctx)
		const n = 100
		clients := dialAll(t, l, n/2)
		seen := map[string]bool{}
		take := func(s *net.RingConn) {
			if seen[s.RemoteAddr().String()] {
				t.Errorf("%v twice", s.RemoteAddr())
			}
			seen[s.RemoteAddr().String()] = true
			closeRing(t, ctx, s)
		}
		for turn := 0; len(seen) < n; turn++ {
			if len(clients) < n && len(seen) > n/2-10 {
				clients = append(clients, dialAll(t, l, 5)...)
			}
			short, cancel := context.WithTimeout(ctx, time.Duration(turn%11)*100*time.Microsecond)
			switch turn % 3 {
			case 0:
				if s, err := l.AcceptRing(short); err == nil {
					take(s)
				} else if !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			case 1: // whose leftovers come first
				for s, err := range l.Accepts(short) {
					if err == nil {
						seen[s.RemoteAddr().String()] = true
						closeAll(t, ctx, s)
					} else if !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					break
				}
			default:
				most := 1 + turn%5
				for s, err := range l.RingAccepts(short) {
					if err == nil {
						take(s)
					} else if !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					if most--; most == 0 {
						break
					}
				}
			}
			cancel()
		}
		for _, c := range clients {
			if !seen[c.LocalAddr().String()] {
				t.Errorf("%v is lost", c.LocalAddr())
			}
			c.Close()
		}
		noneTaken(t, ctx)
	})
}

// TestRingCycles opens and closes connections many times, several at a time, so that places are used again all the time: none gets what was meant for
// another, and none stays taken.
func TestRingCycles(t *testing.T) { // HAZARDS T4
	const tasks = 6
	rounds := 1700
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

// TestRingConnElsewhere uses a connection with another driver, where its place would be another socket.
func TestRingConnElsewhere(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		if !hasTable(ctx) {
			return
		}
		c, s := ringPair(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeRing(t, ctx, c)
		_, err := executor.Block(ctx, func() (struct{}, error) {
			d, err := driver.Open(driver.Config{Engine: driver.Uring})
			if err != nil {
				return struct{}{}, err
			}
			other := driver.NewContext(context.Background(), d)
			b := make([]byte, 10)
			if n, got, err := s.Read(other, b); n != 0 || err == nil || &got[0] != &b[0] {
				t.Errorf("read %d bytes by way of another driver", n)
			}
			if n, got, err := s.WriteAll(other, b); n != 0 || err == nil || &got[0] != &b[0] {
				t.Errorf("wrote %d bytes by way of another driver", n)
			}
			if _, err := s.Install(other); err == nil {
				t.Error("installed by way of another driver")
			}
			if err := s.Close(other); err != nil { // by way of its own
				t.Error(err)
			}
			return struct{}{}, d.Close(context.Background())
		})
		if err != nil {
			t.Error(err)
		}
		if n, _, err := c.Read(ctx, make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("the other end: %d, %v", n, err)
		}
		noneTakenBut(t, ctx, 1)
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

// TestRingConnAllocs sees that reading and writing allocates nothing.
func TestRingConnAllocs(t *testing.T) {
	testenv.CountsAllocs(t, raceEnabled)
	each(t, func(t *testing.T, ctx context.Context) {
		if !hasTable(ctx) {
			return
		}
		c, s := ringPair(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeRing(t, ctx, c, s)
		b := make([]byte, 64)
		round := func() {
			if _, _, err := c.WriteAll(ctx, b); err != nil {
				t.Error(err)
			}
			if _, _, err := s.ReadFull(ctx, b); err != nil {
				t.Error(err)
			}
			if _, _, err := s.Write(ctx, b); err != nil {
				t.Error(err)
			}
			if _, _, err := c.Read(ctx, b); err != nil {
				t.Error(err)
			}
		}
		round()
		if n := testing.AllocsPerRun(100, round); n >= 1 {
			t.Errorf("a round allocates %.1f times", n)
		}
	})
}

// TestRingReceives iterates over what arrives on a connection in the ring's table, in between and to the end, and loses nothing.
func TestRingReceives(t *testing.T) { // HAZARDS T5, N1
	each(t, func(t *testing.T, ctx context.Context) {
		const bufs, size = 8, 64
		b := bufferRing(t, ctx, bufs, size)
		for _, network := range []string{"tcp", "unix", "unixpacket"} {
			c, s := ringPair(t, ctx, network)
			if c == nil {
				return
			}
			var sent, received []byte
			for i := range 3000 {
				sent = append(sent, byte(i>>3))
			}
			err := together(ctx, func(ctx context.Context) error {
				for off, n := 0, 1; off < len(sent); n = 1 + n*7%size {
					k := min(n, len(sent)-off)
					if _, _, err := c.WriteAll(ctx, sent[off:off+k]); err != nil {
						return err
					}
					off += k
				}
				return c.CloseWrite(ctx)
			}, func(ctx context.Context) error {
				for turn := 0; ; turn++ {
					left := turn % 4 // chunks to take before it reads in the other way
					for chunk, err := range s.Receives(ctx, b) {
						if err != nil {
							return err
						}
						received = append(received, chunk.Bytes()...)
						chunk.Release()
						if left--; left < 0 {
							break
						}
					}
					n, got, err := s.Read(ctx, make([]byte, size))
					received = append(received, got[:n]...)
					if err == io.EOF {
						return nil
					}
					if err != nil {
						return err
					}
				}
			})
			if err != nil || !bytes.Equal(received, sent) {
				t.Errorf("%s: %v, %d bytes of %d", network, err, len(received), len(sent))
			}
			for chunk, err := range s.Receives(ctx, b) {
				t.Errorf("%s: after the end: %q, %v", network, chunk.Bytes(), err)
			}
			closeRing(t, ctx, c, s)
		}
		allFree(t, b, bufs)
		noneTaken(t, ctx)
	})
}

// TestRingReceivesEnds ends iterations on a connection in the ring's table by ctx and by Close, and what is left over goes where it is read.
func TestRingReceivesEnds(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		const bufs = 4
		b := bufferRing(t, ctx, bufs, 64)
		c, s := ringPair(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeRing(t, ctx, c, s)
		short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		times := 0
		for _, err := range s.Receives(short, b) {
			if times++; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a context that ends: %v", err)
			}
		}
		if s.InRing() { // in another ring, the place is another socket's
			other, err := driver.Open(driver.Config{})
			if err != nil {
				t.Error(err)
				return
			}
			for _, err := range s.Receives(driver.NewContext(context.Background(), other), nil) {
				if err == nil {
					t.Error("received by another driver")
				}
			}
			if err := other.Close(context.WithoutCancel(ctx)); err != nil {
				t.Error(err)
			}
		}
		if _, _, err := c.WriteAll(ctx, []byte("one")); err != nil {
			t.Error(err)
		}
		for chunk, err := range s.Receives(ctx, b) {
			if times++; err != nil || string(chunk.Bytes()) != "one" {
				t.Errorf("%q, %v", chunk.Bytes(), err)
			}
			chunk.Release()
			if _, _, err := s.Read(ctx, make([]byte, 1)); err == nil {
				t.Error("read while an iteration is on")
			}
			for _, err := range s.Receives(ctx, b) {
				if times++; err == nil {
					t.Error("an iteration in another")
				}
			}
			if _, _, err := c.WriteAll(ctx, []byte("two")); err != nil {
				t.Error(err)
			}
			_ = executor.Sleep(ctx, 5*time.Millisecond) // for the kernel to receive it
			break
		}
		if times != 3 {
			t.Errorf("%d turns", times)
		}
		if _, _, err := c.WriteAll(ctx, []byte("three")); err != nil {
			t.Error(err)
		}
		if d, err := s.Install(ctx); err == nil {
			if n, got, err := d.ReadFull(ctx, make([]byte, 8)); err != nil || string(got[:n]) != "twothree" {
				t.Errorf("after Install: %q, %v", got[:n], err)
			}
			closeAll(t, ctx, d)
		} else if !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
		err := together(ctx, func(ctx context.Context) error {
			for chunk, err := range s.Receives(ctx, b) {
				if err == nil {
					chunk.Release()
				} else if !errors.Is(err, net.ErrClosed) {
					return err
				}
			}
			return nil
		}, func(ctx context.Context) error {
			_ = executor.Sleep(ctx, 5*time.Millisecond)
			return s.Close(ctx)
		})
		if err != nil {
			t.Errorf("Close: %v", err)
		}
		for _, err := range s.Receives(ctx, b) {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
		allFree(t, b, bufs)
	})
}
