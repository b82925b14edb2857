package driver_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// Files in the ring's table work, and where there is no table, nobody's descriptor is taken for one.
func TestDirect(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		dir, name := e.fifo()
		o := do(e, d, ops.OpenDirect(dir, name, unix.O_RDWR|unix.O_CLOEXEC, 0))
		if strings.Contains(e.name, "portable") || e.sim != nil {
			if got := do(e, d, direct(ops.ReadAt(0, make([]byte, 1), -1))); o.Err != syscall.ENXIO || got.Err != syscall.ENXIO {
				e.Errorf("open: %v, read: %v; want ENXIO", o.Err, got.Err)
			}
			return
		}
		if o.Err != nil {
			e.Fatal(o.Err)
		}
		call := direct(ops.ReadAt(o.N, make([]byte, 1), -1))
		call.Route = ops.RouteCall
		if got := do(e, d, call); got.Err != syscall.EOPNOTSUPP {
			e.Errorf("a plain call on a place of the table: %v", got.Err)
		}

		// A cancellation means descriptors or places, whatever their numbers.
		p := driver.Submit(d, direct(ops.ReadAt(o.N, make([]byte, 10), -1)))
		pending(e, p)
		do(e, d, ops.CancelFD(o.N))
		pending(e, p)
		if n := must(e, d, ops.CancelDirect(o.N)); n != 1 {
			e.Errorf("%d found", n)
		}
		if got := result(e, p); got.Err != syscall.ECANCELED {
			e.Errorf("%+v", got)
		}

		if n := must(e, d, direct(ops.WriteAt(o.N, []byte("hello"), -1))); n != 5 {
			e.Errorf("wrote %d", n)
		}
		if got := do(e, d, direct(ops.ReadAt(o.N, make([]byte, 10), -1))); got.Err != nil || string(got.Buf[:got.N]) != "hello" {
			e.Errorf("%+v", got)
		}
		if i := do(e, d, ops.InstallDirect(o.N)); i.Err == nil {
			e.keep(i.N, nil)
		} else if i.Err != syscall.EOPNOTSUPP { // before 6.8
			e.Error(i.Err)
		}
		must(e, d, ops.CloseDirect(o.N))
		if got := do(e, d, direct(ops.ReadAt(o.N, make([]byte, 1), -1))); got.Err != syscall.EBADF {
			e.Errorf("after closing: %v", got.Err)
		}
		if got := do(e, d, ops.CloseDirect(o.N)); got.Err != syscall.EBADF {
			e.Errorf("closing twice: %v", got.Err)
		}
	})
}

// To close a place is no operation on a descriptor: who cancels what there is on descriptor 0 does not mean it.
func TestCloseDirectIsOnNoDescriptor(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		r, w := e.pipe()
		var c driver.Chain
		first := driver.Link(&c, ops.ReadAt(r, make([]byte, 1), -1))
		z := driver.Link(&c, ops.CloseDirect(0))
		e.submit(d, &c)
		d.CancelDescriptor(0, false, func() bool { return true })
		must(e, d, ops.Nop()) // after that
		e.write(w, []byte("x"))
		wants(e, "read", first, 1, nil)
		if got := result(e, z); got.Err != syscall.EBADF && got.Err != syscall.ENXIO { // nothing is open there
			e.Errorf("close: %v", got.Err)
		}
	})
}

// A place that an abandoned open fills is emptied.
func TestAbandonedDirect(t *testing.T) { // HAZARDS T6
	on(t, abandoning[:1], func(e *rig) {
		d := e.open(driver.Config{CancelGrace: time.Nanosecond})
		e.swallowCancels()
		dir, name := e.fifo()
		const n = 4 // not more than there are workers
		for i := range n {
			op := ops.OpenDirect(dir, name, unix.O_RDONLY|unix.O_CREAT, 0o600)
			if i%2 == 1 {
				op = ops.OpenDirectAt(i, dir, name, unix.O_RDONLY|unix.O_CREAT, 0o600)
			}
			p := driver.Submit(d, op)
			pending(e, p)
			p.Cancel()
			if got := result(e, p); got.Err != driver.ErrAbandoned {
				e.Fatalf("open %d: %+v", i, got)
			}
		}
		w, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			e.Fatal(err)
		}
		e.eventually("the opens end", func() bool { return d.Stats().AbandonedDone == n })
		unix.Close(w)
		e.eventually("nobody reads any more", func() bool {
			w, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err == nil {
				unix.Close(w)
			}
			return err == syscall.ENXIO
		})
		e.fault.Set(ring.FaultConfig{})
	})
}

