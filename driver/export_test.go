package driver

// Driver returns the driver that the operation was given to.
func (p *Pending[T]) Driver() *Driver { return p.d }
