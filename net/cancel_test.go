package net_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/net"
)

// TestCancelRead ends reads while the peer writes: what arrives is delivered, by that read or the next.
func TestCancelRead(t *testing.T) { // N1, M6, M7, C20
	each(t, func(t *testing.T, ctx context.Context) {
		rounds := share(t, 300, 200_000) // of which about every second is cancelled
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		err := together(ctx, func(ctx context.Context) error {
			for i := range rounds {
				if _, _, err := c.WriteAll(ctx, []byte{byte(i)}); err != nil {
					return err
				}
				if i%3 == 0 {
					if err := executor.Sleep(ctx, time.Duration(i%5)*100*time.Microsecond); err != nil {
						return err
					}
				}
			}
			return c.CloseWrite()
		}, func(ctx context.Context) error {
			next, ended := 0, 0
			for {
				short, cancel := context.WithTimeout(ctx, time.Duration(ended%7)*50*time.Microsecond)
				n, buf, err := s.Read(short, make([]byte, 3))
				cancel()
				for _, b := range buf[:n] {
					if b != byte(next) {
						return fmt.Errorf("got byte %d instead of %d", b, byte(next))
					}
					next++
				}
				switch {
				case err == nil:
				case errors.Is(err, os.ErrDeadlineExceeded) && errors.Is(err, context.DeadlineExceeded) && n == 0:
					ended++
				case err == io.EOF && next == rounds:
					t.Logf("%d reads were cancelled, %d bytes received", ended, next)
					return nil
				default:
					return fmt.Errorf("after %d bytes: %d, %w", next, n, err)
				}
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestCloseWakes closes what others wait on.
func TestCloseWakes(t *testing.T) { // N14
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		var waiting atomic.Int32
		want := func(what string, f func(ctx context.Context) error) func(context.Context) error {
			return func(ctx context.Context) error {
				waiting.Add(1)
				err := f(ctx)
				var op *net.OpError
				if !errors.Is(err, net.ErrClosed) || !errors.As(err, &op) {
					return fmt.Errorf("%s: %w", what, err)
				}
				return nil
			}
		}
		err := together(ctx,
			want("Read", func(ctx context.Context) error { _, _, err := s.Read(ctx, make([]byte, 1)); return err }),
			want("ReadFull", func(ctx context.Context) error { _, _, err := s.ReadFull(ctx, make([]byte, 1)); return err }),
			want("WriteAll", func(ctx context.Context) error { _, _, err := s.WriteAll(ctx, make([]byte, 16<<20)); return err }),
			want("WriteAll in its turn", func(ctx context.Context) error { _, _, err := s.WriteAll(ctx, make([]byte, 16<<20)); return err }),
			want("Accept", func(ctx context.Context) error { _, err := l.Accept(ctx); return err }),
			func(ctx context.Context) error {
				for waiting.Load() < 5 {
					if err := executor.Sleep(ctx, time.Millisecond); err != nil {
						return err
					}
				}
				if err := executor.Sleep(ctx, 5*time.Millisecond); err != nil {
					return err
				}
				return errors.Join(s.Close(ctx), l.Close(ctx))
			})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestCancelAccept ends an Accept, and sees that connections are neither lost nor left over.
func TestCancelAccept(t *testing.T) { // M8, M9
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		defer l.Close(ctx)
		short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		if _, err := l.Accept(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Accept: %v", err)
		}
		for i := range 20 {
			var s *net.Conn
			c, err := net.Dial(ctx, "tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			for tries := 0; s == nil; tries++ {
				short, cancel := context.WithTimeout(ctx, time.Duration(i+tries)*10*time.Microsecond)
				s, err = l.Accept(short)
				cancel()
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
					return
				}
			}
			if s.RemoteAddr().String() != c.LocalAddr().String() {
				t.Errorf("accepted %v, dialed from %v", s.RemoteAddr(), c.LocalAddr())
			}
			closeAll(t, ctx, c, s)
		}
	})
}

// TestCancelDial ends a Dial that would wait for ever: the queue of the listener is full.
func TestCancelDial(t *testing.T) { // M4, G7
	each(t, func(t *testing.T, ctx context.Context) {
		lc := net.ListenConfig{Backlog: 1}
		l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close(ctx)
		var full []*net.Conn
		defer func() { closeAll(t, ctx, full...) }()
		for {
			short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			c, err := net.Dial(short, "tcp4", l.Addr().String())
			cancel()
			queue, infoErr := unix.GetsockoptTCPInfo(int(l.Fd()), unix.IPPROTO_TCP, unix.TCP_INFO)
			if infoErr != nil {
				t.Error(infoErr)
				return
			}
			if full := queue.Unacked > queue.Sacked; !full && errors.Is(err, os.ErrDeadlineExceeded) {
				continue // it ended for want of time, which was the machine's fault
			}
			if err == nil {
				if full = append(full, c); len(full) > 10 {
					t.Error("the queue does not fill up")
					return
				}
				continue
			}
			var op *net.OpError
			if !errors.As(err, &op) || op.Op != "dial" || !op.Timeout() || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Dial: %v", err)
			}
			break
		}
		d := net.Dialer{Timeout: 10 * time.Millisecond}
		if _, err := d.Dial(ctx, "tcp4", l.Addr().String()); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Dial with a timeout: %v", err)
		}
		d.Timeout = -1
		if _, err := d.Dial(ctx, "tcp4", l.Addr().String()); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Dial with a timeout that is over: %v", err)
		}
		over, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := net.Dial(over, "tcp4", l.Addr().String()); !errors.Is(err, context.Canceled) {
			t.Errorf("Dial with a context that has ended: %v", err)
		}
	})
}
