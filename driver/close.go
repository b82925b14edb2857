package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// ending is how far the end of a driver has come.
type ending struct {
	closing atomic.Bool
	left    atomic.Bool   // the thread is no longer the driver's, nor its guest's
	done    chan struct{} // closed when the ring is gone
	after   chan struct{} // wakes a Survivor from then on; capacity 1
	closed  struct {
		sync.Mutex
		err   error // of tearing the ring down
		final Stats // what Stats returns afterwards
	}

	// The driver goroutine's:
	asked  bool // Close was called
	zombie bool // closed, but the kernel still holds operations
}

// Close ends the driver. It takes no more requests, fails the queued ones with ErrClosed, cancels what the kernel has in hand
// and waits until all of it has ended; every caller gets its result. Then it gives the ring back.
//
// If ctx ends first, Close returns an error that names the operations that would not end and wraps context.Cause(ctx). Their
// callers get ErrAbandoned; their memory, and the ring, stay until the kernel lets go, which may be never.
//
// Close may be called more than once and from several goroutines. Calling it from a task that runs on this very driver's
// goroutine is an error.
func (d *Driver) Close(ctx context.Context) error {
	if d.OnDriver() {
		return fmt.Errorf("uringo: Close called from the driver's own goroutine")
	}
	d.later(d.beginClose)
	if h := d.host(); h != nil {
		d.endWhile(ctx, h)
	}
	select {
	case <-d.done:
		return d.closeErr()
	case <-ctx.Done():
	}
	// What is stuck may hold up the driver goroutine itself, so nobody waits for its answer for long.
	answer := make(chan []string, 1)
	go d.do(func() {
		d.beginClose() // where the channel was full, this message may be ahead of that one
		answer <- d.giveUp()
	})
	stuck := []string{"the driver does not answer"}
	enough := time.After(d.cfg.patience)
	select {
	case <-d.done:
		return d.closeErr()
	case stuck = <-answer:
	case <-enough:
		select { // a machine that stood still may bring both at a time
		case stuck = <-answer:
		default:
		}
	}
	if len(stuck) == 0 {
		stuck = []string{"requests of the driver's own"}
		select {
		case <-d.done:
			return d.closeErr()
		case <-enough:
		}
	}
	return fmt.Errorf("uringo: close: %w; still in the kernel: %s", context.Cause(ctx), strings.Join(stuck, ", "))
}

// endWhile waits for the end of d, or of ctx, on the goroutine of h, which goes on meanwhile: the guest of d may wait for it.
func (d *Driver) endWhile(ctx context.Context, h *Driver) {
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-d.done:
		case <-ctx.Done():
		case <-over:
		}
		h.Poke()
	}()
	h.Attend(func() bool {
		select {
		case <-d.done:
			return true
		default:
			return ctx.Err() != nil
		}
	})
}

// closePatience is how long Close waits beyond its context for what should take no time, but on a busy machine may wait for a processor.
const closePatience = 300 * time.Millisecond

func (d *Driver) closeErr() error {
	d.closed.Lock()
	defer d.closed.Unlock()
	return d.closed.err
}

// OnDriver reports whether the caller runs on the thread of a driver that is locked to one.
//
// Once the driver has ended, the thread is its guest's, and then anybody's.
func (d *Driver) OnDriver() bool { return d.OnGuest() && d.status.Load() != dead }

// OnGuest is OnDriver for the thread of a guest, which may go on when the driver has ended, see [Survivor].
func (d *Driver) OnGuest() bool {
	return d.tid != 0 && gettid() == d.tid && !d.left.Load() // in this order: the thread may become somebody else's, but not the other way round
}

func gettid() int { return unix.Gettid() }

func (d *Driver) beginClose() {
	d.asked = true
	if d.closing.Swap(true) {
		return
	}
	d.endWaiting(ErrClosed)
	for i := range d.slots {
		if r := d.slots[i].r; r != nil && r.state == stateIssued && r.cancel != r.cur {
			r.cancel, r.shut = r.cur, true
			d.cancelIssued(r)
		}
	}
}

// endWaiting ends what the kernel does not have: what waits for a slot, for its time to come, or for the rest of a chain.
func (d *Driver) endWaiting(err error) {
	for i := range d.queues {
		for r := d.queues[i].pop(); r != nil; r = d.queues[i].pop() {
			d.deliver(r, 0, err)
		}
	}
	for r := range d.delayed {
		delete(d.delayed, r)
		d.deliver(r, 0, err)
	}
	d.endChains(err)
}

// giveUp lets the callers of everything that is stuck go, and names it. The driver lives on until the kernel has let go.
func (d *Driver) giveUp() []string {
	var stuck []string
	d.tick()
	for i := range d.slots {
		r := d.slots[i].r
		if r == nil {
			continue
		}
		stuck = append(stuck, fmt.Sprintf("%s on fd %d for %v", r.spec.Kind.Name, r.spec.FD,
			time.Duration(d.clock-d.slots[i].since).Round(time.Millisecond)))
		if r.chain != nil {
			d.endRest(r.chain, ErrClosed)
		}
		if r.state == stateIssued {
			d.abandon(r, r.cur)
		}
	}
	if len(stuck) > 0 && !d.zombie {
		d.zombie = true
		d.log.Error("driver closed with operations in the kernel: their memory is kept", zap.Strings("stuck", stuck))
	}
	return stuck
}

// drained reports whether a closing driver has nothing left to wait for.
func (d *Driver) drained() bool {
	return d.closing.Load() && d.broken == nil && d.issued == 0 && len(d.cancelOut) == 0 && d.ring.Queued() == 0
}

// finish tears down, on the driver goroutine, unless that was done under the guest.
func (d *Driver) finish() {
	if d.status.Load() == dead {
		return
	}
	var err error
	d.buffers.forgetAll(d)
	d.forgetPeople()
	for _, b := range d.provided {
		if err := d.closeProvided(b); err != nil {
			d.log.Warn("a ring of buffers stays", zap.Error(err))
		}
	}
	if d.broken == nil {
		d.pool.Close()
		err = d.ring.Close()
	} else {
		err = d.broken
		leak(d)
	}
	err = errors.Join(err, d.unwatch())
	final := d.snapshot()
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(err, mistake(p))
		}
		d.closed.Lock()
		d.closed.err, d.closed.final = err, final
		d.closed.Unlock()
		d.delist()
		d.log.Debug("driver closed", zap.Error(err))
		close(d.done)
	}()
	// From here on senders empty the channel themselves; what came before this moment is ours to empty.
	d.dashing.hope = 0 // no Rush
	d.status.Store(dead)
	d.sweeping.Lock()
	d.sweepLocked()
	d.sweep()
}

// outlive runs a guest that goes on, on the thread that was the driver's.
func (d *Driver) outlive() {
	g, ok := d.guest.(Survivor)
	for ok && !g.Over() {
		g.Run()
		if !g.Ready() && !g.Over() {
			<-d.after
		}
	}
}

// leaked holds the drivers whose memory the kernel may touch for ever.
var leaked struct {
	sync.Mutex
	drivers []*Driver
}

func leak(d *Driver) {
	leaked.Lock()
	defer leaked.Unlock()
	leaked.drivers = append(leaked.drivers, d)
}

func zapUserData(u uint64) zap.Field { return zap.Uint64("user_data", u) }

func zapResult(res int32) zap.Field {
	if res < 0 && res > -4096 {
		return zap.String("result", syscall.Errno(-res).Error())
	}
	return zap.Int32("result", res)
}
