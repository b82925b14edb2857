package net

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"uringo/driver"
	"uringo/internal/handle"
	"uringo/internal/notify"
)

// deadline is a deadline as the standard library's connections have it: it can be moved while operations wait. Operations work under
// its context, which ends when the time has come; a deadline that is moved after that has a new one.
type deadline struct {
	now   atomic.Pointer[untilDeadline]
	armed atomic.Bool // when is set
	drv   *driver.Driver

	mu    sync.Mutex
	when  time.Time // zero for never
	timer *time.Timer

	first untilDeadline // the first context, here to be one allocation less for each connection
}

func newDeadline(d *driver.Driver) *deadline { return new(deadline).begin(d) }

func (t *deadline) begin(d *driver.Driver) *deadline {
	t.drv, t.first.drv = d, d
	t.now.Store(&t.first)
	return t
}

// context returns the one to work under.
func (t *deadline) context() context.Context { return t.now.Load() }

// over reports whether it has passed.
func (t *deadline) over() bool { return t.now.Load().Over() }

// set moves the deadline. The zero time is none.
func (t *deadline) set(when time.Time) {
	if when.IsZero() && !t.armed.Load() {
		return // as it is: servers see to that several times for a request
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armed.Store(!when.IsZero())
	if t.timer != nil {
		t.timer.Stop() // it may fire all the same: fire looks at the time
	}
	if when.IsZero() {
		t.when = when
		t.renew()
		return
	}
	now := time.Now()
	left := when.Sub(now)
	t.when = now.Add(left) // by the clock that nobody sets
	if left <= 0 {
		t.now.Load().end()
		return
	}
	t.renew()
	if t.timer == nil {
		t.timer = time.AfterFunc(left, t.fire)
	} else {
		t.timer.Reset(left)
	}
}

func (t *deadline) renew() {
	if t.now.Load().Err() != nil {
		t.now.Store(&untilDeadline{drv: t.drv})
	}
}

func (t *deadline) fire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.when.IsZero() && !time.Now().Before(t.when) {
		t.now.Load().end()
	}
}

// stop releases the timer.
func (t *deadline) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
	}
}

// deadlines are those of a connection in the standard library's shape, and the methods that go with them.
type deadlines struct {
	s           *socket
	read, write *deadline
}

func newDeadlines(s *socket) deadlines {
	two := new([2]deadline)
	return deadlines{s, two[0].begin(s.h.Driver), two[1].begin(s.h.Driver)}
}

// LocalAddr is that of net.Conn and net.PacketConn.
func (d *deadlines) LocalAddr() Addr { return d.s.LocalAddr() }

// SetDeadline is that of net.Conn and net.PacketConn.
func (d *deadlines) SetDeadline(t time.Time) error { return d.s.setDeadline(t, d.read, d.write) }

// SetReadDeadline is that of net.Conn and net.PacketConn.
func (d *deadlines) SetReadDeadline(t time.Time) error { return d.s.setDeadline(t, d.read) }

// SetWriteDeadline is that of net.Conn and net.PacketConn.
func (d *deadlines) SetWriteDeadline(t time.Time) error { return d.s.setDeadline(t, d.write) }

// SyscallConn implements syscall.Conn.
func (d *deadlines) SyscallConn() (syscall.RawConn, error) {
	return newRawConn(d.s, d.read, d.write), nil
}

// stop releases the timers.
func (d *deadlines) stop() {
	d.read.stop()
	d.write.stop()
}

func (s *socket) setDeadline(t time.Time, of ...*deadline) error {
	if s.h.Closing() {
		return s.fail("set", "", ErrClosed)
	}
	for _, d := range of {
		d.set(t)
	}
	return nil
}

// untilDeadline is the context until a deadline. It carries a driver.
type untilDeadline struct {
	drv *driver.Driver
	notify.Ending
}

func (c *untilDeadline) end() { c.Ending.End(context.DeadlineExceeded) }

// Deadline implements context.Context. There is none that would stay.
func (c *untilDeadline) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value implements context.Context.
func (c *untilDeadline) Value(key any) any {
	if key == driver.ContextKey {
		return c.drv
	}
	return nil
}

// String describes the context in the text of derived ones.
func (c *untilDeadline) String() string { return "deadline of a connection" }

// stdError gives the end of a deadline, which is that of ctx, the name that it has in the standard library: also where the caller was let go
// before the kernel, of which nobody knows there.
func stdError(ctx context.Context, err error) error {
	if err != nil && (errors.Is(err, context.DeadlineExceeded) || handle.Abandoned(err) && ctx.Err() != nil) {
		return os.ErrDeadlineExceeded
	}
	return err
}
