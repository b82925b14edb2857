package driver

import (
	"time"
	"unsafe"
)

// What is behind done is for incidents. The operation is larger than a cache line, and this does not compile if that costs a fourth one.
var _ [3*64 - unsafe.Offsetof(Request{}.done)]byte

// Driver returns the driver that the operation was given to.
func (p *Pending[T]) Driver() *Driver { return p.d }

// IntakeFull reports whether the channel of d has no room.
func IntakeFull(d *Driver) bool { return len(d.intake) == cap(d.intake) }

// Waiting returns how many messages wait in the channel of d.
func Waiting(d *Driver) int { return len(d.intake) }

// Asleep reports whether d waits in the kernel, or is about to.
func Asleep(d *Driver) bool { return d.status.Load() == asleep }

// WithPatience returns cfg with another closePatience, for tests in which nothing else may end a Close.
func WithPatience(cfg Config, d time.Duration) Config {
	cfg.patience = d
	return cfg
}
