package driver_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"uringo/driver"
	"uringo/ops"
)

// TestSpins waits for what takes a few microseconds until the driver has found out that it need not sleep for that.
func TestSpins(t *testing.T) {
	on(t, []way{onUring, onLocked}, func(e *rig) {
		d := e.open(driver.Config{})
		e.eventually("a timeout while the driver looks out for it", func() bool {
			for range 256 {
				if err := driver.Submit(d, ops.Timeout(3*time.Microsecond)).Wait(t.Context()).Err; err != nil {
					e.Fatal(err)
				}
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
				if err := driver.Submit(d, ops.Timeout(3*time.Microsecond)).Wait(t.Context()).Err; err != nil {
					e.Fatal(err)
				}
			}
			if n := d.Stats().Spins; n > 0 {
				e.Errorf("%d times with Spin %v, MinWait %v", n, cfg.Spin, cfg.MinWait)
			}
		}
	})
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
