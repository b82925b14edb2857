package fs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/fs"
)

// TestOpenLeased opens files that somebody has a lease on: that waits for him, and then does all that was asked for.
func TestOpenLeased(t *testing.T) {
	dir := t.TempDir()
	n := 0
	each(t, func(t *testing.T, ctx context.Context) {
		for flag, want := range map[int]string{
			os.O_WRONLY:                          "content",
			os.O_WRONLY | os.O_TRUNC:             "",
			os.O_RDWR | os.O_CREATE | os.O_TRUNC: "",
		} {
			n++
			name := filepath.Join(dir, fmt.Sprint(n))
			l := newLease(t, name)
			opening := executor.Go(ctx, func(ctx context.Context) (*fs.File, error) { return fs.OpenFile(ctx, name, flag, 0o600) })
			l.asked(ctx)
			l.giveUp()
			f, err := opening.Join(ctx)
			if err != nil {
				t.Error(err)
				continue
			}
			if err := f.Close(ctx); err != nil {
				t.Error(err)
			}
			if got, err := os.ReadFile(name); string(got) != want || err != nil {
				t.Errorf("opened with flags %#x, the file has %q, want %q; %v", flag, got, want, err)
			}
		}
	})
}

// TestOpenLeasedCanceled ends its context while a lease is in the way: when that is given up at last, the file keeps what it has.
func TestOpenLeasedCanceled(t *testing.T) {
	dir := t.TempDir()
	n := 0
	each(t, func(t *testing.T, ctx context.Context) {
		n++
		name := filepath.Join(dir, fmt.Sprint(n))
		l := newLease(t, name)
		ending, cancel := context.WithCancel(ctx)
		defer cancel()
		opening := executor.Go(ctx, func(context.Context) (*fs.File, error) { return fs.OpenFile(ending, name, os.O_WRONLY|os.O_TRUNC, 0) })
		l.asked(ctx)
		cancel()
		if _, err := opening.Join(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("opened in spite of a lease: %v", err)
		}
		l.giveUp()
	})
	// All that was left behind has ended by now.
	for ; n > 0; n-- {
		if got, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(n))); string(got) != "content" || err != nil {
			t.Errorf("it was emptied later: %q, %v", got, err)
		}
	}
}

// lease is a lease on a file, fcntl(2), F_SETLEASE.
type lease struct {
	t *testing.T
	f *os.File
}

// newLease makes a file, and takes a lease on it that keeps others from opening it to write.
func newLease(t *testing.T, name string) lease {
	t.Helper()
	if err := os.WriteFile(name, []byte("content"), 0o600); err != nil {
		t.Error(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Error(err)
	}
	l := lease{t, f}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
		l.giveUp()
		t.Skipf("needs leases on files: %v", err)
	}
	return l
}

// asked waits for somebody to want to write.
func (l lease) asked(ctx context.Context) {
	l.t.Helper()
	for {
		switch held, err := unix.FcntlInt(l.f.Fd(), unix.F_GETLEASE, 0); {
		case err != nil:
			l.t.Error(err)
			return
		case held != unix.F_RDLCK:
			return
		}
		if err := executor.Sleep(ctx, time.Millisecond); err != nil {
			l.t.Error(err)
			return
		}
	}
}

// giveUp ends the lease.
func (l lease) giveUp() {
	l.t.Helper()
	if err := l.f.Close(); err != nil { // the last descriptor takes it along
		l.t.Error(err)
	}
}
