package ring_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"uringo/internal/ring"
)

// nightly asks for the long versions of the tests: URINGO_NIGHTLY=1.
func nightly() bool { return os.Getenv("URINGO_NIGHTLY") != "" }

// TestModel makes random moves with a ring over a hostile model of the kernel, and after each of them compares what the
// ring says and delivers with what the model took and posted: every entry is taken once, unchanged and in order, every
// completion is delivered once, unchanged and in order, and memory belongs to one side at a time.
//
// A failure prints its seed; URINGO_SEED=n runs that one alone. URINGO_NIGHTLY=1 runs 200 seeds of 1 000 000 moves instead
// of 20 of 50 000 (of 10 000 under the race detector).
func TestModel(t *testing.T) {
	seeds, moves := 20, 50_000
	switch {
	case nightly():
		seeds, moves = 200, 1_000_000
	case underRace:
		moves /= 5
	}
	first := uint64(1)
	if s := os.Getenv("URINGO_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &first); err != nil {
			t.Fatal(err)
		}
		seeds = 1
	}
	for seed := first; seed < first+uint64(seeds); seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			p := newPlayer(seed)
			if err := p.play(moves); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			t.Logf("seed %d: at most %d of %d in flight, %d times busy, %+v", seed, p.largest, len(p.slots), p.busy, p.sim.Stats())
		})
	}
}

// player makes the moves and keeps the books.
type player struct {
	rng *rand.Rand
	r   *ring.Ring
	sim *ring.Sim
	cfg ring.SimConfig
	err error

	laid   fifo[ring.SQE] // in the submission queue, not taken
	posted fifo[event]    // in the completion queue, not delivered
	slots  []slot
	free   []int
	drains bool // entries may wait for all before them, so none may wait for ever

	pipe, file *ring.SimFile
	pattern    []byte // contents of the file that is only read
	timespec   ring.Timespec

	flight, taken, busy, largest int
}

type event struct {
	cqe   ring.CQE
	bogus bool
}

// slot is one request of the player.
type slot struct {
	data     uint64
	sqe      ring.SQE
	buf      []byte
	out      bool // handed to the ring, its completion not delivered
	canceled bool
}

const (
	readFD  = ring.SimFD + 0
	writeFD = ring.SimFD + 1
	pipeFD  = ring.SimFD + 2
	bufSize = 64
	poison  = 0x5a
)

func newPlayer(seed uint64) *player {
	rng := rand.New(rand.NewPCG(seed, 8))
	p := &player{rng: rng, pattern: make([]byte, 1<<16), timespec: ring.Timespec{Nsec: 20_000}}
	for i := range p.pattern {
		p.pattern[i] = byte(i*7 + i>>8)
	}
	p.file, p.pipe = ring.NewSimFile(make([]byte, 1<<12)), ring.NewSimPipe()
	starts := []uint32{0, 1<<32 - 8, 1<<31 - 3, rng.Uint32()}
	versions := []ring.Version{0, ring.V(6, 1), ring.V(5, 15), ring.V(5, 10), ring.V(5, 6)}
	rate := func(top float64) float64 {
		if rng.IntN(3) == 0 {
			return 0
		}
		return rng.Float64() * top
	}
	p.cfg = ring.SimConfig{
		Seed:       seed,
		Version:    versions[rng.IntN(len(versions))],
		Start:      starts[rng.IntN(len(starts))],
		Files:      map[int32]*ring.SimFile{readFD: ring.NewSimFile(p.pattern), writeFD: p.file, pipeFD: p.pipe},
		Delay:      []int{0, 1, 3, 20, 100}[rng.IntN(5)],
		Partial:    rate(0.5),
		SplitLinks: rng.IntN(4) == 0,
		EnterFails: rate(0.4),
		Early:      rate(0.2),
		Fails:      rate(0.3),
		Short:      rate(0.5),
		Never:      rate(0.05),
		Scribble:   rate(0.5),
		Races:      rate(0.8),
		Bogus:      rate(0.2),
		OnAccept:   p.onAccept,
		OnPost:     func(c ring.CQE, bogus bool) { p.posted.push(event{c, bogus}) },
	}
	if p.drains = rng.IntN(4) == 0; p.drains {
		p.cfg.Never = 0
	}
	p.sim = ring.NewSim(p.cfg)
	return p
}

