package driver_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/testenv"
	"uringo/ops"
)

// TestMinWait has completions come one after the other to a driver that lets them gather, and to one that does not.
func TestMinWait(t *testing.T) {
	const reads, gap = 40, 2 * time.Millisecond
	type pipe struct{ r, w int }
	waits := func(e *rig, d *driver.Driver, pipes []pipe) uint64 {
		pending := make([]*driver.Pending[[]byte], reads)
		for i, p := range pipes {
			pending[i] = driver.Submit(d, ops.ReadAt(p.r, make([]byte, 1), -1))
		}
		before := d.Stats().Waits
		for _, p := range pipes {
			if _, err := unix.Write(p.w, []byte{1}); err != nil {
				e.Fatal(err)
			}
			time.Sleep(gap)
		}
		for i, p := range pending {
			if r := <-p.Done(); r.N != 1 || r.Err != nil || r.Buf[0] != 1 {
				e.Errorf("read %d: %+v", i, r)
			}
		}
		return d.Stats().Waits - before
	}
	on(t, []way{onUring, onLocked}, func(e *rig) {
		at, later := e.open(driver.Config{}), e.open(driver.Config{MinWait: 300 * time.Millisecond})
		pipes := make([]pipe, reads)
		for i := range pipes {
			pipes[i].r, pipes[i].w = e.pipe()
		}
		for begun, inTime := time.Now(), 0; ; {
			delays := testenv.Delays()
			apart, gathered := waits(e, at, pipes), waits(e, later, pipes)
			late := delays()
			e.Logf("waits for %d completions: %d, gathering %d, on a machine that was %v late", reads, apart, gathered, late)
			tooFew, tooMany := apart < reads/2, release(e) >= 612 && gathered > reads/4
			if late < reads*gap/4 {
				inTime++ // as far as can be told: the driver's thread may have waited for a processor where this one did not
			}
			if (tooFew || tooMany) && inTime < 3 && time.Since(begun) < patience {
				continue // on a busy machine what is written apart may arrive together, and the other way round
			}
			if tooFew {
				e.Errorf("%d waits for %d completions that come one after the other", apart, reads)
			}
			if tooMany {
				e.Errorf("%d waits for %d completions that should gather", gathered, reads)
			}
			break
		}
	})
}

// TestMinWaitIsShort sees that what comes after the time for gathering ends the wait by itself, with other operations still in flight.
func TestMinWaitIsShort(t *testing.T) {
	on(t, []way{onUring, onPortable, onLocked, onSim}, func(e *rig) {
		d := e.open(driver.Config{MinWait: time.Millisecond})
		never, _ := e.pipe()
		held := driver.Submit(d, ops.ReadAt(never, make([]byte, 1), -1))
		for range size(20, 1000) {
			r, w := e.pipe()
			p := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
			time.Sleep(3 * time.Millisecond)
			if _, err := unix.Write(w, []byte{1}); err != nil {
				e.Fatal(err)
			}
			select {
			case r := <-p.Done():
				if r.N != 1 || r.Err != nil {
					e.Fatalf("%+v", r)
				}
			case <-time.After(10 * time.Second):
				e.Fatal("not told of a completion")
			}
		}
		held.Cancel()
		<-held.Done()
	})
}

func TestMinWaitRange(t *testing.T) {
	for _, wait := range []time.Duration{-1, time.Second + 1} {
		d, err := driver.Open(driver.Config{MinWait: wait})
		if err == nil {
			t.Errorf("MinWait %v is taken", wait)
			_ = d.Close(t.Context())
		} else if !strings.Contains(err.Error(), "MinWait") {
			t.Errorf("MinWait %v: %v", wait, err)
		}
	}
}
