package driver_test

import (
	"context"
	"runtime"
	"testing"

	"uringo/driver"
	"uringo/ops"
)

// Somebody who is no task of the guest is told a result, and there is no processor but the driver's: who was told has submitted the next
// operation before the driver waits in the kernel.
func TestGuestDriverGivesWay(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	withCrew(t, driver.Config{}, func(e *rig, d *driver.Driver, _ *crew) {
		const n = 200
		ways := map[string]func(){
			"an operation": func() {
				if r := driver.Submit(d, ops.Nop()).Wait(context.Background()); r.Err != nil {
					e.Errorf("an operation: %v", r.Err)
				}
			},
			"a chain": func() {
				var c driver.Chain
				driver.Link(&c, ops.Nop())
				last := driver.Link(&c, ops.Nop())
				if err := c.Submit(d); err != nil {
					e.Errorf("a chain: %v", err)
				}
				if r := last.Wait(context.Background()); r.Err != nil {
					e.Errorf("the end of a chain: %v", r.Err)
				}
			},
		}
		for what, do := range ways {
			before := d.Stats()
			for range n {
				do()
			}
			after := d.Stats()
			// Only the kernel's own ring counts them, and one that fails now and then wakes up by itself.
			if woken := after.Wakeups - before.Wakeups; woken > n/2 {
				e.Errorf("the driver was woken %d times during %d times %s", woken, n, what)
			}
		}
	})
}

// A task of the guest starts a goroutine and waits for it, and there is no processor but the driver's: the goroutine has run before the driver
// waits in the kernel.
func TestGuestDriverGivesWayToNobodyItKnows(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	withCrew(t, driver.Config{}, func(e *rig, d *driver.Driver, c *crew) {
		const n = 200
		before := d.Stats().Wakeups
		for range n {
			done := make(chan struct{})
			c.run(func() {
				go func() {
					d.Poke()
					close(done)
				}()
			})
			<-done
		}
		if woken := d.Stats().Wakeups - before; woken > n/2 {
			e.Errorf("the driver was woken %d times by %d goroutines", woken, n)
		}
	})
}