func (p *player) play(moves int) error {
	rng := p.rng
	cfg := ring.Config{Kernel: p.sim, Entries: 2 << rng.IntN(6), Locked: rng.IntN(2) == 0}
	cfg.CQEntries = cfg.Entries << rng.IntN(3)
	if cfg.Locked {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	var err error
	if p.r, err = ring.Open(cfg); err != nil {
		return err
	}
	p.slots = make([]slot, 4*p.r.CQEntries())
	for i := range p.slots {
		p.slots[i].buf = bytes.Repeat([]byte{poison}, bufSize)
		p.free = append(p.free, i)
	}
	for move := range moves {
		p.move()
		p.check()
		if move%64 == 0 && p.err == nil {
			p.err = p.sim.Err()
		}
		if p.err != nil {
			return fmt.Errorf("move %d: %w", move, p.err)
		}
	}
	return p.finish()
}

func (p *player) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

func (p *player) move() {
	switch k := p.rng.IntN(16); {
	case k < 9:
		p.lay()
	case k < 11:
		p.entered(p.r.Submit())
	case k < 13:
		p.wait()
	case k == 13 && p.rng.IntN(4) == 0:
		p.pipe.Feed(make([]byte, p.rng.IntN(2*bufSize)))
	default:
		p.reap(1 + p.rng.IntN(12))
	}
}

func (p *player) wait() {
	timeout := time.Duration(p.rng.IntN(50)) * time.Microsecond
	if timeout == 0 || p.cfg.Version != 0 && p.cfg.Version < ring.V(5, 11) {
		// Nothing may ever complete, and no timeout ends the wait.
		p.r.Wake()
	}
	p.entered(p.r.SubmitAndWait(timeout))
}

func (p *player) entered(err error) {
	switch {
	case err == nil:
	case errors.Is(err, ring.ErrBusy):
		p.busy++
	default:
		p.fail("enter: %v", err)
	}
}

// lay puts a random request into the queue.
func (p *player) lay() {
	// Some are kept for cancellations: what waits for ever must not use up everything.
	tight := len(p.free) < len(p.slots)/4
	if len(p.free) == 0 {
		return
	}
	space := p.r.Space()
	e := p.r.Next()
	if (e == nil) != (space == 0) {
		p.fail("Space is %d, Next returns %v", space, e)
	}
	if e == nil {
		return
	}
	if *e != (ring.SQE{}) {
		p.fail("Next returns an entry that is not zero: %+v", *e)
	}
	i := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	s := &p.slots[i]
	generation := s.data >> 16
	s.data = (generation+1)<<16 | uint64(i)
	for _, b := range s.buf {
		if b != poison {
			p.fail("memory of request %#x was written after its completion", s.data)
			break
		}
	}
	e.UserData = s.data
	if tight {
		p.fillCancel(e)
	} else {
		p.fill(e, s)
		e.Flags = []uint8{0, 0, 0, 0, ring.SQELink, ring.SQEHardlink, ring.SQEAsync, ring.SQEDrain}[p.rng.IntN(8)]
		if e.Flags == ring.SQEDrain && !p.drains {
			e.Flags = 0
		}
	}
	s.sqe, s.out = *e, true
	p.flight++
	p.largest = max(p.largest, p.flight)
	p.laid.push(*e)
}

// fill makes the entry one of the things that the model can do.
func (p *player) fill(e *ring.SQE, s *slot) {
	addr := uint64(uintptr(unsafe.Pointer(&s.buf[0])))
	switch k := p.rng.IntN(16); {
	case k < 5:
		e.Op = ring.OpNop
	case k < 6:
		e.Op, e.OpFlags, e.Len = ring.OpNop, ring.NopInjectResult, uint32(int32(p.rng.IntN(20)-10))
	case k < 10:
		e.Op, e.FD, e.Addr, e.Len, e.Off = ring.OpRead, readFD, addr, bufSize, uint64(p.rng.IntN(len(p.pattern)-bufSize))
	case k < 12:
		// The request's number, at a place that no other request has.
		binary.NativeEndian.PutUint64(s.buf, s.data)
		e.Op, e.FD, e.Addr, e.Len, e.Off = ring.OpWrite, writeFD, addr, 8, s.data&0xffff*8
	case k < 13 && !p.drains:
		e.Op, e.FD, e.Addr, e.Len = ring.OpRead, pipeFD, addr, bufSize
	case k < 14:
		e.Op, e.Addr, e.Len = ring.OpTimeout, uint64(uintptr(unsafe.Pointer(&p.timespec))), 1
	default:
		p.fillCancel(e)
	}
}

// fillCancel cancels somebody, who is possibly not there any more.
func (p *player) fillCancel(e *ring.SQE) {
	victim := &p.slots[p.rng.IntN(len(p.slots))]
	victim.canceled = true
	e.Op, e.Addr = ring.OpAsyncCancel, victim.data
}

// onAccept is told by the model what it took.
func (p *player) onAccept(e ring.SQE) {
	if p.laid.len() == 0 {
		p.fail("the model took %+v, which was not laid", e)
		return
	}
	if want := p.laid.pop(); want != e {
		p.fail("the model took %+v, next in the queue is %+v", e, want)
	}
	p.taken++
}

func (p *player) reap(n int) {
	var out [12]ring.CQE
	for _, c := range out[:p.r.Reap(out[:n])] {
		p.deliver(c)
	}
}

func (p *player) deliver(c ring.CQE) {
	if p.posted.len() == 0 {
		p.fail("%+v delivered, the model posted nothing", c)
		return
	}
	want := p.posted.pop()
	if want.cqe != c {
		p.fail("%+v delivered, the model posted %+v", c, want.cqe)
	}
	if want.bogus {
		// The driver can tell as well: no request in flight has this number.
		if i := c.UserData & 0xffff; i < uint64(len(p.slots)) && p.slots[i].out && p.slots[i].data == c.UserData {
			p.fail("bogus completion %+v names a request in flight", c)
		}
		return
	}
	i := int(c.UserData & 0xffff)
	if i >= len(p.slots) || p.slots[i].data != c.UserData || !p.slots[i].out {
		p.fail("%+v delivered, no such request is in flight", c)
		return
	}
	s := &p.slots[i]
	if err := p.judge(s, c.Res); err != nil {
		p.fail("request %+v: result %d: %w", s.sqe, c.Res, err)
	}
	s.out, s.canceled = false, false
	p.flight--
	p.free = append(p.free, i)
	for i := range s.buf {
		s.buf[i] = poison
	}
}

// judge reports whether a result is one that the request can have.
func (p *player) judge(s *slot, res int32) error {
	if res == -int32(syscall.ECANCELED) {
		return nil // by a cancellation or by its chain
	}
	e := &s.sqe
	switch {
	case e.Op == ring.OpNop:
		if inject := p.cfg.Version == 0; e.OpFlags != 0 && inject && res != int32(e.Len) || !inject && res != 0 {
			return errors.New("not as told")
		}
	case e.Op == ring.OpTimeout:
		if res != -int32(syscall.ETIME) {
			return errors.New("neither timed out nor cancelled")
		}
	case e.Op == ring.OpAsyncCancel:
		if res != 0 && res != -int32(syscall.ENOENT) && res != -int32(syscall.EALREADY) {
			return errors.New("impossible for a cancellation")
		}
	case res > int32(e.Len):
		return errors.New("too much")
	case res < 0 && p.cfg.Fails == 0 && !s.canceled:
		return errors.New("failed unasked")
	case res == 0 && e.FD != pipeFD:
		return errors.New("nothing")
	case res > 0 && res < int32(e.Len) && p.cfg.Short == 0 && e.FD != pipeFD:
		return errors.New("short unasked")
	case res > 0 && e.FD == readFD && !bytes.Equal(s.buf[:res], p.pattern[e.Off:][:res]):
		return errors.New("wrong bytes")
	case res == 8 && e.FD == writeFD:
		var got [8]byte
		if p.file.ReadAt(got[:], int64(e.Off)); binary.NativeEndian.Uint64(got[:]) != s.data {
			return errors.New("wrong bytes in the file")
		}
	}
	return nil
}

// check compares the books.
func (p *player) check() {
	if q := int(p.r.Queued()); q != p.laid.len() {
		p.fail("Queued is %d, %d entries were not taken", q, p.laid.len())
	}
	if q, n := p.r.Queued()+p.r.Space(), p.r.SQEntries()-1; q != n {
		p.fail("Queued and Space are %d together, the queue holds %d", q, n)
	}
	st := p.sim.Stats()
	if st.Accepted != p.taken || st.InFlight != st.Accepted-st.Ended {
		p.fail("%d taken, %+v", p.taken, st)
	}
}

// finish cancels what is in flight, until everything has been delivered, and closes the ring.
func (p *player) finish() error {
	p.sim.Change(func(c *ring.SimConfig) { c.EnterFails, c.Bogus, c.Never = 0, 0, 0 })
	p.pipe.Hangup()
	for round := 0; p.flight > 0; round++ {
		if round > 100_000 {
			return fmt.Errorf("%d requests never end: %+v", p.flight, p.sim.Stats())
		}
		// One that reads the pipe or is stuck ends by cancellation alone.
		for i := range p.slots {
			s := &p.slots[i]
			if !s.out || s.sqe.Op == ring.OpAsyncCancel || p.rng.IntN(4) > 0 {
				continue
			}
			j := len(p.free) - 1
			if j < 0 {
				break
			}
			e := p.r.Next()
			if e == nil {
				break
			}
			c := &p.slots[p.free[j]]
			c.data = (c.data>>16+1)<<16 | uint64(p.free[j])
			p.free = p.free[:j]
			*e = ring.SQE{Op: ring.OpAsyncCancel, Addr: s.data, UserData: c.data}
			s.canceled = true
			c.sqe, c.out = *e, true
			p.flight++
			p.laid.push(*e)
		}
		p.r.Wake()
		p.entered(p.r.SubmitAndWait(0))
		p.reap(12)
		p.check()
		if p.err != nil {
			return fmt.Errorf("at the end: %w", p.err)
		}
	}
	if err := p.r.Close(); err != nil {
		return err
	}
	if st := p.sim.Stats(); st.FDs != 0 || st.Maps != 0 || st.Wakes != 0 || st.InFlight != 0 {
		return fmt.Errorf("left behind: %+v", st)
	}
	return p.sim.Err()
}

// fifo is a queue.
type fifo[T any] struct {
	items []T
	head  int
}

func (f *fifo[T]) len() int { return len(f.items) - f.head }
func (f *fifo[T]) push(v T) { f.items = append(f.items, v) }
func (f *fifo[T]) pop() T {
	v := f.items[f.head]
	if f.head++; f.head > 256 && f.head > len(f.items)/2 {
		f.items = f.items[:copy(f.items, f.items[f.head:])]
		f.head = 0
	}
	return v
}
