package net_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"uringo/executor"
	"uringo/net"
)

// unready calls f with a context that ends soon, and sees that f ends with it.
func unready(ctx context.Context, what string, f func(ctx context.Context) error) error {
	return unreadyFor(ctx, 3*time.Millisecond, what, f)
}

func unreadyFor(ctx context.Context, d time.Duration, what string, f func(ctx context.Context) error) error {
	short, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if err := f(short); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%s: %v instead of a timeout", what, err)
	}
	return nil
}

// TestReadable asks listeners and connections whether there is something, before, while and after there is.
func TestReadable(t *testing.T) { // M11, C26
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"tcp", "unix", "unixpacket"} {
			if err := readable(t, ctx, network); err != nil {
				t.Errorf("%s: %v", network, err)
			}
		}
	})
}

func readable(t *testing.T, ctx context.Context, network string) error {
	l := listenOn(t, ctx, network)
	if l == nil {
		return nil
	}
	defer l.Close(ctx)
	if err := unready(ctx, "idle listener", l.Readable); err != nil {
		return err
	}
	var c *net.Conn
	err := together(ctx, func(ctx context.Context) error {
		return l.Readable(ctx) // before or after the dial
	}, func(ctx context.Context) (err error) {
		if err = executor.Sleep(ctx, time.Millisecond); err == nil {
			c, err = net.Dial(ctx, network, l.Addr().String())
		}
		return err
	})
	if err != nil {
		return err
	}
	defer closeAll(t, ctx, c)
	if err := l.Readable(ctx); err != nil { // it took nothing
		return err
	}
	s, err := l.Accept(ctx)
	if err != nil {
		return err
	}
	defer closeAll(t, ctx, s)
	if err := unready(ctx, "listener after Accept", l.Readable); err != nil {
		return err
	}

	if err := unready(ctx, "idle connection", s.Readable); err != nil {
		return err
	}
	if err := s.Writable(ctx); err != nil {
		return err
	}
	err = together(ctx, s.Readable, func(ctx context.Context) error {
		if err := executor.Sleep(ctx, time.Millisecond); err != nil {
			return err
		}
		_, _, err := c.WriteAll(ctx, []byte("ab"))
		return err
	})
	if err != nil {
		return err
	}
	for chunk, err := range s.Receives(ctx, nil) { // leaves what the listener of the ring has received and the body not taken
		if err != nil {
			return err
		}
		chunk.Release()
		if err := s.Readable(ctx); err == nil {
			return errors.New("readable in an iteration")
		}
		break
	}
	if err := unready(ctx, "after the bytes were received", s.Readable); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	for range 2 {
		if err := s.Readable(ctx); err != nil {
			return fmt.Errorf("at the end: %w", err)
		}
		if n, _, err := s.Read(ctx, make([]byte, 1)); n != 0 || err != io.EOF {
			return fmt.Errorf("at the end: Read = %d, %w", n, err)
		}
	}
	return nil
}

// TestReadableLeftovers ends an iteration with bytes that its body did not take, and asks for those.
func TestReadableLeftovers(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "unixpacket")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		for range 10 {
			if _, _, err := c.Write(ctx, []byte("packet")); err != nil {
				t.Error(err)
			}
		}
		for chunk, err := range s.Receives(ctx, nil) {
			if err != nil {
				t.Error(err)
				return
			}
			chunk.Release()
			if err := executor.Sleep(ctx, time.Millisecond); err != nil { // the others come as well
				t.Error(err)
			}
			break
		}
		for range 9 {
			if err := s.Readable(ctx); err != nil {
				t.Error(err)
			}
			if n, _, err := s.Read(ctx, make([]byte, 10)); n != 6 || err != nil {
				t.Errorf("Read = %d, %v", n, err)
			}
		}
		if err := unready(ctx, "after the last", s.Readable); err != nil {
			t.Error(err)
		}
	})
}

