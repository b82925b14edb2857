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
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

// echoChunk is a handler that sends back what it gets.
func echoChunk(ctx context.Context, c *net.Conn, chunk driver.Chunk) error {
	defer chunk.Release()
	_, _, err := c.WriteAll(ctx, chunk.Bytes())
	return err
}

// serveWhile serves a new listener while clients, plain goroutines that know its address, do what they do, and returns why serving ended.
func serveWhile(t *testing.T, ctx context.Context, s *net.Server, clients func(addr string) error) error {
	t.Helper()
	l := listenOn(t, ctx, "tcp")
	if l == nil {
		return nil
	}
	var ended error
	err := together(ctx, func(ctx context.Context) error {
		ended = s.Serve(ctx, l)
		return nil
	}, func(ctx context.Context) error {
		_, err := executor.Block(ctx, func() (struct{}, error) { return struct{}{}, clients(l.Addr().String()) })
		return errors.Join(err, l.Close(ctx))
	})
	if err != nil {
		t.Error(err)
	}
	return ended
}

// dialStd makes a connection with the standard library that fails rather than waits for ever.
func dialStd(addr string) (*stdnet.TCPConn, error) {
	c, err := stdnet.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return c.(*stdnet.TCPConn), c.SetDeadline(time.Now().Add(30 * time.Second))
}

// TestServer serves many connections that send now and then, in order and one piece at a time.
func TestServer(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		const clients, bufs = 40, 16
		b := bufferRing(t, ctx, bufs, 64)
		var handling sync.Map
		var ended atomic.Int32
		s := &net.Server{Buffers: b, Handle: func(ctx context.Context, c *net.Conn, chunk driver.Chunk) error {
			if _, twice := handling.LoadOrStore(c, true); twice {
				t.Error("two calls for one connection")
			}
			defer handling.Delete(c)
			if err := executor.Yield(ctx); err != nil {
				return err
			}
			return echoChunk(ctx, c, chunk)
		}, Ended: func(_ *net.Conn, err error) {
			if err != nil {
				t.Error(err)
			}
			ended.Add(1)
		}}
		err := serveWhile(t, ctx, s, func(addr string) error {
			var all []*stdnet.TCPConn
			for range clients {
				c, err := dialStd(addr)
				if err != nil {
					return err
				}
				defer c.Close()
				all = append(all, c)
			}
			for round := range 4 {
				for i, c := range all {
					if _, err := c.Write(pattern(i+round, 200*(1+i%3))); err != nil {
						return err
					}
				}
				for i, c := range all {
					got := make([]byte, 200*(1+i%3))
					if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, pattern(i+round, len(got))) {
						return fmt.Errorf("client %d, round %d: %v", i, round, err)
					}
				}
			}
			for _, c := range all { // the end of what is sent ends the connection
				if err := c.CloseWrite(); err != nil {
					return err
				}
				if n, err := c.Read(make([]byte, 1)); err != io.EOF {
					return fmt.Errorf("at the end: %d, %w", n, err)
				}
			}
			return nil
		})
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if n := ended.Load(); n != clients {
			t.Errorf("%d connections ended", n)
		}
		allFree(t, b, bufs)
	})
}

// A Server tells of the end of every connection before Serve returns, also of one that ends at that moment.
func TestServerTellsBefore(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		var told atomic.Int32
		s := &net.Server{Handle: echoChunk, Ended: func(*net.Conn, error) {
			if err := executor.Sleep(ctx, 20*time.Millisecond); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			told.Add(1)
		}}
		err := serveWhile(t, ctx, s, func(addr string) error {
			c, err := dialStd(addr)
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.CloseWrite(); err != nil {
				return err
			}
			if n, err := c.Read(make([]byte, 1)); err != io.EOF {
				return fmt.Errorf("at the end: %d, %w", n, err)
			}
			return nil
		})
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if n := told.Load(); n != 1 {
			t.Errorf("told of %d ends when Serve returned", n)
		}
	})
}

func pattern(seed, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(seed*31 + i)
	}
	return b
}

