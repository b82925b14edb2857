package driver_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// TestModel plays random operations with a driver on a model of the kernel that does everything kernels may do: any order, delays,
// completions of nothing, some twice, entries taken in part, enters that fail, short transfers, errors, operations that hang,
// cancellations that race, queues that wrap and overflow, old releases. Every operation has one result, and it is the right one for
// what became of the files.
func TestModel(t *testing.T) {
	if !engineWanted(t, driver.Uring) {
		t.Skip("the model is an io_uring")
	}
	n := size(20, 200)
	if os.Getenv("URINGO_SEED") != "" {
		n = 1
	}
	for range n {
		on(t, []way{{"sim", driver.Auto, nil}}, func(e *rig) {
			e.stale = true
			rng := e.rng
			rate := func(top float64) float64 {
				if rng.IntN(3) == 0 {
					return 0
				}
				return rng.Float64() * top
			}
			sim := ring.SimConfig{
				Version:    []ring.Version{0, 0, ring.V(6, 1), ring.V(5, 19), ring.V(5, 15), ring.V(5, 10), ring.V(5, 6)}[rng.IntN(7)],
				Start:      []uint32{0, 1<<32 - 8, 1<<31 - 3, rng.Uint32()}[rng.IntN(4)],
				Delay:      []int{0, 1, 3, 20, 100}[rng.IntN(5)],
				Partial:    rate(0.5),
				EnterFails: rate(0.4),
				Early:      rate(0.2),
				Fails:      rate(0.3),
				Short:      rate(0.5),
				Never:      rate(0.05),
				Scribble:   rate(0.5),
				Races:      rate(0.8),
				Bogus:      rate(0.3),
			}
			cfg := driver.Config{Entries: 2 << rng.IntN(6)}
			cfg.InFlight = max(4, cfg.Entries) << rng.IntN(3)
			sim.Seed = rng.Uint64()
			e.sim = ring.NewSim(sim)
			g := &game{rig: e, cfg: sim, pipe: ring.NewSimPipe(), file: ring.NewSimFile(make([]byte, 1<<12)), sink: ring.NewSimPipe()}
			g.content = make([]byte, 1<<14)
			for i := range g.content {
				g.content[i] = byte(i*7 + i>>8)
			}
			g.contentFD = int(e.sim.Add(ring.NewSimFile(g.content)))
			g.fileFD, g.pipeFD, g.sinkFD = int(e.sim.Add(g.file)), int(e.sim.Add(g.pipe)), int(e.sim.Add(g.sink))
			cfg.Engine = driver.Uring
			open := driver.Open
			if rng.IntN(2) == 0 {
				open = func(cfg driver.Config) (*driver.Driver, error) { return driver.OpenGuest(cfg, idle{}) }
			}
			g.d = e.opened(open(driver.OnKernel(cfg, e.sim)))
			e.Logf("%d entries, %d in flight, %+v", cfg.Entries, cfg.InFlight, sim)
			g.play(size(60, 2000))
			s := e.sim.Stats()
			if n := int(g.d.Stats().Stale); n > s.Bogus || n < s.Bogus-2*int(cfg.InFlight) {
				e.Errorf("%d of %d strange completions counted", n, s.Bogus)
			}
			if s.InFlight != 0 || s.FDs != 0 || s.Maps != 0 || s.Wakes != 0 {
				e.Errorf("left in the kernel: %+v", s)
			}
		})
	}
}

// game is the files of the model, and what has to have become of them.
type game struct {
	*rig
	d   *driver.Driver
	cfg ring.SimConfig

	content                           []byte // of a file that nobody changes
	contentFD, fileFD, pipeFD, sinkFD int
	file, pipe, sink                  *ring.SimFile
	sunk                              [4]atomic.Int32
}

