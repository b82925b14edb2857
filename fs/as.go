package fs

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

var errTwoUsers = errors.New("the two are used with the rights of different users")

// As returns the directory once more, to be used with the rights of p: whoever has it does in the directory, and in what is beneath, what the
// user may whom p stands for, and nothing else, whatever the process may. It has to be closed, too.
//
// That goes for all methods: names are looked up and described, files opened, made, renamed, linked and removed, entries read and attributes
// changed with these rights, and what is made belongs to the user. It goes for the Files and Dirs that are opened from it as well, whose data
// is read and written so, too: that counts for set-id bits, quotas and the files of proc. Whoever takes the descriptor by Fd, Detach or
// SyscallConn uses it with his own. What is tried in place elsewhere goes to the ring here, or to a thread that has the rights for
// the moment, also where Pin says Inline.
//
// Two directories of one operation, as in Rename, are to have the same rights. A p that is nil, closed or of another driver than the
// context's has everything but closing fail, with [driver.ErrPersonality]: so closing p ends what can be done with all that was opened.
// Kernel 5.6; see [driver.Driver.RegisterPersonality].
func (d *Dir) As(p *driver.Personality) (*Dir, error) {
	if p == nil {
		p = new(driver.Personality) // nobody's: nil would be the process
	}
	if !d.f.h.Acquire() {
		return nil, d.f.wrap("as", ErrClosed)
	}
	defer d.f.h.Release()
	fd, err := unix.FcntlInt(uintptr(d.f.h.FD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, d.f.wrap("as", err)
	}
	f := newFile(d.f.h.Driver, fd, d.f.name, d.f.flag, d.f.traits.Load())
	f.use(p)
	return &Dir{f: f, blind: d.blind, lent: true}, nil
}

// use has everything done with the rights of p from now on. Nobody else has f yet.
func (f *File) use(p *driver.Personality) {
	f.as = p
	f.traits.Or(traitNoTry)
	for op := range operations {
		f.Pin(op, Ring)
	}
}

// whose returns whose rights the file's operations have, nil for the process's.
func (f *File) whose() *ops.Identity { return identityOf(f.as) }

// identityOf is what makes an operation one with the rights of p, nil for the process's.
func identityOf(p *driver.Personality) *ops.Identity {
	if p == nil {
		return nil
	}
	return p.Identity()
}

// allowed is what becomes of a pinned route where p has the rights: it is the ring, or else a thread of the driver's pool, never one of the
// process's own.
func allowed(p *driver.Personality, r Route) Route {
	if p == nil || r == Call {
		return r
	}
	return Ring
}

// callAs is call with the rights of p, if there is one.
func callAs[T any](ctx context.Context, c executor.Caller, p *driver.Personality, r Route, fn func() (T, error)) (v T, err error) {
	if p == nil {
		return call(ctx, c, r, fn)
	}
	count(ctx, c.Lane(), driver.RouteCall)
	return executor.Block(ctx, func() (v T, err error) {
		err = p.Call(ctx, func() (err error) {
			v, err = fn()
			return err
		})
		return v, err
	})
}

// withRights calls fn with the rights of p, or as it is.
func withRights(ctx context.Context, p *driver.Personality, fn func() error) error {
	if p == nil {
		return fn()
	}
	return p.Call(ctx, fn)
}
