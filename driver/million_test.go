package driver_test

import (
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// A million receives at once, on a driver that has places for 4096, whose callers are slow or will never ask. Others get on meanwhile, and
// so does what ends them; and the memory comes back.
func TestMillionPending(t *testing.T) { // HAZARDS T14
	on(t, engines, func(e *rig) {
		n := size(30_000, 1_000_000)
		d := e.open(driver.Config{InFlight: 4096})
		in, out := e.sockets()
		a, b := e.sockets()
		fresh := func() int {
			debug.FreeOSMemory()
			return resident(e)
		}
		before := fresh()
		began := time.Now()
		all := make([]*driver.Pending[[]byte], n)
		const submitters = 4
		e.together(submitters, func(i int) {
			for k := i; k < n; k += submitters {
				all[k] = driver.Submit(d, ops.Recv(in, make([]byte, 1), 0))
			}
		})
		e.eventually("all are there", func() bool { s := d.Stats(); return s.InFlight+s.Queued == n })
		submitted := time.Since(began)
		if s := d.Stats(); s.InFlight > 4096 || s.Overflows > 0 {
			e.Errorf("%d in flight, %d overflows", s.InFlight, s.Overflows)
		}
		grown := fresh() - before

		// What others do, and asking the driver itself, takes the time that it takes.
		beside := func() (worst, answer time.Duration) {
			var took []time.Duration
			buf := make([]byte, 64)
			for range size(50, 500) {
				began := time.Now()
				must(e, d, ops.Send(a, buf, 0))
				took = append(took, time.Since(began))
				if n, err := unix.Read(b, buf); n != len(buf) { // another receive would wait in the queue of the driver
					e.Errorf("read %d, %v", n, err)
				}
				began = time.Now()
				d.Stats()
				answer = max(answer, time.Since(began))
			}
			slices.Sort(took)
			return took[len(took)*99/100], answer
		}
		waiting, asked := beside()

		// A part of the callers takes what comes, slowly; nobody is there for the rest.
		var taken atomic.Int64
		var takers sync.WaitGroup
		for i := range 2 {
			takers.Go(func() {
				for k := i; k < n; k += 4 {
					if r := <-all[k].Done(); r.N == 1 && r.Err == nil {
						taken.Add(1)
					}
					if k%1000 == i {
						time.Sleep(time.Millisecond)
					}
				}
			})
		}
		var writes []time.Duration
		var during, askedDuring time.Duration
		var writer sync.WaitGroup
		writer.Go(func() {
			began = time.Now()
			piece := make([]byte, 512)
			for left := n; left > 0; {
				began := time.Now()
				left -= must(e, d, ops.Send(out, piece[:min(left, len(piece))], 0))
				writes = append(writes, time.Since(began))
			}
		})
		during, askedDuring = beside()
		writer.Wait()
		takers.Wait()
		e.eventually("all have ended", func() bool { s := d.Stats(); return s.InFlight+s.Queued == 0 })
		ended := time.Since(began)
		if int(taken.Load()) != (n+3)/4+(n+2)/4 {
			e.Errorf("%d have a byte each", taken.Load())
		}
		slices.Sort(writes)
		p99 := writes[len(writes)*99/100]
		runtime.KeepAlive(all)
		all = nil
		left := fresh() - before
		e.Logf("%d submitted in %v, %d MiB; others p99 %v, the driver's answer at most %v; ended in %v, writes p99 %v, others p99 %v, the "+
			"driver's answer at most %v; afterwards %+d MiB", n, submitted, grown>>20, waiting, asked, ended, p99, during, askedDuring, left>>20)
		const soon = 50 * time.Millisecond
		if size(0, 1) == 1 && (p99 > soon || waiting > soon || during > soon) {
			e.Errorf("that is slow")
		}
		if !raceEnabled && (grown > 1<<30 || left > 64<<20) {
			e.Errorf("%d MiB with all of them, %d MiB afterwards", grown>>20, left>>20)
		}
		if k, err := unix.IoctlGetInt(in, unix.TIOCINQ); k != 0 || err != nil {
			e.Errorf("%d bytes are left, %v", k, err)
		}
	})
}
