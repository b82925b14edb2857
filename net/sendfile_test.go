package net_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/net"
)

// Files of every size and kind, from any offset, to sockets of every kind.
func TestSendFile(t *testing.T) { // C14
	dir := t.TempDir()
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"tcp", "unix"} {
			for _, size := range sizes {
				if err := sendOnce(t, ctx, network, dir, size); err != nil {
					t.Errorf("%s, %d bytes: %v", network, size, err)
				}
			}
		}
	})
}

func sendOnce(t *testing.T, ctx context.Context, network, dir string, size int) error {
	name := filepath.Join(dir, fmt.Sprint(size))
	want := noise(size)
	if err := os.WriteFile(name, want, 0o600); err != nil {
		return err
	}
	ours, err := fs.Open(ctx, name)
	if err != nil {
		return err
	}
	defer ours.Close(ctx)
	if err := ours.SyncAll(ctx); err == nil && size > 1<<20 {
		_ = ours.Fadvise(ctx, 0, 0, unix.FADV_DONTNEED) // the ring has something to fetch
	}
	theirs, err := os.Open(name)
	if err != nil {
		return err
	}
	defer theirs.Close()
	c, s := connect(t, ctx, network)
	if c == nil {
		return errors.New("not connected")
	}
	defer closeAll(t, ctx, c, s)
	off := int64(size / 3)
	part := int64(size / 5)
	return together(ctx, func(ctx context.Context) error {
		if n, err := c.SendFile(ctx, ours, off, -1); n != int64(size)-off || err != nil {
			return fmt.Errorf("from %d: %d, %w", off, n, err)
		}
		if n, err := c.SendFile(ctx, theirs, 0, part); n != part || err != nil {
			return fmt.Errorf("%d bytes: %d, %w", part, n, err)
		}
		if n, err := c.SendFile(ctx, ours, int64(size)-part, part+100); n != part || err != nil {
			return fmt.Errorf("past the end: %d, %w", n, err)
		}
		return c.CloseWrite()
	}, func(ctx context.Context) error {
		got, err := readAll(ctx, s)
		return same(got, bytes.Join([][]byte{want[off:], want[:part], want[int64(size)-part:]}, nil), err)
	})
}

// TestSendFileHole sends a file of which the page cache lacks something in the middle: the ring fetches that, and no thread waits for it.
func TestSendFileHole(t *testing.T) {
	for _, e := range executors() {
		t.Run(e.String(), func(t *testing.T) {
			if testenv.Engines(t)[0] != driver.Uring {
				t.Skip("needs io_uring")
			}
			var splices atomic.Int64
			watch := ring.FaultConfig{Match: func(e *ring.SQE) bool {
				if e.Op == ring.OpSplice {
					splices.Add(1)
				}
				return false
			}}
			cfg := driver.OnKernel(driver.Config{Engine: driver.Uring}, ring.NewFaults(ring.Linux(), 1, watch))
			run(t, e, cfg, func(t *testing.T, ctx context.Context) { sendHole(t, ctx, &splices) })
		})
	}
}

func sendHole(t *testing.T, ctx context.Context, splices *atomic.Int64) {
	const size = 2 << 20
	want := noise(size)
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, want, 0o600); err != nil {
		t.Error(err)
		return
	}
	f, err := fs.Open(ctx, name)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close(ctx)
	if err := f.SyncAll(ctx); err != nil {
		t.Error(err)
	}
	whole := func() bool {
		var st unix.Cachestat_t
		err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Len: size}, &st, 0)
		return err != nil || st.Cache >= uint64(size/os.Getpagesize())
	}
	for _, hole := range []bool{false, true} {
		if hole {
			// Or it were believed for a while that nothing has gone.
			net.ForgetResidents()
			err := errors.Join(f.Fadvise(ctx, 0, 0, unix.FADV_DONTNEED), f.Fadvise(ctx, 0, 0, unix.FADV_RANDOM)) // which has nothing read ahead
			page := make([]byte, os.Getpagesize())
			for off := 0; off < size && err == nil; off += len(page) {
				if off < 600<<10 || off >= 700<<10 {
					_, _, err = f.ReadAt(ctx, page, int64(off))
				}
			}
			if err != nil {
				t.Error(err)
			}
			if whole() {
				t.Log("needs cachestat(2) (6.5), and a file system that forgets")
				return
			}
		}
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		before := splices.Load()
		err := together(ctx, func(ctx context.Context) error {
			if n, err := c.SendFile(ctx, f, 0, -1); n != size || err != nil {
				return fmt.Errorf("%d, %w", n, err)
			}
			return c.CloseWrite()
		}, func(ctx context.Context) error {
			got, err := readAll(ctx, s)
			return same(got, want, err)
		})
		if err != nil {
			t.Error(err)
		}
		closeAll(t, ctx, c, s)
		if n := splices.Load() - before; (n > 0) != hole && (hole || whole()) { // unless somebody emptied the cache
			t.Errorf("with a hole: %v; %d splices", hole, n)
		}
	}
}

