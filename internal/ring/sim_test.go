package ring_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"uringo/internal/ring"
)

// story plays fixed moves over a hostile model and returns everything that happened.
func story(t *testing.T, seed uint64) (events []string) {
	t.Helper()
	sim := ring.NewSim(ring.SimConfig{
		Seed: seed, Delay: 20, Partial: 0.3, EnterFails: 0.3, Early: 0.2, Never: 0.1, Races: 0.5, Bogus: 0.3, Short: 0.5, Fails: 0.2,
		Files:    map[int32]*ring.SimFile{ring.SimFD: ring.NewSimFile(make([]byte, 100))},
		OnAccept: func(e ring.SQE) { events = append(events, fmt.Sprint("accept ", e.UserData)) },
		OnPost:   func(c ring.CQE, bogus bool) { events = append(events, fmt.Sprint("post ", c, bogus)) },
	})
	g := &rig{T: t, r: openRing(t, ring.Config{Kernel: sim, Entries: 8})}
	rng := rand.New(rand.NewPCG(1, 1))
	buf := make([]byte, 64)
	for data := range uint64(500) {
		if e := g.r.Next(); e != nil {
			switch rng.IntN(3) {
			case 0:
				*e = nop(data)
			case 1:
				*e = g.read(data, ring.SimFD, buf, 0)
				defer g.addr(buf)
			case 2:
				*e = cancel(data, uint64(rng.IntN(500)))
			}
		}
		err := g.r.Submit()
		if rng.IntN(4) == 0 {
			err = g.r.SubmitAndWait(time.Microsecond)
		}
		events = append(events, fmt.Sprint("enter ", err))
		var out [8]ring.CQE
		g.r.Reap(out[:])
	}
	for victim := uint64(0); victim < 500 || g.r.Queued() > 0 || sim.Stats().InFlight > 0; {
		if victim < 500 && g.r.Space() > 0 {
			*g.r.Next() = cancel(500+victim, victim)
			victim++
		}
		g.r.Wake()
		events = append(events, fmt.Sprint("enter ", g.r.SubmitAndWait(0)))
		var out [8]ring.CQE
		g.r.Reap(out[:])
		if len(events) > 100_000 {
			t.Fatalf("never ends: %+v", sim.Stats())
		}
	}
	if err := sim.Err(); err != nil {
		t.Error(err)
	}
	return events
}

// TestSimIsDeterministic plays the same moves with the same and with other seeds.
func TestSimIsDeterministic(t *testing.T) {
	one, again, other := story(t, 1), story(t, 1), story(t, 2)
	if len(one) < 500 || !slices.Equal(one, again) {
		t.Errorf("the same seed tells different stories, of %d and %d events", len(one), len(again))
	}
	if slices.Equal(one, other) {
		t.Error("another seed tells the same story")
	}
}

// TestSimBlames breaks the rules that the model watches.
func TestSimBlames(t *testing.T) {
	for _, c := range []struct {
		words string
		sin   func(*ring.Sim, *ring.Ring)
	}{
		{"equal user data|two entries in flight with user data 0x7", func(s *ring.Sim, r *ring.Ring) {
			var b [2]byte
			fd := s.Add(ring.NewSimPipe())
			for i := range b {
				*r.Next() = (&rig{}).read(7, fd, b[i:], 0)
			}
			r.Submit()
		}},
		{"while another goroutine is in the ring", func(s *ring.Sim, r *ring.Ring) {
			var waiting sync.WaitGroup
			waiting.Go(func() { r.SubmitAndWait(0) })
			for s.Stats().Enters == 0 {
				time.Sleep(time.Millisecond)
			}
			s.Enter(2*ring.SimFD, 0, 0, 0, nil)
			r.Wake()
			waiting.Wait()
		}},
		{"entries in flight", func(s *ring.Sim, r *ring.Ring) {
			var b [1]byte
			fd := s.Add(ring.NewSimPipe())
			*r.Next() = (&rig{}).read(1, fd, b[:], 0)
			r.Submit()
			r.Close()
		}},
		{"Unmap of what is not mapped", func(s *ring.Sim, _ *ring.Ring) { s.Unmap(make([]byte, 1)) }},
		{"Close of descriptor 5", func(s *ring.Sim, _ *ring.Ring) { s.Close(5) }},
		{"Setup while the ring before is open", func(s *ring.Sim, _ *ring.Ring) { s.Setup(4, &ring.Params{}) }},
	} {
		name, words, ok := strings.Cut(c.words, "|")
		if !ok {
			words = name
		}
		t.Run(name, func(t *testing.T) {
			s := ring.NewSim(ring.SimConfig{})
			r, err := ring.Open(ring.Config{Kernel: s, Entries: 8})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Err(); err != nil {
				t.Fatal(err)
			}
			c.sin(s, r)
			if err := s.Err(); err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("%v, want %q", err, words)
			}
		})
	}
}

