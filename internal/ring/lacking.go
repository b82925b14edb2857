package ring

import (
	"syscall"
	"unsafe"
)

// Lacking is a [Kernel] that stands before another one and says that it does not know an opcode. It belongs to tests.
type Lacking struct {
	Kernel
	Op Op
}

// Register passes on, and takes the opcode out of what the kernel says that it knows.
func (k Lacking) Register(fd int, what uint32, arg unsafe.Pointer, n uint32) (int, syscall.Errno) {
	res, errno := k.Kernel.Register(fd, what, arg, n)
	if what == registerProbe && errno == 0 {
		*(*byte)(unsafe.Add(arg, 16+8*uintptr(k.Op)+2)) = 0 // after a header of 16 bytes, every opcode has 8, with flags in the third
	}
	return res, errno
}
