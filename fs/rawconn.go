package fs

import (
	"context"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
	"uringo/ops"
)

// rawConn is a syscall.RawConn of a file.
type rawConn struct{ f *File }

// Control implements syscall.RawConn.
func (r rawConn) Control(use func(fd uintptr)) error {
	if !r.f.h.Acquire() {
		return r.f.wrap("control", ErrClosed)
	}
	defer r.f.h.Release()
	use(uintptr(r.f.h.FD))
	return nil
}

// Read implements syscall.RawConn.
func (r rawConn) Read(try func(fd uintptr) (done bool)) error {
	return r.f.wrap("read", r.wait(unix.POLLIN, try))
}

// Write implements syscall.RawConn.
func (r rawConn) Write(try func(fd uintptr) (done bool)) error {
	return r.f.wrap("write", r.wait(unix.POLLOUT, try))
}

// wait calls try until it is done, each time when one of the events is seen. Regular files are always ready.
func (r rawConn) wait(events uint32, try func(fd uintptr) bool) error {
	ctx := driver.NewContext(context.Background(), r.f.h.Driver)
	for {
		if !r.f.h.Acquire() {
			return ErrClosed
		}
		if r.once(try) {
			return nil
		}
		o := ops.PollAdd(r.f.h.FD, events)
		o.Release = r.f.h.Free
		if err := r.f.h.Settle(executor.Do(ctx, o).Err, ErrClosed); err != nil && !handle.Abandoned(err) {
			return err
		}
	}
}

// once calls try with a reference, which is kept if that is to be repeated.
func (r rawConn) once(try func(fd uintptr) bool) bool {
	again := false
	defer func() {
		if !again { // done, or try panicked
			r.f.h.Release()
		}
	}()
	again = !try(uintptr(r.f.h.FD))
	return !again
}
