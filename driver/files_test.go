package driver_test

import (
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
			r := ops.ReadAt(0, make([]byte, 1), -1)
			r.Flags |= ops.Direct
			if got := do(e, d, r); o.Err != syscall.ENXIO || got.Err != syscall.ENXIO {
				e.Errorf("open: %v, read: %v; want ENXIO", o.Err, got.Err)
			}
			return
		}
		if o.Err != nil {
			e.Fatal(o.Err)
		}
		direct := func(op ops.Op[[]byte]) ops.Op[[]byte] {
			op.Flags |= ops.Direct
			return op
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

// A place that an abandoned open fills is emptied.
func TestAbandonedDirect(t *testing.T) { // HAZARDS T6
	on(t, abandoning[:1], func(e *rig) {
		d := e.open(driver.Config{CancelGrace: time.Nanosecond})
		e.swallowCancels()
		dir, name := e.fifo()
		const n = 4 // not more than there are workers
		for i := range n {
			p := driver.Submit(d, ops.OpenDirect(dir, name, unix.O_RDONLY|unix.O_CREAT, 0o600))
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