// What is no regular file, or makes its content up as it is read, is read and written.
func TestSendFileByHand(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		f, err := os.Open("/proc/self/limits")
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		want, err := os.ReadFile(f.Name())
		if err != nil {
			t.Error(err)
			return
		}
		err = together(ctx, func(ctx context.Context) error {
			n, err := c.SendFile(ctx, f, 0, -1)
			if n != int64(len(want)) || err != nil {
				return fmt.Errorf("%d of %d, %w", n, len(want), err)
			}
			return c.CloseWrite()
		}, func(ctx context.Context) error {
			got, err := readAll(ctx, s)
			return same(got, want, err)
		})
		if err != nil {
			t.Error(err)
		}
		dir, err := os.Open(os.TempDir())
		if err != nil {
			t.Error(err)
			return
		}
		defer dir.Close()
		if n, err := s.SendFile(ctx, dir, 0, -1); n != 0 || err == nil {
			t.Errorf("a directory: %d, %v", n, err)
		}
		if n, err := s.SendFile(ctx, f, -1, -1); n != 0 || err == nil {
			t.Errorf("a negative offset: %d, %v", n, err)
		}
		f.Close()
		if n, err := s.SendFile(ctx, f, 0, -1); n != 0 || err == nil {
			t.Errorf("a closed file: %d, %v", n, err)
		}
	})
}

// TestSendFileStreams sends what has a descriptor and no positions: it is read as it comes, whatever the offset.
func TestSendFileStreams(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, from := range []string{"a pipe", "a connection", "the standard library's"} {
			for _, off := range []int64{0, 3} {
				if err := sendStream(t, ctx, from, off); err != nil {
					t.Errorf("%s, from %d: %v", from, off, err)
				}
			}
		}
	})
}

func sendStream(t *testing.T, ctx context.Context, from string, off int64) error {
	c, s := connect(t, ctx, "tcp")
	if c == nil {
		return errors.New("not connected")
	}
	defer closeAll(t, ctx, c, s)
	var src syscall.Conn
	var feed io.WriteCloser
	switch from {
	case "a pipe":
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer r.Close()
		src, feed = r, w
	case "a connection":
		a, b := connect(t, ctx, "pair")
		if a == nil {
			return errors.New("not connected")
		}
		defer closeAll(t, ctx, a, b)
		src, feed = b, a.NetConn()
	default:
		a, b := theirs(t, ctx, "tcp")
		if a == nil {
			return errors.New("not connected")
		}
		defer b.Close()
		src, feed = b.(syscall.Conn), a
	}
	defer feed.Close()
	want := noise(30_000) // for which there is room everywhere: the standard library would have a worker wait
	return together(ctx, func(ctx context.Context) error {
		defer c.CloseWrite() // the peer waits for it, whatever happens
		if _, err := feed.Write(want[:10]); err != nil {
			return err
		}
		if n, err := c.SendFile(ctx, src, off, 4); n != 4 || err != nil {
			return fmt.Errorf("4 bytes: %d, %w", n, err)
		}
		if n, err := c.SendFile(ctx, src, off, 6); n != 6 || err != nil {
			return fmt.Errorf("6 bytes: %d, %w", n, err)
		}
		rest := want[10:]
		return together(ctx, func(ctx context.Context) error {
			for len(rest) > 0 {
				n, err := feed.Write(rest[:min(len(rest), 1000)])
				if err != nil {
					return err
				}
				rest = rest[n:]
				if err := executor.Yield(ctx); err != nil {
					return err
				}
			}
			return feed.Close()
		}, func(ctx context.Context) error {
			if n, err := c.SendFile(ctx, src, off, -1); n != int64(len(want)-10) || err != nil {
				return fmt.Errorf("to the end: %d, %w", n, err)
			}
			return nil
		})
	}, func(ctx context.Context) error {
		got, err := readAll(ctx, s)
		return same(got, want, err)
	})
}

// A reader that stalls holds its sender up until the context ends, and nobody else.
func TestSendFileCancelled(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, noise(8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, ctx context.Context) {
		f, err := fs.Open(ctx, name)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close(ctx)
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		var n int64
		for range 20 { // a busy machine may leave no time to send any of it
			limit, cancel := context.WithTimeout(ctx, 150*time.Millisecond)
			n, err = c.SendFile(limit, f, 0, -1)
			cancel()
			if n > 0 || !errors.Is(err, context.DeadlineExceeded) {
				break
			}
		}
		if n == 0 || n == 8<<20 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%d, %v", n, err)
		}
		// What arrives is what was counted.
		err = together(ctx, func(ctx context.Context) error {
			return c.CloseWrite()
		}, func(ctx context.Context) error {
			got, err := readAll(ctx, s)
			if int64(len(got)) != n {
				err = errors.Join(err, fmt.Errorf("%d arrived", len(got)))
			}
			return err
		})
		if err != nil {
			t.Errorf("of %d bytes sent: %v", n, err)
		}
	})
}