func (g *game) play(rounds int) {
	const writers = 4
	g.together(writers+2, func(i int) {
		rng := g.random(i)
		for round := range rounds {
			var err error
			switch {
			case i < writers:
				err = g.move(i, rng)
			case i == writers && round == 0:
				err = g.stream(rng, rounds)
			case i > writers:
				spin(time.Duration(rng.IntN(20)) * time.Microsecond)
			}
			if err != nil {
				g.Errorf("player %d, round %d: %v", i, round, err)
				return
			}
		}
	})
	g.shut(g.d)
	var count [len(g.sunk)]int
	for _, b := range g.sink.Bytes() {
		count[b]++
	}
	for i := range count {
		if n := int(g.sunk[i].Load()); count[i] != n {
			g.Errorf("player %d wrote %d bytes, %d are there", i, n, count[i])
		}
	}
}

// outcome waits for an operation, for a while if it may hang, and cancels it now and then.
func outcome[T any](g *game, rng *rand.Rand, op ops.Op[T], hangs bool) (ops.Result[T], bool) {
	p := driver.Submit(g.d, op)
	cancelled := rng.IntN(6) == 0
	if cancelled {
		spin(time.Duration(rng.IntN(30)) * time.Microsecond)
		p.Cancel()
		if rng.IntN(3) == 0 {
			p.Cancel()
		}
	}
	if hangs && !cancelled {
		select {
		case r := <-p.Done():
			return r, false
		case <-time.After(2 * time.Millisecond):
			cancelled = true
			p.Cancel()
		}
	}
	return result(g.rig, p), cancelled
}

// refused reports whether an error leaves things as they were, and is one that may come.
func (g *game) refused(err error, cancelled bool) (bool, error) {
	switch {
	case err == nil:
		return false, nil
	case err == syscall.ECANCELED && cancelled, err == syscall.EIO && g.cfg.Fails > 0:
		return true, nil
	}
	return true, err
}

func (g *game) move(i int, rng *rand.Rand) error {
	hangs := g.cfg.Never > 0
	switch rng.IntN(7) {
	case 0:
		r, cancelled := outcome(g, rng, ops.Nop(), false)
		_, err := g.refused(r.Err, cancelled)
		return err
	case 1:
		off, n := rng.IntN(len(g.content)-300), 1+rng.IntN(300)
		r, cancelled := outcome(g, rng, ops.ReadAt(g.contentFD, make([]byte, n), int64(off)), hangs)
		if refused, err := g.refused(r.Err, cancelled); refused {
			return err
		}
		if r.N == 0 || r.N < n && g.cfg.Short == 0 || !bytes.Equal(r.Buf[:r.N], g.content[off:off+r.N]) {
			return fmt.Errorf("read %d of %d at %d", r.N, n, off)
		}
	case 2:
		off, a, b := rng.IntN(len(g.content)-300), 1+rng.IntN(150), rng.IntN(150)
		r, cancelled := outcome(g, rng, ops.ReadvAt(g.contentFD, [][]byte{make([]byte, a), make([]byte, b)}, int64(off)), hangs)
		if refused, err := g.refused(r.Err, cancelled); refused {
			return err
		}
		if r.N == 0 || r.N < a+b && g.cfg.Short == 0 || !bytes.Equal(bytes.Join(r.Buf, nil)[:r.N], g.content[off:off+r.N]) {
			return fmt.Errorf("read %d of %d at %d in two", r.N, a+b, off)
		}
	case 3:
		off := 256 * i
		var before, after [256]byte
		_, _ = g.file.ReadAt(before[:], int64(off))
		b := make([]byte, 1+rng.IntN(256))
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		r, cancelled := outcome(g, rng, ops.WriteAt(g.fileFD, b, int64(off)), hangs)
		refused, err := g.refused(r.Err, cancelled)
		if err != nil {
			return err
		}
		if !refused {
			if r.N == 0 || r.N < len(b) && g.cfg.Short == 0 {
				return fmt.Errorf("wrote %d of %d", r.N, len(b))
			}
			copy(before[:], b[:r.N])
		}
		if _, _ = g.file.ReadAt(after[:], int64(off)); before != after {
			return fmt.Errorf("write of %d bytes, %d, %v: something else is there", len(b), r.N, r.Err)
		}
	case 4:
		r, cancelled := outcome(g, rng, ops.WriteAt(g.sinkFD, []byte{byte(i)}, -1), hangs)
		if refused, err := g.refused(r.Err, cancelled); refused {
			return err
		}
		g.sunk[i].Add(int32(r.N))
	case 5:
		r, cancelled := outcome(g, rng, ops.Timeout(time.Duration(rng.IntN(100))*time.Microsecond), false)
		_, err := g.refused(r.Err, cancelled)
		return err
	case 6:
		r, cancelled := outcome(g, rng, ops.Fsync(g.fileFD), hangs)
		_, err := g.refused(r.Err, cancelled)
		return err
	}
	return nil
}

