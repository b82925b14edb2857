package driver

import (
	"fmt"
	"runtime/debug"

	"go.uber.org/zap"
)

// This file is about drivers that are interrupted: by whom they tell something, or by a ring that cannot go on.

// interrupted is what a mishap has to know.
type interrupted struct {
	hand     *Request // in no queue, while somebody is told something: where it is to be found
	judged   *chain   // the latest of which a member had a result, for the same reason
	visiting bool     // the guest runs
	within   bool     // but in a part of a pass that it had made
}

// run makes passes until the driver has ended. A task of the guest that ends its goroutine (runtime.Goexit) must not end the
// driver: Goexit runs deferred functions, and inside this one the driver simply goes on, on the same thread.
func (d *Driver) run() {
	returned := false
	defer func() {
		if returned {
			return
		}
		defer d.run() // deferred, as whoever is told of the mishap may call Goexit, too
		visiting := d.visiting
		d.visiting = false
		if p := recover(); p != nil || !visiting {
			d.mishap(p)
		}
	}()
	for !d.ended {
		d.pass()
	}
	returned = true
}

// mishap ends a driver that was interrupted by a panic, or by a Goexit if p is nil, maybe in the middle of the completions: their operations
// would never end.
func (d *Driver) mishap(p any) {
	returned := false
	defer func() {
		if !returned {
			d.mishap(recover()) // of somebody who was told of this one: there are others to tell
		}
	}()
	d.fail(mistake(p))
	returned = true
}

// mistake is the error of a driver whom somebody interrupted whom it told something.
func mistake(p any) error {
	what := "runtime.Goexit by whom the driver told something"
	if p != nil {
		what = fmt.Sprintf("panic: %v", p)
	}
	return fmt.Errorf("%w: %s\n%s", ErrBroken, what, debug.Stack())
}

// inside has f, a part of a pass, run where a task of the guest called: on its stack, a mishap in there would be taken for the task's.
func (d *Driver) inside(f func(*Driver)) {
	returned, outer := false, d.within
	d.within = true
	defer func() {
		d.within = outer
		if !returned {
			d.mishap(recover())
		}
	}()
	f(d)
	returned = true
}

// fail ends a driver whose ring cannot go on. Nothing the kernel may still touch is freed. When somebody who is told interrupts it, the next
// call goes on.
func (d *Driver) fail(err error) {
	if d.broken == nil {
		d.broken = err
		d.closing.Store(true)
		d.log.Error("driver failed", zap.Error(err))
	}
	err = d.broken
	if d.judged != nil {
		d.endRest(d.judged, err)
		d.judged = nil
	}
	if r := d.hand; r != nil {
		d.hand = nil
		d.deliver(r, 0, err)
	}
	d.refuseTaken()
	d.endWaiting(err)
	for i := range d.slots {
		if r := d.slots[i].r; r != nil && r.chain != nil {
			d.endRest(r.chain, err)
		}
	}
	for i := range d.slots {
		if r := d.slots[i].r; r != nil && r.state == stateIssued {
			d.abandon(r, r.cur)
		}
	}
	d.tell()
}
