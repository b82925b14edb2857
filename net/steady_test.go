package net_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

// mallocs counts the allocations of the process so far.
func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// TestReceivesDoesNotAllocate receives by multishot, and allocates nothing once that flows.
func TestReceivesDoesNotAllocate(t *testing.T) {
	testenv.CountsAllocs(t, raceEnabled)
	each(t, func(t *testing.T, ctx context.Context) {
		if d, err := driver.FromContext(ctx); err != nil || d.Engine() != driver.Uring {
			return // waiting for a descriptor costs the portable engine an allocation
		}
		defer debug.SetGCPercent(debug.SetGCPercent(-1)) // what empties pools
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		const warm, n = 500, 2000
		msg := make([]byte, 64)
		send := func() error {
			_, _, err := c.WriteAll(ctx, msg)
			return err
		}
		if err := send(); err != nil {
			t.Error(err)
		}
		var before uint64
		got := 0
		for chunk, err := range s.Receives(ctx, nil) {
			if err != nil {
				t.Error(err)
				break
			}
			chunk.Release()
			if got++; got == warm {
				before = mallocs()
			}
			if got == warm+n {
				break
			}
			if err := send(); err != nil {
				t.Error(err)
				break
			}
		}
		if each := float64(mallocs()-before) / n; got == warm+n && each > 0.02 {
			t.Errorf("%.2f allocations for each message", each)
		}
	})
}

// BenchmarkEcho64 sends 64 bytes to and fro on 16 connections, received with Read (one request for each receive), with Receives
// (multishot), and with Read by a connection in the ring's table.
func BenchmarkEcho64(b *testing.B) {
	ways := []struct {
		name  string
		serve func(ctx context.Context, c *net.Conn) error
	}{
		{"read", func(ctx context.Context, c *net.Conn) error {
			buf := make([]byte, 4096)
			for {
				n, _, err := c.Read(ctx, buf)
				if err == io.EOF {
					return nil
				}
				if err == nil {
					_, _, err = c.WriteAll(ctx, buf[:n])
				}
				if err != nil {
					return err
				}
			}
		}},
		{"receives", func(ctx context.Context, c *net.Conn) error {
			for chunk, err := range c.Receives(ctx, nil) {
				if err == nil {
					_, _, err = c.WriteAll(ctx, chunk.Bytes())
					chunk.Release()
				}
				if err != nil {
					return err
				}
			}
			return nil
		}},
		{"ring", func(ctx context.Context, c *net.Conn) error {
			r, err := c.IntoRing(ctx)
			if err != nil {
				return err
			}
			buf := make([]byte, 4096)
			for {
				n, _, err := r.Read(ctx, buf)
				if err == io.EOF {
					return r.Close(ctx)
				}
				if err == nil {
					_, _, err = r.WriteAll(ctx, buf[:n])
				}
				if err != nil {
					return err
				}
			}
		}},
	}
	const conns = 16
	for _, engine := range testenv.Engines(b) {
		for _, e := range executors() {
			for _, way := range ways {
				if fmt.Sprint(e) == "pool(8)" {
					continue // less than there are connections
				}
				b.Run(fmt.Sprintf("%v/%v/%s", engine, e, way.name), func(b *testing.B) {
					b.ReportAllocs()
					err := executor.Start(b.Context(), func(ctx context.Context) error {
						return echo(ctx, b, conns, way.serve)
					}, executor.WithExecutor(e), executor.WithDriver(driver.Config{Engine: engine}))
					if err != nil {
						b.Fatal(err)
					}
				})
			}
		}
	}
}

// echo has servers answer on connections, and shares b's rounds out among their clients.
func echo(ctx context.Context, b *testing.B, conns int, serve func(context.Context, *net.Conn) error) error {
	var fs []func(ctx context.Context) error
	for i := range conns {
		c, s, err := net.UnixPair(ctx)
		if err != nil {
			return err
		}
		rounds := b.N / conns
		if i < b.N%conns {
			rounds++
		}
		fs = append(fs, func(ctx context.Context) error {
			err := serve(ctx, s)
			if e := s.Close(ctx); !errors.Is(e, net.ErrClosed) { // serve may have moved it
				err = errors.Join(err, e)
			}
			return err
		}, func(ctx context.Context) error {
			buf := make([]byte, 64)
			for range rounds {
				if _, _, err := c.WriteAll(ctx, buf); err != nil {
					return err
				}
				if _, _, err := c.ReadFull(ctx, buf); err != nil {
					return err
				}
			}
			return c.Close(ctx)
		})
	}
	b.ResetTimer()
	before := processorTime(b)
	err := together(ctx, fs...)
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
	return err
}

// processorTime is what the process has used, which on a busy machine says more than the time that passed.
func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
