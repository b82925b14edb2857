package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"go.uber.org/zap"

	"uringo/internal/rights"
	"uringo/ops"
)

// Credentials are a user, as file systems know him: they decide by these what he may do, and whose a file is that he makes. Groups are his
// further ones, beside GID.
type Credentials struct {
	UID, GID uint32 // that of the user, and that of his group
	Groups   []uint32
}

// Personality is the right to act as another user, for services that serve files to many: a client gets what his own rights allow and
// nothing more, whatever the process may. It is made by [Driver.RegisterPersonality], and belongs to that driver, until Close.
//
// An operation is performed with these rights when its [ops.Spec].As is the Personality's Identity. In package fs that is what the method As
// of Dir is for.
type Personality struct {
	who    ops.Identity
	d      *Driver // nil: it is nobody's
	rights rights.Rights
	closed atomic.Bool
}

// ErrPersonality means that a [Personality] is closed, or another driver's, or none at all. What was to be done with its rights was not done.
var ErrPersonality = errors.New("uringo: personality is closed or of another driver")

// RegisterPersonality registers credentials with the driver. Unless they are the process's own that takes a privilege, CAP_SETUID and
// CAP_SETGID: else EPERM. EINVAL is an id that cannot be.
//
// The personality has no capabilities, not even if UID is 0: root is a user like others then. Its rights are those towards
// files (setfsuid(2), setfsgid(2), setgroups(2)); to others, such as the peer of a Unix socket, the process stays who it is. Files that it
// makes get the process's umask. A descriptor that was opened with it can be used with any rights.
//
// For the moment of registering, and wherever a plain call stands in for the ring, one thread of the process has these credentials, and no goroutine
// runs on it but the one that needs them. Meanwhile nobody may change those of the whole process (syscall.Setuid and the like): the Go runtime would
// end it. Afterwards personalities stay what they are, in the ring; plain calls then fail for want of the privilege. The kernel writes no core of a
// process in which that has happened, unless it is told to (prctl(2), PR_SET_DUMPABLE).
//
// Kernel 5.6, io_uring_register(2), IORING_REGISTER_PERSONALITY; on the portable engine, the pool's threads take the credentials for each
// call.
func (d *Driver) RegisterPersonality(ctx context.Context, c Credentials) (*Personality, error) {
	if ctx.Err() != nil {
		return nil, Canceled(ctx)
	}
	p := &Personality{d: d, rights: rights.Rights{UID: c.UID, GID: c.GID, Groups: slices.Sorted(slices.Values(c.Groups))}}
	// First on a thread that can be thrown away: what works there works on the driver's.
	err := p.rights.Do(func() {})
	if err == nil && !d.doInside(func() { err = d.registerPersonality(p) }) {
		err = ErrClosed
	}
	if err != nil {
		return nil, fmt.Errorf("uringo: act as user %d, group %d: %w", c.UID, c.GID, err)
	}
	return p, nil
}

func (d *Driver) registerPersonality(p *Personality) error {
	if d.closing.Load() || d.broken != nil {
		return d.refusal()
	}
	on := p.rights.Do
	if d.tid != 0 && d.engine == Uring {
		on = p.rights.Here // the ring takes nothing from another thread
	}
	var err error
	if refused := on(func() { p.who.ID, err = d.ring.RegisterPersonality() }); refused != nil {
		return refused
	}
	if err == nil {
		d.pool.Know(p.who.ID, &p.rights)
		d.people[p.who.ID] = p
	}
	return err
}

// Close ends the use of the personality. Operations that the kernel has, and calls under way, keep its rights; what has not begun fails with
// [ErrPersonality]. A second Close does nothing. The end of the driver closes all of its personalities. It waits for the driver's answer and for
// nothing else, so ctx does not matter.
func (p *Personality) Close(ctx context.Context) error {
	if p.d == nil || p.closed.Swap(true) {
		return nil
	}
	var err error
	p.d.doInside(func() { err = p.d.forgetPersonality(p) }) // a driver that has ended knows nobody
	return err
}

func (d *Driver) forgetPersonality(p *Personality) error {
	p.closed.Store(true)
	if d.people[p.who.ID] != p {
		return nil
	}
	delete(d.people, p.who.ID)
	d.pool.Forget(p.who.ID)
	if d.broken != nil {
		return nil
	}
	return d.ring.UnregisterPersonality(p.who.ID)
}

// forgetPeople ends the use of all personalities.
func (d *Driver) forgetPeople() {
	for _, p := range d.people {
		if err := d.forgetPersonality(p); err != nil {
			d.log.Warn("a personality stays", zap.Error(err))
		}
	}
}

// Identity returns what makes an operation one with these rights, as its [ops.Spec].As. That of a nil Personality is nobody's, and
// operations with it fail.
func (p *Personality) Identity() *ops.Identity {
	if p == nil {
		return new(ops.Identity)
	}
	return &p.who
}

// Call calls fn on a thread that has the rights, for what has no operation, and waits for it. In fn there are plain system calls alone: no
// goroutine that it starts has the rights, and no operation that it has performed. The context is to carry the personality's driver.
// A task that must not hold up others calls it in executor.Block.
func (p *Personality) Call(ctx context.Context, fn func() error) error {
	switch d, err := FromContext(ctx); {
	case err != nil:
		return err
	case p == nil || p.d != d || p.closed.Load():
		return ErrPersonality
	case ctx.Err() != nil:
		return Canceled(ctx)
	}
	var err error
	if refused := p.rights.Do(func() { err = fn() }); refused != nil {
		return refused
	}
	return err
}

// mayAct returns why an operation cannot be performed with the rights of this identity, or nil.
func (d *Driver) mayAct(who *ops.Identity) error {
	if p := d.people[who.ID]; p == nil || &p.who != who {
		return ErrPersonality
	}
	return nil
}