// A place is given back by an abandoned open when that has been emptied: what the next one puts there stays.
func TestAbandonedPlace(t *testing.T) {
	on(t, abandoning[:1], func(e *rig) {
		d := e.open(driver.Config{CancelGrace: time.Nanosecond})
		e.swallowCancels()
		dir, name := e.fifo()
		place, ok := d.TakePlace()
		if !ok {
			e.Fatal("no place")
		}
		type next struct {
			open, end *driver.Pending[struct{}]
			read      *driver.Pending[[]byte]
		}
		given := make(chan next, 1)
		op := ops.OpenDirectAt(place, dir, name, unix.O_RDONLY|unix.O_CREAT, 0o600)
		op.Release = func() {
			d.ReleasePlace(place)
			place, _ := d.TakePlace()
			var c driver.Chain
			var n next
			n.open = driver.Link(&c, ops.OpenDirectAt(place, unix.AT_FDCWD, "/dev/zero", unix.O_RDONLY, 0))
			n.read = driver.Link(&c, direct(ops.ReadAt(place, make([]byte, 1), -1)))
			n.end = driver.Link(&c, ops.CloseDirect(place))
			e.submit(d, &c)
			given <- n
		}
		p := driver.Submit(d, op)
		pending(e, p)
		p.Cancel()
		if got := result(e, p); got.Err == syscall.ENXIO {
			e.Skip("needs direct descriptors (6.0)")
		} else if got.Err != driver.ErrAbandoned {
			e.Fatalf("%+v", got)
		}
		w := e.keep(unix.Openat(dir, name, unix.O_WRONLY|unix.O_CLOEXEC, 0))
		n := <-given
		wants(e, "open", n.open, 0, nil)
		wants(e, "read", n.read, 1, nil)
		wants(e, "close", n.end, 0, nil)
		if _, err := unix.Write(w, []byte("x")); err != syscall.EPIPE {
			e.Errorf("writing to the one that was abandoned: %v", err)
		}
		e.fault.Set(ring.FaultConfig{})
	})
}

// direct has an operation mean a place of the ring's table.
func direct[T any](op ops.Op[T]) ops.Op[T] {
	op.Flags |= ops.Direct
	return op
}

// Open, read and close are one chain, in a place that was known before. A read that is cut short is taken up, and the close waits for it.
func TestDirectChain(t *testing.T) { // G10
	on(t, chaining, func(e *rig) {
		d := e.open(driver.Config{})
		dir, name := e.fifo()
		place, ok := d.TakePlace()
		if !ok {
			e.Fatal("no place")
		}
		defer d.ReleasePlace(place)
		probe := do(e, d, ops.OpenDirectAt(place, unix.AT_FDCWD, "/dev/null", unix.O_RDONLY, 0))
		if probe.Err == syscall.ENXIO {
			if strings.HasPrefix(e.name, "uring") || e.name == "locked" {
				e.Skip("needs direct descriptors (6.0)")
			}
			return // no table
		}
		if probe.Err != nil || probe.N != 0 {
			e.Fatalf("%+v", probe)
		}
		for round := range 10 {
			w := e.keep(unix.Openat(dir, name, unix.O_RDWR|unix.O_CLOEXEC, 0))
			e.write(w, []byte("0123"))
			var c driver.Chain
			o := driver.Link(&c, ops.OpenDirectAt(place, dir, name, unix.O_RDONLY, 0)) // instead of what is there, or not
			r := driver.Link(&c, direct(ops.ReadAt(place, make([]byte, 10), -1)))
			z := driver.Link(&c, ops.CloseDirect(place))
			e.submit(d, &c)
			wants(e, "open", o, 0, nil)
			pending(e, r)
			e.write(w, []byte("45678"))
			pending(e, z)
			e.write(w, []byte("9"))
			if got := result(e, r); got.N != 10 || got.Err != nil || string(got.Buf) != "0123456789" {
				e.Fatalf("round %d: read %d, %v: %q", round, got.N, got.Err, got.Buf)
			}
			wants(e, "close", z, 0, nil)
		}
		if got := do(e, d, direct(ops.ReadAt(place, make([]byte, 1), -1))); got.Err != syscall.EBADF {
			e.Errorf("after closing: %v", got.Err)
		}

		// What cannot be opened is neither read nor closed; and a file that ends too early is left open, for whoever wants more of it.
		for file, want := range map[string]error{"none": syscall.ENOENT, "/dev/null": nil} {
			var c driver.Chain
			o := driver.Link(&c, ops.OpenDirectAt(place, dir, file, unix.O_RDONLY, 0))
			r := driver.Link(&c, direct(ops.ReadAt(place, make([]byte, 1), 0)))
			z := driver.Link(&c, ops.CloseDirect(place))
			e.submit(d, &c)
			wants(e, "open "+file, o, 0, want)
			if want != nil {
				wants(e, "read "+file, r, 0, syscall.ECANCELED)
			} else {
				wants(e, "read "+file, r, 0, nil)
			}
			wants(e, "close "+file, z, 0, syscall.ECANCELED)
		}
		must(e, d, ops.CloseDirect(place))
	})
}

