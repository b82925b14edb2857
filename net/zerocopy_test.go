package net_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"uringo/executor"
	"uringo/net"
)

// TestWriteZeroCopy sends from a buffer that is scribbled over as soon as it comes back, on every kind of connection.
func TestWriteZeroCopy(t *testing.T) { // HAZARDS T28
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"tcp", "unix", "pair"} {
			c, s := connect(t, ctx, network)
			if c == nil {
				return
			}
			const rounds, length = 8, 40_000
			var sent, received []byte
			err := together(ctx, func(ctx context.Context) error {
				buf := make([]byte, length)
				for i := range rounds {
					for j := range buf {
						buf[j] = byte(i + j>>4)
					}
					was := bytes.Clone(buf)
					n, back, copied, err := c.WriteZeroCopy(ctx, buf)
					if err != nil {
						return err
					}
					if n < 1 || &back[0] != &buf[0] {
						t.Errorf("%d bytes, or another buffer", n)
					}
					if !copied && network != "tcp" {
						t.Errorf("%s: not copied", network)
					}
					sent = append(sent, was[:n]...)
					clear(buf)
				}
				if n, _, _, err := c.WriteZeroCopy(ctx, nil); n != 0 || err != nil {
					t.Errorf("nothing: %d, %v", n, err)
				}
				return c.CloseWrite()
			}, func(ctx context.Context) error {
				buf := make([]byte, 1<<16)
				for {
					n, _, err := s.Read(ctx, buf)
					received = append(received, buf[:n]...)
					if err == io.EOF {
						return nil
					}
					if err != nil {
						return err
					}
				}
			})
			if err != nil || !bytes.Equal(sent, received) {
				t.Errorf("%s: %v, sent %d bytes, received %d", network, err, len(sent), len(received))
			}
			closeAll(t, ctx, c, s)
		}
	})
}

// TestWriteZeroCopyEnds fills a connection that nobody reads from. Sends end with their context once the kernel has let go of the memory,
// which it does when the peer reads, or goes; closing waits for neither.
func TestWriteZeroCopyEnds(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		buf := make([]byte, 1<<20)
		fill := func(ctx context.Context) error {
			for {
				if _, _, _, err := c.WriteZeroCopy(ctx, buf); err != nil {
					return err
				}
			}
		}
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		var during error
		err := together(ctx, func(ctx context.Context) error {
			during = fill(short)
			return c.CloseWrite()
		}, func(ctx context.Context) error {
			if err := executor.Sleep(ctx, 40*time.Millisecond); err != nil {
				return err
			}
			for chunk, err := range s.Receives(ctx, nil) {
				if err != nil {
					return err
				}
				chunk.Release()
			}
			return nil
		})
		if err != nil || !errors.Is(during, context.DeadlineExceeded) {
			t.Errorf("a context that ends: %v, %v", err, during)
		}
		closeAll(t, ctx, c, s)

		if c, s = connect(t, ctx, "tcp"); c == nil {
			return
		}
		err = together(ctx, func(ctx context.Context) error {
			during = fill(ctx)
			return nil
		}, func(ctx context.Context) error {
			if err := executor.Sleep(ctx, 20*time.Millisecond); err != nil {
				return err
			}
			if err := c.Close(ctx); err != nil {
				return err
			}
			return s.Close(ctx)
		})
		if err != nil || !errors.Is(during, net.ErrClosed) {
			t.Errorf("closed by another: %v, %v", err, during)
		}
		if _, _, _, err := c.WriteZeroCopy(ctx, buf); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}
