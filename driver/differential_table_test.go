package driver_test

import (
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
	"uringo/internal/testenv"
	"uringo/ops"
)

// What TestDifferential does with the ring's table of files and with memory that can be registered.

// hasTable reports whether drivers have a table of files.
func (e *rig) hasTable() bool {
	d := e.open(driver.Config{})
	defer e.shut(d)
	switch r := do(e, d, ops.OpenDirectAt(0, unix.AT_FDCWD, "/dev/null", unix.O_RDONLY, 0)); r.Err {
	case nil:
		return true
	case syscall.ENXIO:
	default:
		e.Fatal(r.Err)
	}
	return false
}

// lender returns who lends buffers, nil where they cannot be registered, and who sees at the end that all have come back.
func (e *rig) lender() (lend func(n int) *buf.Fixed, allBack func()) {
	if !testenv.MayRegister(e) {
		return func(int) *buf.Fixed { return nil }, func() {}
	}
	a, err := buf.NewArena(1 << 14)
	if err != nil {
		e.Fatal(err)
	}
	return func(n int) *buf.Fixed { return e.alloc(a, n) }, func() {
		if err := a.Close(); err != nil {
			e.Errorf("the buffers at the end: %v", err)
		}
	}
}

// chooses returns what the member i does.
func (l *lane) chooses(inTable bool, i int) what {
	switch {
	case inTable && i == 0:
		return openPlace
	case inTable && l.rng.IntN(3) > 0:
		return openPlace + what(l.rng.IntN(int(whats-openPlace)))
	}
	return what(l.rng.IntN(int(whats)))
}

// borrows chooses whether a member has a buffer that can be registered.
func (l *lane) borrows(m *step) bool {
	if l.rng.IntN(3) > 0 {
		return false
	}
	if m.buf = l.fixed(m.n); m.buf == nil {
		return false
	}
	m.mem = m.buf.Bytes()
	return true
}

// refusal returns what the driver says to an operation that needs the table, or nil.
func (l *lane) refusal(route ops.Route) error {
	switch {
	case !l.table:
		return syscall.ENXIO
	case route == ops.RouteCall:
		return syscall.EOPNOTSUPP // a plain call knows no places
	}
	return nil
}

// empties closes what is open in the lane's place, from outside.
func (l *lane) empties() {
	driver.Submit(l.d, ops.CloseDirect(l.place))
	l.happens("somebody empties the place", func(s *state) {
		if l.table {
			s.emptied++
		}
	})
}

// replaces closes the file's descriptor under the operations that name it. The number has another file at once: one that is for no operation.
func (l *lane) replaces() {
	none, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		l.Fatal(err)
	}
	defer unix.Close(none)
	if err := unix.Dup3(none, l.file, unix.O_CLOEXEC); err != nil {
		l.Fatal(err)
	}
	l.happens("the file's descriptor is another's", func(s *state) { s.leaving = true })
}

// frees gives back the buffer of a member.
func (l *lane) frees(j int) {
	m := l.members[j]
	if m.buf == nil || m.freed {
		return
	}
	m.freed = true
	m.buf.Release()
	l.happens("its buffer is released", func(s *state) { s.released |= 1 << j })
}
