package testenv

import (
	"errors"
	"sync/atomic"
	"syscall"
	"testing"

	"uringo/internal/ring"
)

// Mortal is a kernel that refuses everything from some moment on.
type Mortal struct {
	ring.Kernel
	dead atomic.Bool
	fd   int
	maps [][]byte
}

// Setup passes on, and remembers the ring.
func (m *Mortal) Setup(entries uint32, p *ring.Params) (int, error) {
	fd, err := m.Kernel.Setup(entries, p)
	m.fd = fd
	return fd, err
}

// Map passes on, and remembers the memory.
func (m *Mortal) Map(fd int, offset uint64, size int) ([]byte, error) {
	mem, err := m.Kernel.Map(fd, offset, size)
	if err == nil {
		m.maps = append(m.maps, mem)
	}
	return mem, err
}

// Enter passes on, or fails.
func (m *Mortal) Enter(fd int, submit, minComplete, flags uint32, arg *ring.WaitArg) (int, syscall.Errno) {
	if m.dead.Load() {
		return -1, syscall.EBADF
	}
	n, errno := m.Kernel.Enter(fd, submit, minComplete, flags, arg)
	if m.dead.Load() {
		return -1, syscall.EBADF
	}
	return n, errno
}

// Kill makes the kernel fail, also an Enter that waits.
func (m *Mortal) Kill() {
	m.dead.Store(true)
	m.Kernel.Wake()
}

// Bury gives back what a driver with a broken ring leaks on purpose.
func (m *Mortal) Bury(tb testing.TB) {
	err := errors.Join(m.Kernel.CloseWake(), m.Kernel.Close(m.fd))
	for _, mem := range m.maps {
		err = errors.Join(err, m.Kernel.Unmap(mem))
	}
	if err != nil {
		tb.Error(err)
	}
}