// TestServerHostile has peers that reset, that take nothing and that make their handler fail. Nobody else notices, and the end of serving
// ends them.
func TestServerHostile(t *testing.T) { // HAZARDS T31
	each(t, func(t *testing.T, ctx context.Context) {
		errRefused := errors.New("refused")
		var refused, closed atomic.Int32
		flood := make([]byte, 1<<20)
		s := &net.Server{Handle: func(ctx context.Context, c *net.Conn, chunk driver.Chunk) error {
			switch chunk.Bytes()[0] {
			case 'f': // the peer will read nothing of this
				chunk.Release()
				for {
					if _, _, err := c.WriteAll(ctx, flood); err != nil {
						return err
					}
				}
			case 'x':
				chunk.Release()
				return errRefused
			}
			return echoChunk(ctx, c, chunk)
		}, Ended: func(_ *net.Conn, err error) {
			switch {
			case err == errRefused:
				refused.Add(1)
			case errors.Is(err, net.ErrClosed):
				closed.Add(1)
			}
		}}
		const slow, bad = 4, 4
		var slows []*stdnet.TCPConn
		err := serveWhile(t, ctx, s, func(addr string) error {
			say := func(what string) (*stdnet.TCPConn, error) {
				c, err := dialStd(addr)
				if err == nil {
					_, err = c.Write([]byte(what))
				}
				return c, err
			}
			for range slow {
				c, err := say("flood")
				if err != nil {
					return err
				}
				slows = append(slows, c)                           // to be open until serving ends
				if _, err := c.Read(make([]byte, 1)); err != nil { // its handler has begun
					return err
				}
			}
			for range bad {
				c, err := say("x")
				if err != nil {
					return err
				}
				if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
					return fmt.Errorf("refused: %d, %w", n, err)
				}
				c.Close()
				if c, err = say("hello, and good bye"); err != nil {
					return err
				}
				c.SetLinger(0)
				c.Close() // a reset
			}
			good, err := say("good")
			if err != nil {
				return err
			}
			defer good.Close()
			for range 50 {
				if _, err := io.ReadFull(good, make([]byte, 4)); err != nil {
					return err
				}
				if _, err := good.Write([]byte("good")); err != nil {
					return err
				}
			}
			return nil
		})
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		for _, c := range slows {
			c.Close()
		}
		if r, c := refused.Load(), closed.Load(); r != bad || c < slow {
			t.Errorf("%d refused, %d closed", r, c)
		}
	})
}

// TestServerCancelled ends serving by its context, with idle connections and busy ones.
func TestServerCancelled(t *testing.T) { // HAZARDS T7
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		clients := dialAll(t, l, 10)
		short, cancel := context.WithCancel(ctx)
		defer cancel()
		busy := 0
		var mu sync.Mutex
		s := &net.Server{Handle: func(ctx context.Context, c *net.Conn, chunk driver.Chunk) error {
			chunk.Release()
			mu.Lock()
			if busy++; busy == 3 {
				cancel()
			}
			mu.Unlock()
			return executor.Sleep(ctx, time.Hour)
		}}
		for _, c := range clients[:3] {
			if _, err := c.Write([]byte("wake up")); err != nil {
				t.Error(err)
			}
		}
		if err := s.Serve(short, l); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := s.Serve(short, l); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
		for _, c := range clients { // some may not have been accepted
			c.SetReadDeadline(time.Now().Add(30 * time.Second))
			if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a client of nobody: %d, %v", n, err)
			}
			c.Close()
		}
	})
}

// TestServerCancelledForAnErrno ends serving by a context that another's lack of descriptors has ended.
func TestServerCancelledForAnErrno(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		short, cancel := context.WithCancelCause(ctx)
		cancel(unix.EMFILE)
		s := &net.Server{Handle: echoChunk}
		if err := s.Serve(short, l); !errors.Is(err, context.Canceled) || !errors.Is(err, unix.EMFILE) || errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestServerPanics has the handler panic, or end its task: that ends the connection, and no other.
func TestServerPanics(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		if ctx.Value(plainKey{}) != nil {
			return // a goroutine that panics ends the program
		}
		var ended atomic.Int32
		s := &net.Server{Handle: func(ctx context.Context, c *net.Conn, chunk driver.Chunk) error {
			switch string(chunk.Bytes()) {
			case "panic":
				chunk.Release()
				panic("on purpose")
			case "exit":
				chunk.Release()
				runtime.Goexit()
			}
			return echoChunk(ctx, c, chunk)
		}, Ended: func(_ *net.Conn, err error) {
			if err != nil && !errors.Is(err, net.ErrClosed) {
				ended.Add(1)
			}
		}}
		err := serveWhile(t, ctx, s, func(addr string) error {
			for _, what := range []string{"panic", "exit", "echo"} {
				c, err := dialStd(addr)
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = c.Write([]byte(what))
				n, end := c.Read(make([]byte, 10))
				if err != nil || what == "echo" && n != len(what) || what != "echo" && end != io.EOF {
					return fmt.Errorf("%s: %v, %d, %w", what, err, n, end)
				}
			}
			return nil
		})
		if n := ended.Load(); n != 2 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("%d connections ended with an error: %v", n, err)
		}
	})
}

// TestManyIdle has more idle connections than a few thousand, which the driver's table of operations must have room for: each is heard.
func TestManyIdle(t *testing.T) {
	const n = 3500
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < 2*n+200 {
		t.Skipf("no more than %d files may be open", limit.Cur)
	}
	if testing.Short() {
		t.Skip("some seconds")
	}
	for _, engine := range testenv.Engines(t) {
		if engine == driver.Portable {
			continue // its table is the same, and the time goes elsewhere
		}
		t.Run(engine.String(), func(t *testing.T) {
			run(t, executor.Workers(1), driver.Config{Engine: engine}, func(t *testing.T, ctx context.Context) {
				err := serveWhile(t, ctx, &net.Server{Handle: echoChunk}, func(addr string) error {
					var all []*stdnet.TCPConn
					for range n {
						c, err := dialStd(addr)
						if err != nil {
							return err
						}
						defer c.Close()
						all = append(all, c)
					}
					for i := range all { // the last first
						c := all[n-1-i]
						if _, err := c.Write([]byte{1}); err != nil {
							return err
						}
						if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
							return fmt.Errorf("connection %d: %w", n-1-i, err)
						}
					}
					return nil
				})
				if !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			})
		})
	}
}