// stream reads numbers from a pipe, which come in portions, with many cancellations. None is missing, none comes twice.
func (g *game) stream(rng *rand.Rand, rounds int) error {
	fed, got := 0, 0
	for round := 0; round < rounds || got < fed; round++ {
		if round < rounds && rng.IntN(2) == 0 {
			b := make([]byte, 1+rng.IntN(10))
			for i := range b {
				b[i] = byte(fed + i)
			}
			g.pipe.Feed(b)
			fed += len(b)
		}
		r, cancelled := outcome(g, rng, ops.ReadAt(g.pipeFD, make([]byte, 1+rng.IntN(8)), -1), true)
		refused, err := g.refused(r.Err, cancelled)
		if err != nil {
			return err
		}
		if refused {
			continue
		}
		if r.N == 0 {
			return errors.New("an empty read of a pipe")
		}
		for _, b := range r.Buf[:r.N] {
			if b != byte(got) {
				return fmt.Errorf("byte %d of the stream is %d", got, b)
			}
			got++
		}
	}
	return nil
}

// Old kernels, and real files behind them: what they lack is done by plain calls.
func TestOldKernels(t *testing.T) {
	var ways []way
	for _, v := range []ring.Version{ring.V(5, 6), ring.V(5, 10), ring.V(5, 15), ring.V(5, 18), ring.V(6, 1), ring.V(6, 6), ring.V(6, 12)} {
		ways = append(ways, way{"Linux " + v.String(), driver.Uring, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
			return e.model(ring.SimConfig{Version: v, Calls: ops.Calls(), Delay: 3}, cfg)
		}})
	}
	for _, hidden := range []ring.Op{ring.OpRead, ring.OpReadv, ring.OpWrite, ring.OpPollAdd, ring.OpStatx, ring.OpOpenat, ring.OpTimeout, ring.OpNop} {
		ways = append(ways, way{"without " + hidden.String(), driver.Uring, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
			return e.model(ring.SimConfig{HideOps: []ring.Op{hidden}, Calls: ops.Calls(), Delay: 3}, cfg)
		}})
	}
	on(t, ways, func(e *rig) {
		d := e.open(driver.Config{Entries: 8})
		newMix(e, d).play(4, size(50, 1000))
	})
}

// A kernel before io_uring was usable, or none: then the portable engine does everything.
func TestTooOldKernel(t *testing.T) {
	for _, v := range []ring.Version{ring.V(5, 1), ring.V(5, 4), ring.V(5, 5)} {
		on(t, []way{{"Linux " + v.String(), driver.Auto, nil}}, func(e *rig) {
			e.Setenv(driver.EngineVar, "")
			sim := ring.NewSim(ring.SimConfig{Version: v, Calls: ops.Calls()})
			d := e.opened(driver.Open(driver.OnKernel(driver.Config{}, sim)))
			if d.Engine() != driver.Portable {
				e.Errorf("engine %v", d.Engine())
			}
			newMix(e, d).play(4, 20)
			if s := sim.Stats(); s.FDs != 0 || s.Maps != 0 {
				e.Errorf("left: %+v", s)
			}
		})
	}
}
