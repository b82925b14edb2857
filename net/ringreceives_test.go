package net_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/net"
)

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
