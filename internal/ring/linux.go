package ring

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"syscall"
	"unsafe"

	sys "github.com/iceber/iouring-go/syscall"
	"golang.org/x/sys/unix"
)

// Linux returns the kernel's own io_uring.
func Linux() Kernel { return &linux{wakeFD: -1} }

type linux struct {
	// wakeMu keeps a late Wake from writing to a descriptor number that has been closed and given to somebody else.
	wakeMu sync.Mutex
	wakeFD int
}

func (*linux) Setup(entries uint32, p *Params) (int, error) {
	fd, err := sys.IOURingSetup(uint(entries), p)
	if err != nil {
		// The ABI package names the call in its own spelling; keep the errno, the caller adds the words.
		var errno syscall.Errno
		if errors.As(err, &errno) {
			return -1, errno
		}
		return -1, err
	}
	// A filter of system calls need not forbid all of io_uring, and a ring that cannot be entered is none. What else enter says is of no
	// account before there is anything to do.
	switch _, _, errno := syscall.RawSyscall6(sys.SYS_IO_URING_ENTER, uintptr(fd), 0, 0, 0, 0, 0); errno {
	case syscall.EPERM, syscall.EACCES, syscall.ENOSYS:
		return -1, errors.Join(errno, unix.Close(fd))
	}
	return fd, nil
}

func (*linux) Map(fd int, offset uint64, size int) ([]byte, error) {
	mem, err := unix.Mmap(fd, int64(offset), size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, err
	}
	// A forked child must not share the queues: it could corrupt them, and copy-on-write would hide ours from the kernel.
	if err := unix.Madvise(mem, unix.MADV_DONTFORK); err != nil {
		return nil, errors.Join(err, unix.Munmap(mem))
	}
	return mem, nil
}

func (*linux) Unmap(mem []byte) error { return unix.Munmap(mem) }

func (*linux) Register(fd int, op uint32, arg unsafe.Pointer, n uint32) (int, syscall.Errno) {
	r, _, errno := syscall.Syscall6(sys.SYS_IO_URING_REGISTER, uintptr(fd), uintptr(op), uintptr(arg), uintptr(n), 0, 0)
	return int(r), errno
}

func (*linux) Enter(fd int, submit, minComplete, flags uint32, arg *WaitArg) (int, syscall.Errno) {
	var size uintptr
	if arg != nil {
		size = unsafe.Sizeof(*arg)
	}
	if minComplete == 0 {
		// Nothing to wait for: telling the scheduler would cost more than the call.
		r, _, errno := syscall.RawSyscall6(sys.SYS_IO_URING_ENTER, uintptr(fd), uintptr(submit), 0, uintptr(flags),
			uintptr(unsafe.Pointer(arg)), size)
		return int(r), errno
	}
	r, _, errno := syscall.Syscall6(sys.SYS_IO_URING_ENTER, uintptr(fd), uintptr(submit), uintptr(minComplete),
		uintptr(flags), uintptr(unsafe.Pointer(arg)), size)
	return int(r), errno
}

func (l *linux) OpenWake() (int, error) {
	// Blocking on purpose: a read on a non-blocking eventfd would complete at once with EAGAIN on kernels that honour
	// O_NONBLOCK in the ring.
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("eventfd2", err)
	}
	l.wakeFD = fd
	return fd, nil
}

func (l *linux) Wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	l.wakeMu.Lock()
	defer l.wakeMu.Unlock()
	if l.wakeFD < 0 {
		return
	}
	// A write of 1 blocks only when the counter is near 2^64, so the scheduler need not hear of it.
	for {
		_, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(l.wakeFD), uintptr(unsafe.Pointer(&one)), 8)
		if errno != syscall.EINTR {
			return
		}
	}
}

func (l *linux) CloseWake() error {
	l.wakeMu.Lock()
	defer l.wakeMu.Unlock()
	fd := l.wakeFD
	l.wakeFD = -1
	if fd < 0 {
		return nil
	}
	return os.NewSyscallError("close", unix.Close(fd))
}

func (*linux) Close(fd int) error { return os.NewSyscallError("close", unix.Close(fd)) }
