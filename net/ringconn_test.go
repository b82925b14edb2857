package net_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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
			before := testenv.Files(t)
			c, s := ringPair(t, ctx, network)
			if c == nil {
				return
			}
			inRing := hasTable(ctx) && network != "unixpacket"
			after := testenv.Files(t)
			if c.InRing() != inRing || s.InRing() != inRing || inRing != (len(after) == len(before)) {
				t.Errorf("%s: in the ring: %v, %v; descriptors were %v and are %v", network, c.InRing(), s.InRing(), before, after)
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
