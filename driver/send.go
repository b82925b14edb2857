package driver

import "go.uber.org/zap"

// Send hands over a request, or several linked by Next, in one message. It never waits for the kernel. Each of them is told
// its end through its Waiter, also when the driver is closed.
func (d *Driver) Send(r *Request) {
	if d.spilled.some.Load() && d.spills() {
		d.spill(r) // behind what it has sent before
		return
	}
	select {
	case d.intake <- r:
	default:
		switch {
		case d.spills():
			d.spill(r)
			return
		case d.OnDriver():
			// From a guest: nobody else could make room.
			defer d.inside(func(d *Driver) { d.accept(r) }) // deferred, as somebody who is told may call Goexit
			d.inside((*Driver).takeIn)
			return
		}
		d.intake <- r
	}
	d.nudge()
}

// spills reports whether the caller must not wait until there is room in the channel.
func (d *Driver) spills() bool {
	return d.telling.Load() > 0 || // maybe it is a function that the driver calls, and waits for
		d.otherHere() != nil // another's guest: the two could wait for each other
}

// tellUser calls a function of the user's, who is told something and may send what comes next. It is called by the driver goroutine, or by
// who empties the channel of a driver that has ended; or it is no driver's matter, and d is nil.
func (d *Driver) tellUser(f func()) {
	if d == nil {
		f()
		return
	}
	d.telling.Add(1)
	defer d.telling.Add(-1)
	f()
}

// spill is Send for those who must not wait until there is room in the channel.
func (d *Driver) spill(r *Request) {
	d.spilled.put(r)
	d.Poke()
}

// nudge makes sure that somebody looks at what was just put into the channel. When the driver has ended, that is the caller.
func (d *Driver) nudge() { d.rouse((*Driver).sweep) }

// rouse is nudge, with what to do when the driver has ended.
func (d *Driver) rouse(sweep func(*Driver)) {
	switch d.status.Load() {
	case asleep:
		// Of all that send while the driver sleeps, one wakes it.
		if d.status.CompareAndSwap(asleep, awake) {
			d.ring.Wake()
		}
	case dead:
		sweep(d)
		select {
		case d.after <- struct{}{}:
		default:
		}
	}
}

// do has f called on the driver goroutine. If the driver is gone, f is not called and do returns false; or if it ends in f, not to the end.
func (d *Driver) do(f func()) bool {
	if d.status.Load() == dead {
		return false
	}
	ran := make(chan bool, 1)
	h := d.host()
	over := func(well bool) {
		if ran <- well; h != nil {
			h.Poke()
		}
	}
	d.Send(&Request{waiter: swept(func() { over(false) }), control: func() {
		well := false
		defer func() { over(well) }() // also if f tells somebody something who makes a mistake
		f()
		well = true
	}})
	if h != nil {
		h.Attend(func() bool { return len(ran) > 0 })
	}
	return <-ran
}

// doInside is do, for callers that may run on the driver goroutine.
func (d *Driver) doInside(f func()) bool {
	if d.OnDriver() {
		f()
		return true
	}
	return d.do(f)
}

// later has f called on the driver goroutine, some time, unless the driver ends first. It never waits: who calls it may hold a lock that
// the driver's guest needs.
func (d *Driver) later(f func()) {
	if d.status.Load() == dead {
		return
	}
	r := &Request{control: f, waiter: swept(func() {})}
	select {
	case d.intake <- r:
		d.rouse((*Driver).sweepElsewhere)
	default:
		d.spill(r)
	}
}

// swept is the waiter of a control message: told when the message found nobody.
type swept func()

func (s swept) Complete(*Request) { s() }

// sweep fails what is in the channel of a driver that has ended. Whoever put something there calls it, and leaves it to another who is at it
// already: that may be the caller itself, who was told of an end and sends what comes next.
func (d *Driver) sweep() {
	for (len(d.intake) > 0 || d.spilled.some.Load()) && d.sweeping.TryLock() {
		d.sweepLocked()
	}
}

// sweepElsewhere is sweep for who may hold a lock that those need who are told.
func (d *Driver) sweepElsewhere() {
	if len(d.intake) == 0 && !d.spilled.some.Load() {
		return
	}
	go func() {
		defer func() {
			if p := recover(); p != nil { // as it would end the driver, were that not over
				d.log.Error("somebody told of the end of a driver", zap.Error(mistake(p)))
			}
		}()
		d.sweep()
	}()
}

// sweepLocked is sweep for who holds its lock, and unlocks it.
func (d *Driver) sweepLocked() {
	swept := false
	defer func() {
		if d.sweeping.Unlock(); !swept {
			d.sweep() // somebody who was told has made a mistake, and others may have left it to us meanwhile
		}
	}()
	d.sweepAll()
	swept = true
}

func (d *Driver) sweepAll() {
	swept := false
	defer func() {
		if !swept {
			d.sweepAll() // somebody who was told has made a mistake: there are others to tell
		}
	}()
	for {
		d.tell() // also what a mistake has left
		select {
		case r := <-d.intake:
			d.taking = append(d.taking, r)
		default:
			if d.taking = append(d.taking, d.spilled.take()...); len(d.taking) == 0 {
				swept = true
				return
			}
		}
		d.refuseTaken()
	}
}

// refuseTaken refuses what was taken out of the channel. When somebody who is told interrupts it, the next call goes on.
func (d *Driver) refuseTaken() {
	for len(d.taking) > 0 {
		r := d.taking[0]
		d.taking = d.taking[1:]
		d.refuse(r)
	}
	d.taking = nil
}

// refuse fails a message that came too late.
func (d *Driver) refuse(r *Request) {
	defer func() {
		if r != nil {
			d.taking = append(d.taking, r)
		}
	}()
	for r != nil {
		one := r
		r, one.Next = one.Next, nil
		if one.waiter != nil {
			one.touch.takeBack()
			one.n, one.err = 0, d.refusal()
			one.waiter.Complete(one)
		}
	}
	d.tell()
}