// There are so many places to take and no more, and other opens do not go there.
func TestPlaces(t *testing.T) { // G11
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		var places []int
		for {
			place, ok := d.TakePlace()
			if !ok {
				break
			}
			places = append(places, place)
		}
		slices.Sort(places)
		if n := len(slices.Compact(places)); n != 64 {
			e.Errorf("%d places", n)
		}
		d.ReleasePlace(7)
		if place, ok := d.TakePlace(); place != 7 || !ok {
			e.Errorf("place %d, %v", place, ok)
		}
		o := do(e, d, ops.OpenDirect(unix.AT_FDCWD, "/dev/null", unix.O_RDONLY, 0))
		if o.Err == syscall.ENXIO {
			return // no table
		}
		if o.Err != nil || o.N < 64 {
			e.Errorf("the kernel chose %d, %v", o.N, o.Err)
		}
		if got := do(e, d, ops.OpenDirectAt(64, unix.AT_FDCWD, "/dev/null", unix.O_RDONLY, 0)); got.Err != syscall.ENFILE {
			e.Errorf("a place that was not taken: %v", got.Err)
		}

		// An open that comes too late for its caller empties the place.
		p := driver.Submit(d, ops.OpenDirectAt(3, unix.AT_FDCWD, "/dev/null", unix.O_RDONLY, 0))
		p.Cancel()
		if r := result(e, p); r.Err == nil {
			must(e, d, ops.CloseDirect(3))
		}
		if got := do(e, d, direct(ops.ReadAt(3, make([]byte, 1), -1))); got.Err != syscall.EBADF {
			e.Errorf("%+v", got)
		}
	})
}

// A connection can be made, used and ended in the table alone.
func TestDirectSockets(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		l, addr := e.listener()
		var peer ops.Peer
		if strings.Contains(e.name, "portable") || e.sim != nil {
			for what, op := range map[string]ops.Op[struct{}]{
				"socket": ops.SocketDirect(unix.AF_INET, unix.SOCK_STREAM, 0), "accept": ops.AcceptDirect(l, 0, &peer), "put": ops.PutDirect(l),
			} {
				if got := do(e, d, op); got.Err != syscall.ENXIO {
					e.Errorf("%s: %v, want ENXIO", what, got.Err)
				}
			}
			return
		}
		on := func(place int, op ops.Op[[]byte]) int {
			op.FD = int32(place)
			return must(e, d, direct(op))
		}
		for range 5 {
			client := must(e, d, ops.SocketDirect(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0))
			connect := ops.Connect(client, addr)
			connect.Flags |= ops.Direct
			p := driver.Submit(d, ops.AcceptDirect(l, 0, &peer))
			must(e, d, connect)
			accepted := result(e, p)
			if accepted.Err != nil {
				e.Fatal(accepted.Err)
			}
			server := accepted.N
			if sa, ok := peer.Addr().(*unix.SockaddrInet4); !ok || sa.Addr != [4]byte{127, 0, 0, 1} || sa.Port == 0 {
				e.Errorf("accepted %v", peer.Addr())
			}
			if n := on(client, ops.Send(client, []byte("hello"), 0)); n != 5 {
				e.Errorf("sent %d", n)
			}
			buf := make([]byte, 10)
			if n := on(server, ops.Recv(server, buf, 0)); string(buf[:n]) != "hello" {
				e.Errorf("received %q", buf[:n])
			}
			shutdown := ops.Shutdown(server, unix.SHUT_WR)
			shutdown.Flags |= ops.Direct
			must(e, d, shutdown)
			if n := on(client, ops.Recv(client, buf, 0)); n != 0 {
				e.Errorf("received %d bytes at the end", n)
			}
			if s := d.Stats(); s.Direct != 2 {
				e.Errorf("%d places are taken", s.Direct)
			}
			must(e, d, ops.CloseDirect(client))
			must(e, d, ops.CloseDirect(server))
		}
		a, b := e.sockets()
		place := must(e, d, ops.PutDirect(a))
		e.write(b, []byte("x"))
		if n := on(place, ops.Recv(place, make([]byte, 10), 0)); n != 1 {
			e.Errorf("received %d", n)
		}
		must(e, d, ops.CloseDirect(place))
		if got := do(e, d, ops.PutDirect(-1)); got.Err != syscall.EBADF {
			e.Errorf("nothing in the table: %v", got.Err)
		}
		if got := do(e, d, ops.CloseDirect(place)); got.Err != syscall.EBADF {
			e.Errorf("closing twice: %v", got.Err)
		}
		if s := d.Stats(); s.Direct != 0 {
			e.Errorf("%d places are taken", s.Direct)
		}
	})
}

