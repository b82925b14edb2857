package net

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// rawConn is a syscall.RawConn of a socket.
type rawConn struct {
	s           *socket
	read, write *deadline // nil if there are none
}

func newRawConn(s *socket, read, write *deadline) *rawConn {
	s.slow.Store(true) // for all we know
	return &rawConn{s, read, write}
}

// Control implements syscall.RawConn.
func (r *rawConn) Control(f func(fd uintptr)) error {
	return r.s.control("raw-control", "control", func(fd int) error {
		f(uintptr(fd))
		return nil
	})
}

// Read implements syscall.RawConn.
func (r *rawConn) Read(f func(fd uintptr) (done bool)) error {
	return r.s.fail("raw-read", "poll", r.wait(r.read, unix.POLLIN, f))
}

// Write implements syscall.RawConn.
func (r *rawConn) Write(f func(fd uintptr) (done bool)) error {
	return r.s.fail("raw-write", "poll", r.wait(r.write, unix.POLLOUT, f))
}

func (r *rawConn) wait(end *deadline, events uint32, f func(fd uintptr) bool) error {
	ctx := background(r.s.h.Driver)
	if end != nil {
		ctx = end.context()
	}
	_, err := r.s.attempt(ctx, events, func() (int, error) {
		returned := false
		defer func() {
			if !returned {
				r.s.h.Release() // f panicked: it is attempt that did not return
			}
		}()
		done := f(uintptr(r.s.h.FD))
		returned = true
		if done {
			return 0, nil
		}
		return 0, syscall.EAGAIN
	})
	return stdError(ctx, err)
}

// rawFD is a syscall.RawConn of a socket that is not in use yet: for Control functions.
type rawFD int

// given calls a user's function with the socket, which is closed if the function panics.
func (r rawFD) given(f func(c syscall.RawConn) error) error {
	returned := false
	defer func() {
		if !returned {
			_ = unix.Close(int(r)) // the panic goes on
		}
	}()
	err := f(r)
	returned = true
	return err
}

// Control implements syscall.RawConn.
func (r rawFD) Control(f func(fd uintptr)) error {
	f(uintptr(r))
	return nil
}

// Read implements syscall.RawConn. There is nothing to wait for.
func (r rawFD) Read(f func(fd uintptr) bool) error {
	f(uintptr(r))
	return nil
}

// Write implements syscall.RawConn. There is nothing to wait for.
func (r rawFD) Write(f func(fd uintptr) bool) error {
	f(uintptr(r))
	return nil
}
