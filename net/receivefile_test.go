package net_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"uringo/executor"
	"uringo/fs"
	"uringo/net"
)

// What every kind of connection brings, of every size, to a place in a file, and behind the end of one.
func TestReceiveFile(t *testing.T) { // C14
	dir := t.TempDir()
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"tcp", "unix", "unixpacket"} {
			for _, size := range sizes {
				if network == "unixpacket" && size > 65537 {
					continue
				}
				for _, flag := range []int{0, os.O_APPEND} {
					if flag != 0 && network != "tcp" {
						continue
					}
					if err := receiveOnce(t, ctx, network, filepath.Join(dir, "file"), flag, size); err != nil {
						t.Errorf("%s, flags %#x, %d bytes: %v", network, flag, size, err)
					}
				}
			}
		}
	})
}

func receiveOnce(t *testing.T, ctx context.Context, network, name string, flag, size int) error {
	const there = "here already"
	if err := os.WriteFile(name, []byte(there), 0o600); err != nil {
		return err
	}
	f, err := fs.OpenFile(ctx, name, os.O_WRONLY|flag, 0)
	if err != nil {
		return err
	}
	defer f.Close(ctx)
	c, s := connect(t, ctx, network)
	if c == nil {
		return errors.New("not connected")
	}
	defer closeAll(t, ctx, c, s)
	want := noise(size)
	off, part := int64(5), int64(size/3)
	err = together(ctx, func(ctx context.Context) error {
		return writeAll(ctx, c, want)
	}, func(ctx context.Context) error {
		if n, err := s.ReceiveFile(ctx, f, off, part); n != part || err != nil {
			return fmt.Errorf("a part of %d: %d, %w", part, n, err)
		}
		if n, err := s.ReceiveFile(ctx, f, off+part, -1); n != int64(size)-part || err != nil {
			return fmt.Errorf("the rest: %d, %w", n, err)
		}
		if n, err := s.ReceiveFile(ctx, f, 0, 10); n != 0 || err != nil {
			return fmt.Errorf("after the end: %d, %w", n, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	expected := slices.Concat([]byte(there), want)
	if flag&os.O_APPEND == 0 {
		expected = slices.Concat([]byte(there[:off]), want)
		if len(expected) < len(there) {
			expected = append(expected, there[len(expected):]...)
		}
	}
	got, err := os.ReadFile(name)
	return same(got, expected, err)
}

// What cannot be written is received by the next who asks.
func TestReceiveFileEnds(t *testing.T) {
	dir := t.TempDir()
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		want := []byte("finds no place")
		if _, _, err := c.WriteAll(ctx, want); err != nil {
			t.Error(err)
		}
		name := filepath.Join(dir, "file")
		w, err := os.Create(name)
		if err != nil {
			t.Error(err)
			return
		}
		defer w.Close()
		r, err := os.Open(name) // not to be written to
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close()
		if n, err := s.ReceiveFile(ctx, r, 0, -1); n != 0 || !errors.Is(err, syscall.EBADF) {
			t.Errorf("a file open for reading: %d, %v", n, err)
		}
		if n, err := s.ReceiveFile(ctx, w, 1<<63-1, -1); n != 0 || err == nil {
			t.Errorf("an offset beyond all files: %d, %v", n, err)
		}
		if n, err := s.ReceiveFile(ctx, w, -1, -1); n != 0 || !errors.Is(err, syscall.EINVAL) {
			t.Errorf("a negative offset: %d, %v", n, err)
		}
		if n, err := s.ReceiveFile(canceled(ctx), w, 0, -1); n != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %d, %v", n, err)
		}
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		if n, err := s.ReceiveFile(ctx, null, 0, -1); n != 0 || err == nil {
			t.Errorf("a device: %d, %v", n, err)
		}
		null.Close()
		if n, err := s.ReceiveFile(ctx, null, 0, -1); n != 0 || err == nil {
			t.Errorf("a closed file: %d, %v", n, err)
		}

		for n := int64(0); n < int64(len(want)); { // on a busy machine the time may be over before all is there
			limit, cancel := context.WithTimeout(ctx, 150*time.Millisecond)
			k, err := s.ReceiveFile(limit, w, n, -1) // waits for more
			cancel()
			if n += k; n > int64(len(want)) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("until the deadline: %d, %v", n, err)
				break
			}
		}
		err = together(ctx, func(ctx context.Context) error {
			if n, err := s.ReceiveFile(ctx, w, 0, -1); n != 0 || !errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("closed meanwhile: %d, %v", n, err)
			}
			return nil
		}, func(ctx context.Context) error {
			if err := executor.Sleep(ctx, 20*time.Millisecond); err != nil {
				return err
			}
			return s.Close(ctx)
		})
		if err != nil {
			t.Error(err)
		}
		got, err := io.ReadAll(r)
		if err := same(got, want, err); err != nil {
			t.Error(err)
		}
	})
}
