package driver_test

import (
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
