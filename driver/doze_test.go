package driver_test

import (
	"context"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// doze has a driver woken by requests alone until it dozes. Something for which nothing comes yet has to be in its ring.
func (e *rig) doze(d *driver.Driver) {
	before := d.Stats().Dozes
	e.eventually("the driver dozes", func() bool {
		must(e, d, ops.Nop())
		time.Sleep(100 * time.Microsecond) // or it need not sleep
		return d.Stats().Dozes > before
	})
}

// TestDozes has reads end while the driver waits for them on its channel, or is about to, or no longer is.
func TestDozes(t *testing.T) {
	on(t, []way{onUring}, func(e *rig) {
		d := e.open(driver.Config{})
		r, w := e.pipe()
		b := make([]byte, 1)
		for i := range size(30, 1000) {
			read := driver.Submit(d, ops.ReadAt(r, b, -1))
			e.doze(d)
			for range rand.IntN(3) {
				driver.Submit(d, ops.Nop())
			}
			time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond)
			e.write(w, []byte{byte(i)})
			got := read.Wait(context.Background())
			if got.Err != nil || got.N != 1 || got.Buf[0] != byte(i) {
				e.Fatalf("read %d: %+v", i, got)
			}
			b = got.Buf
		}
	})
}

// TestDozesNot has the same where the ring may not be asked for announcements, and where completions are to gather.
func TestDozesNot(t *testing.T) {
	on(t, []way{onUring}, func(e *rig) {
		restricted := driver.Config{Restrict: driver.DataOnly()}
		for _, cfg := range []driver.Config{restricted, {MinWait: time.Microsecond}} {
			d := e.open(cfg)
			r, w := e.pipe()
			read := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
			for range 100 {
				must(e, d, ops.Nop())
				time.Sleep(10 * time.Microsecond)
			}
			if n := d.Stats().Dozes; n > 0 {
				e.Errorf("%+v: %d times", cfg, n)
			}
			e.write(w, []byte{1})
			if got := read.Wait(context.Background()); got.N != 1 {
				e.Errorf("%+v", got)
			}
		}
	})
}

// TestCloseDozing closes a driver that dozes. What is in its ring is cancelled, and how that ends is announced.
func TestCloseDozing(t *testing.T) {
	on(t, []way{onUring}, func(e *rig) {
		for range size(5, 100) {
			d := e.open(driver.Config{})
			r, _ := e.pipe()
			read := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
			e.doze(d)
			e.shut(d)
			if got := read.Wait(context.Background()); got.Err == nil {
				e.Errorf("%+v", got)
			}
		}
	})
}

// TestDozesWithNothingQueued has a kernel take nothing of what is submitted before the driver dozes, or say that it is busy: it does not doze then, as
// nobody would submit it again.
func TestDozesWithNothingQueued(t *testing.T) {
	reluctance := map[string]ring.FaultConfig{
		"nothing is taken":   {Limit: 1},
		"the kernel is busy": {EnterFails: 1, EnterErrnos: []syscall.Errno{syscall.EBUSY}},
	}
	on(t, []way{onUring}, func(e *rig) {
		for what, faults := range reluctance {
			d := e.opened(e.behind(ring.Linux(), ring.FaultConfig{}, driver.Config{}))
			r, w := e.pipe()
			read := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
			for range size(20, 500) {
				e.doze(d)
				before := e.fault.Stats()
				e.fault.Set(faults)
				nop := driver.Submit(d, ops.Nop())
				e.eventually(what, func() bool {
					now := e.fault.Stats()
					return now.Limited > before.Limited || now.Failed > before.Failed
				})
				e.fault.Set(ring.FaultConfig{})
				if got := result(e, nop); got.Err != nil {
					e.Fatalf("%s: %+v", what, got)
				}
			}
			e.write(w, []byte{1})
			if got := result(e, read); got.N != 1 {
				e.Errorf("%s: %+v", what, got)
			}
		}
	})
}

// TestDozesInBubble has a driver doze in a bubble of package synctest. Once nothing is in its ring, time goes on there, and then it can doze again.
func TestDozesInBubble(t *testing.T) {
	on(t, []way{onUring}, func(e *rig) {
		cfg := driver.Config{Entries: 4, InFlight: 16}
		r, w := e.pipe()
		e.bubble(cfg, func(d *driver.Driver) {
			for range 3 {
				read := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
				before := d.Stats().Dozes
				for begin := unixTime(e); d.Stats().Dozes == before; {
					must(e, d, ops.Nop())
					if err := unix.Nanosleep(&unix.Timespec{Nsec: 1e5}, nil); err != nil && err != unix.EINTR {
						e.Fatal(err)
					}
					if unixTime(e)-begin > patience {
						e.Error("the driver does not doze")
						break
					}
				}
				e.write(w, []byte{1})
				if r := read.Wait(context.Background()); r.N != 1 {
					e.Errorf("%+v", r)
				}
				time.Sleep(time.Hour)
			}
		})
	})
}