// TestSimInRealTime lets hours pass in a bubble of package synctest, where a blocked Enter counts as asleep.
func TestSimInRealTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ring.NewSim(ring.SimConfig{RealTime: true})
		f := ring.NewSimPipe()
		fd := s.Add(f)
		g := &rig{T: t, world: world{name: "sim"}, r: openRing(t, ring.Config{Kernel: s, Entries: 8}), got: map[uint64]ring.CQE{}}
		begin := time.Now()
		buf := make([]byte, 8)
		g.put(g.timeout(1, time.Hour), g.read(2, fd, buf, 0))
		time.AfterFunc(time.Minute, func() { f.Feed([]byte("late")) })
		var woken atomic.Bool
		time.AfterFunc(2*time.Minute, func() { woken.Store(true); g.r.Wake() })
		for _, c := range []struct {
			until func() bool
			at    time.Duration
		}{
			{func() bool { return g.has(2) }, time.Minute},
			{func() bool { return woken.Load() }, 2 * time.Minute},
			{func() bool { return g.has(1) }, time.Hour},
		} {
			for !c.until() {
				if err := g.r.SubmitAndWait(0); err != nil {
					t.Fatal(err)
				}
				g.reap()
			}
			if took := time.Since(begin); took != c.at {
				t.Errorf("after %v, want %v", took, c.at)
			}
		}
		begin = time.Now()
		if err := g.r.SubmitAndWait(time.Second); err != nil || time.Since(begin) != time.Second {
			t.Errorf("a wait of a second took %v, %v", time.Since(begin), err)
		}
		if string(buf[:4]) != "late" {
			t.Errorf("read %q", buf)
		}
	})
}

// TestSimUsesMemoryLate shows that the model reads and writes memory until the completion and no longer: what was given up
// too early is damaged.
func TestSimUsesMemoryLate(t *testing.T) {
	f := ring.NewSimFile(slices.Repeat([]byte{'f'}, 64))
	s := ring.NewSim(ring.SimConfig{Delay: 50, Seed: 3})
	fd := s.Add(f)
	g := &rig{T: t, r: openRing(t, ring.Config{Kernel: s, Entries: 64}), got: map[uint64]ring.CQE{}}
	var bufs [32][]byte
	for i := range bufs {
		bufs[i] = make([]byte, 2)
		*g.r.Next() = g.read(uint64(i), fd, bufs[i], int64(i))
	}
	if err := g.r.Submit(); err != nil {
		t.Fatal(err)
	}
	early := 0
	for i, b := range bufs {
		if g.reap(); !g.has(uint64(i)) && b[0] == 0 {
			copy(b, "xx") // not ours yet
			early++
		}
	}
	for i := range bufs {
		g.want(uint64(i), 2)
		if string(bufs[i]) != "ff" {
			t.Errorf("buffer %d is %q", i, bufs[i])
		}
	}
	if early == 0 {
		t.Error("everything was over at once")
	}
	for _, b := range bufs {
		copy(b, "xx") // ours
	}
	for range 100 {
		*g.r.Next() = nop(1000)
		if err := g.r.SubmitAndWait(0); err != nil {
			t.Fatal(err)
		}
		g.reap()
		delete(g.got, 1000)
	}
	for i, b := range bufs {
		if string(b) != "xx" {
			t.Errorf("buffer %d was touched after its completion: %q", i, b)
		}
	}
}

// TestSimDefers shows that completions of a thread that defers its work come when it asks for them, and not before. Those of one that only does
// without interrupts come with any visit.
func TestSimDefers(t *testing.T) {
	for _, locked := range []bool{false, true} {
		t.Run(fmt.Sprintf("locked %v", locked), func(t *testing.T) {
			lockThread(t)
			s := ring.NewSim(ring.SimConfig{})
			f := ring.NewSimPipe()
			g := &rig{T: t, r: openRing(t, ring.Config{Kernel: s, Entries: 8, Locked: locked}), got: map[uint64]ring.CQE{}}
			*g.r.Next() = g.read(1, s.Add(f), make([]byte, 1), 0)
			if err := g.r.Submit(); err != nil {
				t.Fatal(err)
			}
			f.Feed([]byte{1})
			for range 100 {
				if _, errno := s.Enter(2*ring.SimFD, 0, 0, 0, nil); errno != 0 {
					t.Fatal(errno)
				}
			}
			if g.r.Ready() == locked {
				t.Errorf("ready %v after many visits", g.r.Ready())
			}
			if err := g.r.Submit(); err != nil { // which sees that something is kept
				t.Fatal(err)
			}
			g.want(1, 1)
		})
	}
}

// TestSimChanges turns the weather of a running model.
func TestSimChanges(t *testing.T) {
	s := ring.NewSim(ring.SimConfig{EnterFails: 1, EnterErrnos: []syscall.Errno{syscall.EAGAIN}})
	r := openRing(t, ring.Config{Kernel: s, Entries: 8})
	*r.Next() = nop(1)
	for range 20 {
		if err := r.SubmitAndWait(0); !errors.Is(err, ring.ErrBusy) {
			t.Fatal(err)
		}
	}
	s.Change(func(c *ring.SimConfig) { c.EnterFails = 0 })
	var out [8]ring.CQE
	r.Wake()
	if err := r.SubmitAndWait(0); err != nil {
		t.Fatal(err)
	}
	if n := r.Reap(out[:]); n != 1 || out[0] != (ring.CQE{UserData: 1}) {
		t.Errorf("%+v", out[:n])
	}
}
