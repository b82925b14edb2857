package driver_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// TestSpins waits for what takes a few microseconds until the driver has found out that it need not sleep for that.
func TestSpins(t *testing.T) {
	on(t, []way{onUring, onLocked}, func(e *rig) {
		d := e.open(driver.Config{})
		e.eventually("a timeout while the driver looks out for it", func() bool {
			for range 256 {
				must(e, d, ops.Timeout(3*time.Microsecond))
			}
			return d.Stats().Spins > 0
		})
	})
}

// TestSpinsNot waits for the same where it is not asked for.
func TestSpinsNot(t *testing.T) {
	on(t, engines, func(e *rig) {
		for _, cfg := range []driver.Config{{Spin: -1}, {MinWait: time.Microsecond}} {
			d := e.open(cfg)
			for range size(1000, 100_000) {
				must(e, d, ops.Timeout(3*time.Microsecond))
			}
			if n := d.Stats().Spins; n > 0 {
				e.Errorf("%d times with Spin %v, MinWait %v", n, cfg.Spin, cfg.MinWait)
			}
		}
	})
}

// TestSpinsInBubble opens a driver in a bubble of package synctest, where the clock stands still while the driver looks out for what does not
// come. It falls asleep all the same.
func TestSpinsInBubble(t *testing.T) {
	on(t, []way{onUring, onLocked}, func(e *rig) {
		cfg := driver.Config{Entries: 4, InFlight: 4}
		r, w := e.pipe()
		e.bubble(cfg, func(d *driver.Driver) {
			read := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
			for begin := unixTime(e); !driver.Asleep(d); {
				if err := unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil); err != nil && err != unix.EINTR {
					e.Fatal(err)
				}
				if unixTime(e)-begin > patience {
					e.Error("the driver does not fall asleep")
					break
				}
			}
			e.write(w, []byte{1})
			if r := read.Wait(context.Background()); r.N != 1 {
				e.Errorf("%+v", r)
			}
		})
	})
}

// bubble opens a driver in a bubble of package synctest.
func (e *rig) bubble(cfg driver.Config, test func(d *driver.Driver)) {
	var why error
	synctest.Test(e.T, func(*testing.T) {
		d, err := e.make(e, cfg)
		if err != nil {
			why = err // skipping from here would end the bubble's goroutine and not the test
			return
		}
		defer e.shut(d)
		test(d)
	})
	if why != nil {
		e.opened(nil, why)
	}
}

// unixTime reads a clock that is nobody's bubble's.
func unixTime(e *rig) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		e.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

func TestSpinRange(t *testing.T) {
	if _, err := driver.Open(driver.Config{Spin: time.Second + 1}); err == nil || !strings.Contains(err.Error(), "Spin") {
		t.Errorf("more than a second: %v", err)
	}
}

// TestDashes has nothing but operations that end at once, one at a time, and waits until the driver has found out that it need not wait for
// them. With one processor, every other pass of the driver has one to submit.
func TestDashes(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	on(t, []way{onUring, onLocked}, func(e *rig) {
		d := e.open(driver.Config{Spin: -1})
		e.eventually("almost no operation is waited for", func() bool {
			before := d.Stats().Waits
			const n = 1024
			for range n {
				must(e, d, ops.Nop())
			}
			return d.Stats().Waits-before < n/8
		})
	})
}

// TestEveryOther has operations that end at once, or soon, by turns with others: the driver finds out about the former all the same.
func TestEveryOther(t *testing.T) {
	for _, c := range []struct {
		name         string
		cfg          driver.Config
		first, other ops.Op[struct{}]
		found        func(s driver.Stats, n int) bool
	}{
		{"at once", driver.Config{Spin: -1}, ops.Nop(), ops.Timeout(time.Millisecond), func(s driver.Stats, n int) bool { return int(s.Waits) < n*7/8 }},
		{"soon", driver.Config{Spin: 2 * time.Millisecond}, ops.Timeout(5 * time.Millisecond), ops.Timeout(50 * time.Microsecond),
			func(s driver.Stats, _ int) bool { return s.Spins > 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			on(t, []way{onUring}, func(e *rig) {
				const some = 4 * 64 // it tries one of so many
				d := e.open(c.cfg)
				for n := some; ; n += some { // where it is others' turn, soon may be late
					for range some / 2 {
						must(e, d, c.first)
						must(e, d, c.other)
					}
					s := d.Stats()
					if c.found(s, n) {
						break
					}
					if n == 20*some {
						e.Fatalf("of %d operations, every other of which ends %s, %d were waited for, and %d looked out for", n, c.name, s.Waits, s.Spins)
					}
				}
			})
		})
	}
}