// TestWritable fills a connection: it is writable again when the peer has read, whatever there is to be read.
func TestWritable(t *testing.T) { // C26
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"tcp", "unix"} {
			c, s := connect(t, ctx, network)
			if c == nil {
				return
			}
			if _, _, err := s.WriteAll(ctx, []byte("x")); err != nil {
				t.Error(err)
			}
			if err := c.Readable(ctx); err != nil {
				t.Error(err)
			}
			total := 0
			fill := func() {
				for b := make([]byte, 1<<16); ; {
					short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
					n, _, err := c.Write(short, b)
					cancel()
					if total += n; err != nil {
						return
					}
				}
			}
			fill()
			for tries := 0; ; tries++ {
				// On a busy machine it takes a while to hear of room, and what comes later builds on there being none.
				err := unreadyFor(ctx, 60*time.Millisecond, "full", c.Writable)
				if err == nil {
					break
				}
				if tries == 50 { // the kernel may find room after all, by making its buffers larger
					t.Errorf("%s: %v", network, err)
					break
				}
				fill()
			}
			if err := c.Readable(ctx); err != nil { // one is not the other
				t.Error(err)
			}
			if err := s.CloseWrite(); err != nil {
				t.Error(err)
			}
			if err := unready(ctx, "full, and the peer sends no more", c.Writable); err != nil {
				t.Errorf("%s: %v", network, err)
			}
			err := together(ctx, c.Writable, func(ctx context.Context) error {
				n, _, err := s.ReadFull(ctx, make([]byte, total))
				if n != total {
					err = errors.Join(err, fmt.Errorf("received %d of %d", n, total))
				}
				return err
			})
			if err != nil {
				t.Errorf("%s: %v", network, err)
			}
			// A broken connection is ready for everything: there are errors to be told.
			closeAll(t, ctx, s)
			for range 2 {
				if err := errors.Join(c.Readable(ctx), c.Writable(ctx)); err != nil {
					t.Errorf("%s: the peer is gone: %v", network, err)
				}
			}
			closeAll(t, ctx, c)
			if err := c.Writable(ctx); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: closed: %v", network, err)
			}
		}
	})
}

// TestReadableEnds closes what others wait on, and adopts what is no socket.
func TestReadableEnds(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		l := listenOn(t, ctx, "tcp")
		p := listenPacket(t, ctx, "udp")
		if c == nil || l == nil || p == nil {
			return
		}
		defer closeAll(t, ctx, s)
		var fs []func(ctx context.Context) error
		for _, wait := range []func(ctx context.Context) error{c.Readable, l.Readable, p.Readable} {
			fs = append(fs, func(ctx context.Context) error {
				var op *net.OpError
				if err := wait(ctx); !errors.Is(err, net.ErrClosed) || !errors.As(err, &op) {
					return fmt.Errorf("%v", err)
				}
				return nil
			})
		}
		fs = append(fs, func(ctx context.Context) error {
			if err := executor.Sleep(ctx, 2*time.Millisecond); err != nil {
				return err
			}
			return errors.Join(c.Close(ctx), l.Close(ctx), p.Close(ctx))
		})
		if err := together(ctx, fs...); err != nil {
			t.Error(err)
		}

		f, err := os.Open(os.Args[0])
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		if _, err := net.NewConn(ctx, int(f.Fd())); !errors.Is(err, syscall.ENOTSOCK) {
			t.Errorf("a file as a connection: %v", err)
		}
	})
}

// TestReadablePacket waits for a datagram in two ways.
func TestReadablePacket(t *testing.T) { // M16
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"udp", "unixgram"} {
			a, b := listenPacket(t, ctx, network), listenPacket(t, ctx, network)
			if a == nil || b == nil {
				return
			}
			if err := errors.Join(unready(ctx, "idle socket", b.Readable), b.Writable(ctx)); err != nil {
				t.Errorf("%s: %v", network, err)
			}
			err := together(ctx, b.Readable, func(ctx context.Context) error {
				if err := executor.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
				_, _, err := a.SendTo(ctx, nil, b.LocalAddr()) // an empty one is one, too
				return err
			})
			if err != nil {
				t.Errorf("%s: %v", network, err)
			}
			if n, _, _, err := b.RecvFrom(ctx, make([]byte, 1)); n != 0 || err != nil {
				t.Errorf("%s: RecvFrom = %d, %v", network, n, err)
			}
			if err := errors.Join(a.Close(ctx), b.Close(ctx)); err != nil {
				t.Error(err)
			}
		}
	})
}