// A full table is no reason to accept what there is no place for.
func TestDirectFull(t *testing.T) { // G11
	on(t, []way{onUring, onLocked}, func(e *rig) {
		var old unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			e.Fatal(err)
		}
		d := e.open(driver.Config{})
		l, addr := e.listener()
		const files, table = 64, 48 // a quarter is for TakePlace
		if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: old.Max}, nil); err != nil {
			e.Fatal(err)
		}
		first := do(e, d, ops.PutDirect(l)) // makes the table
		if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &old, nil); err != nil {
			e.Fatal(err)
		}
		if first.Err != nil {
			e.Fatal(first.Err)
		}
		// One more waits than there are places.
		var waiting []*driver.Pending[struct{}]
		for range table {
			waiting = append(waiting, driver.Submit(d, ops.AcceptDirect(l, 0, nil)))
		}
		if got := result(e, waiting[table-1]); got.Err != syscall.ENFILE {
			e.Fatalf("beyond the last place: %+v", got)
		}
		var clients, places []int
		for range table - 1 {
			clients = append(clients, e.dial(addr))
		}
		for _, p := range waiting[:table-1] { // who is served first, the kernel chooses
			got := result(e, p)
			if got.Err != nil {
				e.Fatal(got.Err)
			}
			places = append(places, got.N)
		}
		last := e.dial(addr)
		if got := do(e, d, ops.AcceptDirect(l, 0, nil)); got.Err != syscall.ENFILE {
			e.Errorf("into a full table: %+v", got)
		}
		must(e, d, ops.CloseDirect(places[0]))
		places[0] = must(e, d, ops.AcceptDirect(l, 0, nil)) // it has waited

		// Nor for a chain that fills the last place.
		must(e, d, ops.CloseDirect(places[0]))
		clients = append(clients, e.dial(addr), e.dial(addr))
		var c driver.Chain
		one, two := driver.Link(&c, ops.AcceptDirect(l, 0, nil)), driver.HardLink(&c, ops.AcceptDirect(l, 0, nil))
		e.submit(d, &c)
		places[0] = result(e, one).N
		wants(e, "the second of a chain", two, 0, syscall.ENFILE)
		must(e, d, ops.CloseDirect(places[0]))
		p := driver.Submit(d, ops.AcceptDirect(l, 0, nil))
		got := result(e, p)
		if places[0] = got.N; got.Err != nil {
			e.Errorf("the connection that waited: %+v", got)
		}
		for _, place := range append(places, first.N) {
			must(e, d, ops.CloseDirect(place))
		}
		p = driver.Submit(d, ops.AcceptDirect(l, 0, nil))
		pending(e, p)
		p.Cancel()
		if got := result(e, p); got.Err != syscall.ECANCELED {
			e.Errorf("%+v", got)
		}
		if s := d.Stats(); s.Direct != 0 {
			e.Errorf("%d places are taken", s.Direct)
		}
		for _, fd := range append(clients, last) {
			unix.Close(fd)
		}
	})
}

// A connection that an abandoned accept takes is closed, and its place is free again.
func TestAbandonedAcceptDirect(t *testing.T) { // HAZARDS T6, M9
	on(t, abandoning[:1], func(e *rig) {
		d := e.open(driver.Config{CancelGrace: time.Nanosecond})
		e.swallowCancels()
		l, addr := e.listener()
		const n = 20
		for i := range n {
			p := driver.Submit(d, ops.AcceptDirect(l, 0, new(ops.Peer)))
			pending(e, p)
			p.Cancel()
			if got := result(e, p); got.Err != driver.ErrAbandoned {
				e.Fatalf("accept %d: %+v", i, got)
			}
		}
		for range n {
			client := e.dial(addr)
			unix.SetsockoptTimeval(client, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
			if got, err := unix.Read(client, make([]byte, 1)); got > 0 || err == unix.EAGAIN {
				e.Errorf("a client that nobody owns: %d, %v", got, err)
			}
			unix.Close(client)
		}
		e.eventually("no place is taken", func() bool { s := d.Stats(); return s.AbandonedDone == n && s.Direct == 0 })
		e.fault.Set(ring.FaultConfig{})
	})
}
