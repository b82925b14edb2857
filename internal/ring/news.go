package ring

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	registerEventfd   uint32 = 4      // 5.2
	cqEventfdDisabled uint32 = 1 << 0 // IORING_CQ_EVENTFD_DISABLED, 5.8
)

// OpenNews has the kernel count completions on a descriptor that the Go runtime polls, so that a goroutine can wait for them without a thread; not
// before Announce says so. The caller closes the file when the ring is closed. Owner only; once. Kernel 5.8.
func (r *Ring) OpenNews() (*os.File, error) {
	if r.cqFlags == nil {
		return nil, fmt.Errorf("ring: no switch for an eventfd, Linux 5.8: %w", errors.ErrUnsupported)
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd2", err)
	}
	f := os.NewFile(uintptr(fd), "eventfd")
	r.Announce(false)
	arg := int32(fd)
	_, errno := r.k.Register(r.fd, registerEventfd, unsafe.Pointer(&arg), 1)
	runtime.KeepAlive(&arg)
	if errno != 0 {
		return nil, errors.Join(registerError("eventfd, Linux 5.2", errno), f.Close())
	}
	return f, nil
}

// Announce switches on or off what OpenNews is for. The kernel may not see it at once: a completion that comes at the same moment may go without. Owner only.
func (r *Ring) Announce(on bool) {
	flags := cqEventfdDisabled
	if on {
		flags = 0
	}
	atomic.StoreUint32(r.cqFlags, flags)
}
