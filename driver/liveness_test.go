package driver_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// More senders than there are places wait for room, and those who make it come after them.
func TestBlockedSendersLeavePlaces(t *testing.T) { // HAZARDS H18
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{Entries: 4, InFlight: 16})
		const n, size = 40, 1 << 20
		var readers []int
		var sent []*driver.Pending[[]byte]
		for range n {
			r, w := e.sockets()
			readers = append(readers, r)
			if err := unix.SetsockoptInt(w, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096); err != nil {
				e.Fatal(err)
			}
			e.stuff(w)
			sent = append(sent, driver.Submit(d, ops.Send(w, make([]byte, 1), 0)))
		}
		for _, r := range readers {
			p := driver.Submit(d, ops.Recv(r, make([]byte, size), 0))
			e.soon("a receiver", func() { <-p.Done() })
		}
		for _, p := range sent {
			e.soon("a sender", func() { <-p.Done() })
		}
	})
}

// Whoever has something to read and to write all the time leaves places to others.
func TestFloodLeavesPlaces(t *testing.T) { // HAZARDS H41
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{Entries: 4, InFlight: 16})
		zero, null := e.keep(unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)), e.keep(unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0))
		var stop atomic.Bool
		var rows sync.WaitGroup
		for i := range 100 {
			rows.Add(1)
			var next func(ops.Result[[]byte])
			next = func(r ops.Result[[]byte]) {
				switch {
				case r.Err != nil:
					e.Error(r.Err)
					fallthrough
				case stop.Load():
					rows.Done()
				case i%2 == 0:
					driver.Submit(d, ops.ReadAt(zero, r.Buf, 0)).OnEnd(next)
				default:
					driver.Submit(d, ops.WriteAt(null, r.Buf, 0)).OnEnd(next)
				}
			}
			next(ops.Result[[]byte]{Buf: make([]byte, 8)})
		}
		for range size(20, 1000) {
			must(e, d, ops.Nop())
		}
		stop.Store(true)
		e.soon("the flood", rows.Wait)
	})
}

// Receivers and senders that wait, as many as may, leave a place to who waits for nobody.
func TestBlockedOnesLeavePlaces(t *testing.T) { // HAZARDS H18
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{Entries: 4, InFlight: 16})
		for range 20 {
			full, _ := e.sockets()
			e.stuff(full)
			driver.Submit(d, ops.Send(full, make([]byte, 4096), 0))
			driver.Submit(d, ops.Recv(full, make([]byte, 1), 0))
		}
		must(e, d, ops.Nop())
	})
}

// A chain that waits as too many others receive holds up nobody who does not.
func TestChainOfReceiversLeavesPlaces(t *testing.T) { // HAZARDS H18
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{Entries: 4, InFlight: 16})
		for range 20 {
			quiet, _ := e.sockets()
			driver.Submit(d, ops.Recv(quiet, make([]byte, 1), 0))
		}
		e.eventually("as many receive as may", func() bool { return d.Stats().InFlight == 10 })
		var c driver.Chain
		for range 3 {
			quiet, _ := e.sockets()
			driver.Link(&c, ops.ReadAt(quiet, make([]byte, 1), -1))
		}
		if err := c.Submit(d); err != nil {
			e.Fatal(err)
		}
		for range 2 {
			_, full := e.sockets()
			e.stuff(full)
			driver.Submit(d, ops.Send(full, make([]byte, 4096), 0))
		}
		must(e, d, ops.Nop())
	})
}

