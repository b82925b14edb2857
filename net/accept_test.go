package net_test

import (
	"context"
	"errors"
	"io"
	stdnet "net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

// dialAll makes n connections, which wait to be accepted, with the standard library.
func dialAll(t *testing.T, l *net.Listener, n int) []stdnet.Conn {
	t.Helper()
	var all []stdnet.Conn
	for range n {
		c, err := stdnet.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			t.Error(err)
			break
		}
		all = append(all, c)
	}
	return all
}

// TestAccepts accepts all who come, however often iterations end in between, and what is left over is closed with the listener.
func TestAccepts(t *testing.T) { // HAZARDS T6, M8, M9
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		const n = 150
		clients := dialAll(t, l, n)
		seen := map[string]bool{}
		take := func(s *net.Conn) {
			if seen[s.RemoteAddr().String()] {
				t.Errorf("%v twice", s.RemoteAddr())
			}
			seen[s.RemoteAddr().String()] = true
			closeAll(t, ctx, s)
		}
		for turn := 0; len(seen) < n; turn++ {
			if turn%3 == 2 {
				s, err := l.Accept(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				take(s)
				continue
			}
			short, cancel := context.WithTimeout(ctx, time.Duration(turn%11)*100*time.Microsecond)
			most := 1 + turn%5
			for s, err := range l.Accepts(short) {
				if err != nil {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					continue
				}
				take(s)
				if most--; most == 0 {
					break
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

		// The first is given out; the rest is open files of nobody, or in the queue.
		clients = dialAll(t, l, 20)
		for s, err := range l.Accepts(ctx) {
			if err != nil {
				t.Error(err)
				return
			}
			closeAll(t, ctx, s)
			break
		}
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
		for _, c := range clients {
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err := c.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a client of nobody: %d, %v", n, err)
			}
			c.Close()
		}
	})
}

// TestAcceptsWaits accepts one at a time, and is ended by Close.
func TestAcceptsWaits(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "unix")
		if l == nil {
			return
		}
		var last error
		err := together(ctx, func(ctx context.Context) error {
			for s, err := range l.Accepts(ctx) {
				if last = err; err != nil {
					continue
				}
				if _, _, err := s.WriteAll(ctx, []byte("hello")); err != nil {
					return err
				}
				closeAll(t, ctx, s)
			}
			return nil
		}, func(ctx context.Context) error {
			for range 10 {
				c, err := net.Dial(ctx, "unix", l.Addr().String())
				if err != nil {
					return err
				}
				if n, buf, err := c.ReadFull(ctx, make([]byte, 5)); err != nil || string(buf[:n]) != "hello" {
					t.Errorf("%q, %v", buf[:n], err)
				}
				if _, _, err := c.Read(ctx, make([]byte, 1)); err != io.EOF {
					t.Error(err)
				}
				closeAll(t, ctx, c)
			}
			return l.Close(ctx)
		})
		if err != nil || !errors.Is(last, net.ErrClosed) {
			t.Errorf("%v, and at last %v", err, last)
		}
		for _, err := range l.Accepts(ctx) {
			if !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
	})
}

// fewFiles lets the process open no more descriptors until the returned function is called.
func fewFiles(t *testing.T) (restore func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	next, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(next)
	set := func(r unix.Rlimit) {
		if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &r, nil); err != nil {
			t.Error(err)
		}
	}
	set(unix.Rlimit{Cur: uint64(next), Max: old.Max})
	return func() { set(old) }
}

// TestAcceptsOutOfFiles runs out of descriptors: that is told, and accepting goes on by itself soon after.
func TestAcceptsOutOfFiles(t *testing.T) { // HAZARDS T27
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		defer l.Close(ctx)
		const enough = time.Second
		var took time.Duration
		for range 3 { // the machine may have other things to do
			clients := dialAll(t, l, 3)
			restore := fewFiles(t)
			var restored time.Time
			delays := func() time.Duration { return 0 }
			told, accepted := 0, 0
			for s, err := range l.Accepts(ctx) {
				switch {
				case errors.Is(err, syscall.EMFILE):
					if told++; told == 3 {
						restore()
						restored, delays = time.Now(), testenv.Delays()
					}
					continue
				case err != nil:
					t.Error(err)
				case accepted == 0:
					took = time.Since(restored)
					took -= delays()
				}
				closeAll(t, ctx, s)
				if accepted++; accepted == len(clients) {
					break
				}
			}
			if told < 3 {
				restore()
				t.Errorf("told %d times", told)
			}
			for _, c := range clients {
				c.Close()
			}
			if took < enough {
				break
			}
		}
		t.Logf("accepting went on %v after there were files again", took)
		if took >= enough {
			t.Errorf("accepting went on after %v", took)
		}
	})
}

// TestAcceptsManyTasks gives every connection to one of several iterations.
func TestAcceptsManyTasks(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		defer l.Close(ctx)
		const tasks, each = 4, 10
		var fs []func(ctx context.Context) error
		for range tasks {
			fs = append(fs, func(ctx context.Context) error {
				n := 0
				for s, err := range l.Accepts(ctx) {
					if err != nil {
						return err
					}
					if _, _, err := s.WriteAll(ctx, []byte{1}); err != nil {
						return err
					}
					closeAll(t, ctx, s)
					if n++; n == each {
						return nil
					}
				}
				return nil
			}, func(ctx context.Context) error {
				for range each {
					c, err := net.Dial(ctx, "tcp", l.Addr().String())
					if err != nil {
						return err
					}
					if _, _, err := c.ReadFull(ctx, make([]byte, 1)); err != nil {
						return err
					}
					closeAll(t, ctx, c)
					if err := executor.Yield(ctx); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := together(ctx, fs...); err != nil {
			t.Error(err)
		}
	})
}

// TestIterationsEndWithTheirTasks leaves tasks in iterations, with connections and bytes that nobody takes. Whoever started them ends them,
// and nothing is left over, which each sees to.
func TestIterationsEndWithTheirTasks(t *testing.T) { // HAZARDS T7
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		clients := dialAll(t, l, 5)
		for _, c := range clients {
			if _, err := c.Write([]byte("hello")); err != nil {
				t.Error(err)
			}
		}
		serving := make(chan *net.Conn, len(clients)) // never full
		var waits []func()
		accept := start(ctx, func(task context.Context) {
			for s, err := range l.Accepts(task) {
				if err != nil {
					return
				}
				waits = append(waits, start(ctx, func(ctx context.Context) {
					for chunk, err := range s.Receives(ctx, nil) {
						if err != nil {
							break
						}
						chunk.Release()
						serving <- s
					}
					if err := s.Close(context.WithoutCancel(ctx)); err != nil {
						t.Error(err)
					}
				}))
				if len(waits) == 3 {
					_ = executor.Sleep(task, time.Hour)
				}
			}
		})
		for len(serving) < 3 { // the others have been accepted, or wait in the queue
			if err := executor.Sleep(ctx, time.Millisecond); err != nil {
				t.Error(err)
				break
			}
		}
		cancel()
		accept()
		for _, wait := range waits {
			wait()
		}
		if err := l.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
		for _, c := range clients {
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err := c.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a client of nobody: %d, %v", n, err)
			}
			c.Close()
		}
	})
}
