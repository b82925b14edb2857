package driver

import (
	"errors"
	"slices"
	"sync"
	"syscall"

	"go.uber.org/zap"

	"uringo/internal/ring"
	"uringo/ops"
)

// files is the ring's table of direct descriptors, which the first open into it makes.
type files struct {
	state  tableState
	chosen int // how many places, the first ones, the kernel leaves to TakePlace
	size   int // how many others there are
	used   int // of those, the full ones, and those promised to an operation on its way

	mu    sync.Mutex
	taken [mostChosen]bool
}

const (
	// fileTable is how many files the table has room for, if the limit of open files allows: eight bytes each.
	fileTable = 4096
	// mostChosen is how many of these places TakePlace gives out; of a small table, it is a quarter.
	mostChosen = 64
)

// TakePlace returns a place of the ring's table of files for [ops.OpenDirectAt]: no other open goes there until [Driver.ReleasePlace]. It
// is false when all are taken, 64 at most. Where there is no table, which shows when a file is opened (ENXIO), there are places
// all the same.
func (d *Driver) TakePlace() (place int, ok bool) {
	f := &d.files
	f.mu.Lock()
	defer f.mu.Unlock()
	place = slices.Index(f.taken[:], false)
	if place < 0 {
		return 0, false
	}
	f.taken[place] = true
	return place, true
}

// ReleasePlace gives back a place from TakePlace. All operations on it have ended by then; one that was abandoned has when its
// [ops.Spec].Release is called. A file that is open there stays so until the next is opened in its place.
func (d *Driver) ReleasePlace(place int) {
	d.files.mu.Lock()
	defer d.files.mu.Unlock()
	d.files.taken[place] = false
}

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
	case s.Fills() && f.used >= f.size:
		return syscall.ENFILE // the kernel would accept a connection, find no place for it, and close it
	}
	if place, ok := s.Place(); ok && place >= f.chosen {
		return syscall.ENFILE
	}
	return nil
}

// promise keeps a place for an operation that is given to the kernel.
func (f *files) promise(s *ops.Spec) {
	if s.Fills() {
		f.used++
	}
}

// settle takes note of what became of that, and of places that were given back.
func (f *files) settle(s *ops.Spec, performed bool) {
	if place, ok := s.Empties(); ok {
		if performed && place >= f.chosen {
			f.used--
		}
	} else if s.Fills() && !performed {
		f.used--
	}
}

// onTable are the opcodes without which a file or socket in the table is of no use, as no plain call can stand in for them.
var onTable = []ring.Op{ring.OpRead, ring.OpWrite, ring.OpFsync, ring.OpRecv, ring.OpSend, ring.OpShutdown, ring.OpClose, ring.OpPollAdd}

func (f *files) open(d *Driver) {
	f.state = refused
	if d.engine != Uring || slices.ContainsFunc(onTable, func(op ring.Op) bool { return !d.ring.Supports(op) }) {
		return
	}
	// The kernel makes no table larger than RLIMIT_NOFILE.
	err := error(syscall.EMFILE)
	for n := uint32(fileTable); n >= 16 && errors.Is(err, syscall.EMFILE); n /= 2 {
		f.chosen = min(mostChosen, int(n/4))
		f.size = int(n) - f.chosen
		err = d.ring.OpenFiles(n, uint32(f.chosen))
	}
	if err != nil {
		d.log.Debug("no table of direct descriptors", zap.Error(err))
		return
	}
	f.state = opened
}

// discardDirect closes what an open put into the table for a caller who was let go. Only then, if release is not nil, the place may be given
// back: a chain would overtake the closing.
func (d *Driver) discardDirect(place int, release func()) {
	op := ops.CloseDirect(place)
	r := new(Request)
	r.cur = r.Reset(&op.Spec, nobody{release})
	d.enqueue(r)
}

// nobody waits for a request of the driver's own, but something may be to be done at its end.
type nobody struct{ then func() }

func (n nobody) Complete(*Request) {
	if n.then != nil {
		n.then()
	}
}
