package fs_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
	if n := fs.Pace(context.Background(), calls, wait); n < calls/2 {
		t.Errorf("of %d calls that wait, %d were made elsewhere", calls, n)
	}
	// A collection may have the thread wait once.
	if n := fs.Pace(context.Background(), calls, work); n > calls/2 {
		t.Errorf("of %d calls that work, %d were made elsewhere", calls, n)
	}
	if n := fs.Pace(context.Background(), calls, quick); n > 0 {
		t.Errorf("of %d quick calls, %d were made elsewhere", calls, n)
	}
}
