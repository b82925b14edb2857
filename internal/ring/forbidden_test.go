package ring_test

import (
	"errors"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

// A system that lets rings be set up, but not entered, has none to offer.
func TestForbiddenEnter(t *testing.T) {
	if r, err := ring.Open(ring.Config{}); err != nil {
		t.Skip(err)
	} else if err := r.Close(); err != nil {
		t.Error(err)
	}
	for _, errno := range []syscall.Errno{syscall.EPERM, syscall.ENOSYS} {
		type outcome struct{ filter, open error }
		got := make(chan outcome)
		go func() {
			runtime.LockOSThread() // for good: the filter ends with the thread
			if err := forbid(unix.SYS_IO_URING_ENTER, errno); err != nil {
				got <- outcome{filter: err}
				return
			}
			r, err := ring.Open(ring.Config{})
			if err == nil {
				_ = r.Close() // which it cannot do well
			}
			got <- outcome{open: err}
		}()
		o := <-got
		if o.filter != nil {
			t.Skipf("needs a filter of system calls: %v", o.filter)
		}
		if !errors.Is(o.open, ring.ErrUnavailable) || !errors.Is(o.open, errno) {
			t.Errorf("%v: %v", errno, o.open)
		}
	}
}

// forbid has a system call fail on the calling thread, for the rest of its life.
func forbid(call uint32, errno syscall.Errno) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: call},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(program)), 0, 0)
	runtime.KeepAlive(filter)
	return err
}