// A chain for which there are never as many places at once goes through one by one, and holds up nobody meanwhile.
func TestChainsAmongThoseWhoWait(t *testing.T) { // HAZARDS H18
	on(t, engines, func(e *rig) {
		for _, c := range []struct{ receivers, senders int }{{9, 0}, {0, 9}, {10, 2}, {10, 3}} {
			d := e.open(driver.Config{Entries: 4, InFlight: 16}) // 10 of a kind may wait, 13 of both, and 14 run
			for range c.receivers {
				quiet, _ := e.sockets()
				driver.Submit(d, ops.Recv(quiet, make([]byte, 1), 0))
			}
			for range c.senders {
				full, _ := e.sockets()
				e.stuff(full)
				driver.Submit(d, ops.Send(full, make([]byte, 4096), 0))
			}
			e.eventually("they wait", func() bool { return d.Stats().InFlight == c.receivers+c.senders })
			if c.senders == 0 {
				r, w := e.pipe()
				e.write(w, []byte("abc"))
				var reads driver.Chain
				var last *driver.Pending[[]byte]
				for range 3 {
					last = driver.Link(&reads, ops.ReadAt(r, make([]byte, 1), -1))
				}
				e.submit(d, &reads)
				wants(e, "a read", last, 1, nil)
			}
			if c.receivers == 0 {
				fd := e.file(nil)
				var writes driver.Chain
				var last *driver.Pending[[]byte]
				for i := range 3 {
					last = driver.Link(&writes, ops.WriteAt(fd, []byte{1}, int64(i)))
				}
				e.submit(d, &writes)
				wants(e, "a write", last, 1, nil)
			}
			var others driver.Chain
			var last *driver.Pending[struct{}]
			for range 3 {
				last = driver.HardLink(&others, ops.Nop())
			}
			e.submit(d, &others)
			must(e, d, ops.Nop())
			wants(e, "a no-op", last, 0, nil)
		}
	})
}

// Who splices into pipes that are full leaves places to those who read them.
func TestBlockedSplicesLeavePlaces(t *testing.T) { // HAZARDS H18
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{Entries: 4, InFlight: 16})
		fd := e.file([]byte("abc"))
		var readers []int
		var spliced []*driver.Pending[struct{}]
		for range 20 {
			r, w := e.pipe()
			e.write(w, make([]byte, 1<<16))
			readers = append(readers, r)
			spliced = append(spliced, driver.Submit(d, ops.Splice(fd, 0, w, -1, 3, 0)))
		}
		for _, r := range readers {
			p := driver.Submit(d, ops.ReadAt(r, make([]byte, 1<<16), -1))
			e.soon("a reader", func() { <-p.Done() })
		}
		for _, p := range spliced {
			wants(e, "splice", p, 3, nil)
		}
	})
}

// What is linked behind those who wait leaves places to others, too.
func TestChainsBehindThoseWhoWaitLeavePlaces(t *testing.T) { // HAZARDS H18
	type adds func(c *driver.Chain, empty, full int)
	read := func(c *driver.Chain, empty, _ int) { driver.HardLink(c, ops.ReadAt(empty, make([]byte, 1), -1)) }
	write := func(c *driver.Chain, _, full int) { driver.HardLink(c, ops.WriteAt(full, make([]byte, 1), -1)) }
	nop := func(c *driver.Chain, _, _ int) { driver.HardLink(c, ops.Nop()) }
	on(t, engines, func(e *rig) {
		for i, links := range [][2]adds{{read, nop}, {read, read}, {read, write}, {write, nop}, {write, read}, {write, write}} {
			d := e.open(driver.Config{Entries: 4, InFlight: 16})
			for range 8 {
				empty, _ := e.pipe()
				_, full := e.pipe()
				e.write(full, make([]byte, 1<<16))
				var c driver.Chain
				links[0](&c, empty, full)
				links[1](&c, empty, full)
				links[1](&c, empty, full)
				e.submit(d, &c)
			}
			d.Stats() // it has all of them, and has made a pass
			must(e, d, ops.Nop())
			r, w := e.pipe()
			if i < 3 { // they wait for somebody who writes
				must(e, d, ops.WriteAt(w, []byte{1}, -1))
			} else {
				e.write(w, []byte{1})
				must(e, d, ops.ReadAt(r, make([]byte, 1), -1))
			}
		}
	})
}
