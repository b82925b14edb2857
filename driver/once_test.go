package driver_test

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// What closes a descriptor has done so also if it was interrupted, and the number may be somebody else's by then. It is not repeated, and
// whoever asked for the end of the operation, or of the driver, does not make it look as if it had not been done.
func TestCloseIsDoneOnce(t *testing.T) { // HAZARDS T4
	for _, when := range []string{"at once", "cancelled", "at the end of the driver"} {
		t.Run(when, func(t *testing.T) {
			for _, res := range []int32{-int32(syscall.EINTR), -512, -int32(syscall.EIO)} {
				var calls atomic.Int32
				begun, goOn := make(chan struct{}, 1), make(chan struct{})
				table := *ops.Calls()
				table[ring.OpClose] = ring.Call{Do: func(*ring.SQE) int32 {
					calls.Add(1)
					select {
					case begun <- struct{}{}:
					default:
					}
					<-goOn
					return res
				}}
				on(t, []way{{fmt.Sprint(res), driver.Portable, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
					return e.behind(ring.NewPortable(&table, 4), ring.FaultConfig{}, cfg)
				}}}, func(e *rig) {
					d := e.open(driver.Config{})
					p := driver.Submit(d, ops.Close(7)) // which the call does not
					<-begun
					switch when {
					case "cancelled":
						p.Cancel()
						d.Stats()
					case "at the end of the driver":
						go e.shut(d)
						e.eventually("it closes", func() bool { return do(e, d, ops.Nop()).Err == driver.ErrClosed })
						time.Sleep(time.Millisecond)
					}
					close(goOn)
					want := syscall.Errno(-res)
					if res == -512 {
						want = syscall.EINTR
					}
					if r := result(e, p); r.Err != want {
						e.Errorf("close: %v, want %v", r.Err, want)
					}
					if n := calls.Load(); n != 1 {
						e.Errorf("called %d times", n)
					}
				})
			}
		})
	}
}
