package ring

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	registerEventfd   uint32 = 4      // 5.2
	cqEventfdDisabled uint32 = 1 << 0 // IORING_CQ_EVENTFD_DISABLED, 5.8
)

// OpenNews has the kernel count completions, while Announce says so, on a descriptor that the Go runtime polls: a goroutine can wait for them
// there without a thread. The caller closes the file when the ring is closed. Owner only; once. Kernel 5.8.
func (r *Ring) OpenNews() (*os.File, error) {
	if r.cqFlags == nil {
		return nil, fmt.Errorf("ring: no switch for an eventfd, Linux 5.8: %w", errors.ErrUnsupported)
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd2", err)
	}
	f, err := pollable(fd, "eventfd")
	if err != nil {
		return nil, fmt.Errorf("ring: eventfd: %w", err)
	}
	r.Announce(false)
	arg := int32(fd)
	_, errno := r.k.Register(r.fd, registerEventfd, unsafe.Pointer(&arg), 1)
	runtime.KeepAlive(&arg)
	if errno != 0 {
		return nil, errors.Join(registerError("eventfd, Linux 5.2", errno), f.Close())
	}
	return f, nil
}

// pollable makes a file of a descriptor that the Go runtime is to poll. An error closes it.
func pollable(fd int, name string) (*os.File, error) {
	f := os.NewFile(uintptr(fd), name)
	if err := f.SetReadDeadline(time.Time{}); err != nil { // which works only on files that the runtime polls
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Announce switches on or off what OpenNews is for. Whoever switches it on and then finds that nothing is Ready misses nothing: between showing
// a completion and looking at the switch the kernel has a full barrier (wq_has_sleeper), and here the atomic store is one. Owner only.
func (r *Ring) Announce(on bool) {
	flags := cqEventfdDisabled
	if on {
		flags = 0
	}
	atomic.StoreUint32(r.cqFlags, flags)
}

// Shows reports whether the completions of k, which is Linux if nil, are to be seen without entering it.
func Shows(k Kernel) bool {
	switch k := k.(type) {
	case nil, *linux:
		return true
	case *Faults:
		return Shows(k.Kernel)
	}
	return false
}
