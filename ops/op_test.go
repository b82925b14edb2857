package ops

import (
	"errors"
	"math"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFinish(t *testing.T) {
	read, write := ReadAt(0, make([]byte, 10), 0), WriteAt(0, make([]byte, 10), 0)
	vec := ReadvAt(0, [][]byte{make([]byte, 4), make([]byte, 6)}, 0)
	open, timeout, poll := Openat(-1, "x", 0, 0), Timeout(0), PollAdd(0, unix.POLLIN)
	splice, size := Splice(0, 0, 0, 0, 10, 0), Getxattr("x", "y", nil)
	value := Getxattr("x", "y", make([]byte, 10))
	for _, c := range []struct {
		name string
		spec *Spec
		res  int32
		n    int
		err  error
	}{
		{"part", &read.Spec, 3, 3, nil},
		{"end of file", &read.Spec, 0, 0, nil},
		{"all", &read.Spec, 10, 10, nil},
		{"more than all", &read.Spec, 11, 0, ErrBadResult},
		{"more than all", &write.Spec, math.MaxInt32, 0, ErrBadResult},
		{"all", &vec.Spec, 10, 10, nil},
		{"more than all", &vec.Spec, 11, 0, ErrBadResult},
		{"more than all", &splice.Spec, 11, 0, ErrBadResult},
		{"more than all", &value.Spec, 11, 0, ErrBadResult},
		{"a size", &size.Spec, 11, 11, nil},
		{"a descriptor", &open.Spec, 1000, 1000, nil},
		{"events", &poll.Spec, unix.POLLHUP, unix.POLLHUP, nil},
		{"time is up", &timeout.Spec, -int32(unix.ETIME), 0, nil},
		{"ETIME of something else", &read.Spec, -int32(unix.ETIME), 0, unix.ETIME},
		{"interrupted", &read.Spec, -4, 0, syscall.EINTR},
		{"bad descriptor", &read.Spec, -9, 0, syscall.EBADF},
		{"ERESTARTSYS", &open.Spec, -512, 0, syscall.EINTR},
		{"ERESTARTNOINTR", &open.Spec, -513, 0, syscall.EINTR},
		{"ERESTARTNOHAND", &open.Spec, -514, 0, syscall.EINTR},
		{"ERESTART_RESTARTBLOCK", &open.Spec, -516, 0, syscall.EINTR},
		{"ERECALLCONFLICT", &open.Spec, -530, 0, syscall.EINTR},
		{"last errno", &read.Spec, -4095, 0, syscall.Errno(4095)},
		{"no errno", &read.Spec, -4096, 0, ErrBadResult},
		{"no errno", &read.Spec, math.MinInt32, 0, ErrBadResult},
		{"no errno", &timeout.Spec, math.MinInt32, 0, ErrBadResult},
	} {
		n, err := c.spec.Finish(c.res)
		if n != c.n || err != c.err && !errors.Is(err, c.err) {
			t.Errorf("%s: %s %d: %d, %v; want %d, %v", c.name, c.spec.Kind.Name, c.res, n, err, c.n, c.err)
		}
	}
}

// Any answer that the kernel could give comes through the kernel as it is, and is understood.
func TestOddResults(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		for _, res := range []int32{0, 1, 5, math.MaxInt32, -1, -4, -11, -125, -512, -513, -514, -516, -530, -4095, -4096, math.MinInt32} {
			op := NopResult(res)
			got := e.await(e.start(&op.Spec))
			if got == 0 && res != 0 && !e.portable {
				t.Skip("needs injected results (Linux 6.10)")
			}
			if got != res {
				t.Errorf("asked for %d, got %d", res, got)
			}
			if n, err := op.Finish(got); (res >= 0) != (err == nil) || n != int(max(0, res)) {
				t.Errorf("%d: %d, %v", res, n, err)
			}
		}
		must(e, Nop())
	})
}

func TestInterrupted(t *testing.T) {
	for _, res := range []int32{-4, -512, -513, -514, -516, -530} {
		if !Interrupted(res) {
			t.Error(res)
		}
	}
	for _, res := range []int32{0, 4, -1, -11, -125, -511, -517, -4095, math.MinInt32} {
		if Interrupted(res) {
			t.Error(res)
		}
	}
}
