package fs_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
)

// Calls that wait are soon made elsewhere; calls that only take their time, or are kept from the processor by others, are not.
func TestPace(t *testing.T) {
	runtime.LockOSThread() // as tasks of Local are
	defer runtime.UnlockOSThread()
	const calls = 40
	wait := func() error {
		d := unix.NsecToTimespec(int64(time.Millisecond))
		return unix.Nanosleep(&d, nil)
	}
	work := func() error {
		for start := time.Now(); time.Since(start) < time.Millisecond; {
		}
		return nil
	}
	quick := func() error { return nil }
	if n := fs.Pace(context.Background(), calls, wait)[0]; n < calls/2 {
		t.Errorf("of %d calls that wait, %d were made elsewhere", calls, n)
	}
	// A collection may have the thread wait once. On one processor other goroutines may do so more often: then those were not calls that work.
	for attempt := 1; ; attempt++ {
		before := threadWaits(t)
		n := fs.Pace(context.Background(), calls, work)[0]
		if n > calls/2 && threadWaits(t) > before+1 && attempt < 20 {
			continue
		}
		if n > calls/2 {
			t.Errorf("of %d calls that work, %d were made elsewhere", calls, n)
		}
		break
	}
	if n := fs.Pace(context.Background(), calls, quick)[0]; n > 0 {
		t.Errorf("of %d quick calls, %d were made elsewhere", calls, n)
	}
	// In a row of calls that repeats itself, any may be the one that waits.
	for n := 2; n <= 8; n++ {
		for slow := range n {
			row := slices.Repeat([]func() error{quick}, n)
			row[slow] = wait
			if n := fs.Pace(context.Background(), calls, row...)[slow]; n < calls/4 {
				t.Errorf("of %d calls that wait, number %d in a row of %d, %d were made elsewhere", calls, slow, len(row), n)
			}
		}
	}
}

// threadWaits returns how often the calling thread has waited so far.
func threadWaits(t *testing.T) int64 {
	t.Helper()
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &use); err != nil {
		t.Fatal(err)
	}
	return int64(use.Nvcsw)
}

// Calls on names that take another route because they are slow do take another.
func TestPaceOfNames(t *testing.T) {
	const calls = 20
	each(t, func(t *testing.T, ctx context.Context) {
		if executor.CallerOf(ctx).MayBlock() {
			return // who holds up nobody
		}
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		name := filepath.Join(t.TempDir(), "file")
		var files []*fs.File
		for _, kind := range []struct {
			op   fs.Operation
			call func(i int) error
		}{
			{fs.OpCreate, func(i int) error {
				f, err := fs.Create(ctx, fmt.Sprint(name, i))
				files = append(files, f)
				return err
			}},
			{fs.OpStat, func(i int) error { _, err := fs.Stat(ctx, fmt.Sprint(name, i)); return err }},
			{fs.OpClose, func(i int) error { return files[i].Close(ctx) }},
			{fs.OpRemove, func(i int) error { return fs.Remove(ctx, fmt.Sprint(name, i)) }},
		} {
			before := d.Stats().Routes["direct"]
			fs.Slow(kind.op, calls)
			for i := range calls {
				if err := kind.call(i); err != nil {
					t.Errorf("operation %d: %v", kind.op, err)
					return
				}
			}
			if n := d.Stats().Routes["direct"] - before; n > 0 {
				t.Errorf("operation %d: %d of %d calls were made in place", kind.op, n, calls)
			}
		}
	})
}
