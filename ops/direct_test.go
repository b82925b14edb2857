package ops

import (
	"math"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A plain call does not take a place in the ring's table for a descriptor.
func TestRunOnTheTable(t *testing.T) {
	const stdin = 0 // which the entry of a CloseDirect names
	_, before := unix.FcntlInt(stdin, unix.F_GETFD, 0)
	zero, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(zero)
	read := Op[struct{}]{Spec: ReadAt(zero, make([]byte, 8), 0).Spec}
	read.Flags |= Direct
	for _, o := range []Op[struct{}]{
		read,
		OpenDirect(unix.AT_FDCWD, "/dev/null", unix.O_RDONLY, 0),
		SocketDirect(unix.AF_INET, unix.SOCK_STREAM, 0),
		AcceptDirect(-1, 0, nil),
		PutDirect(stdin),
		InstallDirect(stdin),
		CloseDirect(9),
	} {
		if r := Run(&o); r.Err != syscall.ENXIO {
			t.Errorf("%s: %d, %v", o.Kind.Name, r.N, r.Err)
		}
	}
	if _, after := unix.FcntlInt(stdin, unix.F_GETFD, 0); after != before {
		t.Errorf("standard input: before %v, after %v", before, after)
	}
}

// A file is not opened into what is no place, nor into another: the kernel would choose one for -1, and has no more than 32 bits.
func TestOpenDirectAtNoPlace(t *testing.T) {
	for _, place := range []int{-1, -2, math.MaxInt32, math.MinInt, math.MaxInt} {
		o := OpenDirectAt(place, unix.AT_FDCWD, "/dev/null", unix.O_RDONLY, 0)
		if err := o.Invalid(); err != syscall.EBADF {
			t.Errorf("%d: %v", place, err)
		}
	}
	if o := OpenDirectAt(0, unix.AT_FDCWD, "/dev/null", unix.O_RDONLY, 0); o.Invalid() != nil {
		t.Error(o.Invalid())
	}
}

// What is no place is not closed: not the standard input either, which is what the kernel makes of the entry for place -1.
func TestCloseDirectOfNoPlace(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		_, before := unix.FcntlInt(0, unix.F_GETFD, 0)
		for _, place := range []int{-1, -2, math.MaxInt32, math.MinInt} {
			o := CloseDirect(place)
			if r := do(e, o); r.Err != syscall.EBADF {
				t.Errorf("%d: %v", place, r.Err)
			}
		}
		if _, after := unix.FcntlInt(0, unix.F_GETFD, 0); after != before {
			t.Errorf("standard input: before %v, after %v", before, after)
		}
	})
}
