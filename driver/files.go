package driver

import (
	"errors"
	"syscall"

	"go.uber.org/zap"

	"uringo/ops"
)

// files is the ring's table of direct descriptors, which the first open into it makes.
type files struct{ state tableState }

// fileTable is how many files the table has room for, if the limit of open files allows: eight bytes each.
const fileTable = 4096

// admit returns why an operation on the ring's table of files cannot be performed, or nil. The pool of plain calls cannot stand in: the
// number would mean somebody else's descriptor.
func (d *Driver) admit(s *ops.Spec) error {
	f := &d.files
	if f.state == unopened {
		f.open(d)
	}
	switch {
	case f.state == refused:
		return syscall.ENXIO
	case s.Route == ops.RouteCall || !d.ring.Supports(s.Kind.Code):
		return syscall.EOPNOTSUPP
	}
	return nil
}

func (f *files) open(d *Driver) {
	f.state = refused
	if d.engine != Uring {
		return
	}
	// The kernel makes no table larger than RLIMIT_NOFILE.
	err := error(syscall.EMFILE)
	for n := uint32(fileTable); n >= 16 && errors.Is(err, syscall.EMFILE); n /= 2 {
		err = d.ring.OpenFiles(n)
	}
	if err != nil {
		d.log.Debug("no table of direct descriptors", zap.Error(err))
		return
	}
	f.state = opened
}

// discardDirect closes what an open put into the table for a caller who was let go.
func (d *Driver) discardDirect(place int32) {
	if d.closing.Load() {
		return // the table goes with the ring
	}
	op := ops.CloseDirect(int(place))
	r := new(Request)
	r.cur = r.Reset(&op.Spec, nobody{})
	r.state = stateQueued
	d.queue.push(r)
}

// nobody waits for a request of the driver's own.
type nobody struct{}

func (nobody) Complete(*Request) {}
