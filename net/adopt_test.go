package net_test

import (
	"context"
	"errors"
	"fmt"
	stdnet "net"
	"testing"
	"time"

	"uringo/executor"
	"uringo/net"
)

func TestAdopt(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		std, err := stdnet.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return
		}
		l, err := net.FromNetListener(ctx, std)
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close(ctx)
		dialed, err := executor.Block(ctx, func() (stdnet.Conn, error) { return stdnet.Dial("tcp", l.Addr().String()) })
		if err != nil {
			t.Error(err)
			return
		}
		c, err := net.FromNet(ctx, dialed)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := dialed.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the connection of the standard library: %v", err)
		}
		s, err := l.Accept(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		defer closeAll(t, ctx, s)
		if s.RemoteAddr().String() != c.LocalAddr().String() {
			t.Errorf("accepted from %v, adopted %v", s.RemoteAddr(), c.LocalAddr())
		}
		// The second read of an adopted socket must wait like the first.
		err = together(ctx, func(ctx context.Context) error {
			for range 2 {
				if n, _, err := c.Read(ctx, make([]byte, 1)); n != 1 || err != nil {
					return fmt.Errorf("Read = %d, %w", n, err)
				}
			}
			return nil
		}, func(ctx context.Context) error {
			for range 2 {
				if err := executor.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
				if _, _, err := s.Write(ctx, []byte{1}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err) // C27
		}
		fd, err := c.Detach(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		if err := c.Close(ctx); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Close after Detach: %v", err)
		}
		again, err := net.NewConn(ctx, fd)
		if err != nil {
			t.Error(err)
			return
		}
		f, err := again.File()
		if err != nil {
			t.Error(err)
			return
		}
		closeAll(t, ctx, again)
		if _, err := f.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		f.Close()
		if n, buf, err := s.Read(ctx, make([]byte, 10)); string(buf[:n]) != "x" || err != nil {
			t.Errorf("Read = %d, %v", n, err)
		}
		if _, err := net.NewConn(ctx, int(l.Fd())); err == nil {
			t.Error("a listener was taken for a connection")
		}
	})
}
