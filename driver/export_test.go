package driver

// Driver returns the driver that the operation was given to.
func (p *Pending[T]) Driver() *Driver { return p.d }

// IntakeFull reports whether the channel of d has no room.
func IntakeFull(d *Driver) bool { return len(d.intake) == cap(d.intake) }
