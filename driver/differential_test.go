package driver_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// TestDifferential performs random programs on every engine, and compares what becomes of them with one model of what may. A program is
// lanes: operations and chains of them on files that no other lane has, also in the ring's table and with memory that can be registered, with
// bytes that come, ends, places and descriptors that close, buffers that are released and cancellations of all kinds in between. The model of a lane is the set of all states that it may be in. What happens makes more of them, what is seen leaves fewer:
// where timing decides nothing there is one, and where none is left, the engine has done what it may not.
func TestDifferential(t *testing.T) {
	on(t, append([]way{
		{"short and interrupted", driver.Uring, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
			return e.behind(ring.Linux(), spoiled, cfg)
		}},
		{"portable short and interrupted", driver.Portable, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
			return e.behind(ring.NewPortable(ops.Calls(), 64), spoiled, cfg)
		}},
	}, chaining...), func(e *rig) {
		table := e.hasTable()
		for round := range size(10, 1000) {
			if e.program(table); e.Failed() {
				e.Logf("in round %d", round)
				return
			}
		}
	})
}

// spoiled spares what fills pages of a pipe, and what must happen.
var spoiled = ring.FaultConfig{Shorten: 0.3, Inject: 0.1, EnterFails: 0.1, Limit: 0.1, Match: func(e *ring.SQE) bool {
	return e.Op != ring.OpAsyncCancel && e.Op != ring.OpClose && int(e.Len) < os.Getpagesize()
}}

// lane is a chain, or one operation by itself, its files, and what may have become of them.
type lane struct {
	*rig
	d       *driver.Driver
	members []*step
	chain   bool // else it is one operation by itself
	spoiled bool // transfers are cut short, and operations interrupted
	grace   bool // who cancels may be let go

	file, in, inEnd, out, outEnd, sock, peer int
	hungUp                                   bool // inEnd is closed
	whole                                    int  // file, whatever becomes of that number

	table bool // the ring has one
	place int  // in that
	fixed func(n int) *buf.Fixed

	states  map[state]bool
	history []string
}

// step is a member of a lane. Its results are told once, in the form of says.
type step struct {
	what   what
	n, off int
	data   string // to be written
	hard   bool   // what is behind it runs whatever becomes of it
	fd     int

	onPlace bool  // fd is one of the ring's table
	refusal error // by the driver, before it is begun
	buf     *buf.Fixed
	mem     []byte // of that
	freed   bool

	cancel  func()
	expire  func() // at first has somebody wait for it with a context, and then ends that
	told    chan string
	waited  chan error
	outcome string // once it is known
	known   bool
}

type what int

const (
	doNothing   what = iota
	failSync         // of a pipe
	failRead         // of no descriptor
	syncFile         // always well
	readFile         // may be short, at the end
	writeFile        //
	readPipe         // waits
	writePipe        // n pages, waits
	pollPipe         // waits
	receive          // waits, and may be short
	send             //
	timeOut          // soon
	timeOutLate      // in an hour
	openPlace        // file, in the ring's table
	readPlace        // as readFile, of what is open there
	writePlace       //
	closePlace       //
	whats
)

func (l *lane) String() string {
	var b strings.Builder
	for _, m := range l.members {
		fmt.Fprintf(&b, "%v %d at %d %q, hard %v, fixed %v;\n", [...]string{"nop", "bad sync", "bad read", "sync", "file read", "file write", "pipe read",
			"pipe write", "poll", "recv", "send", "timeout", "late timeout", "place open", "place read", "place write", "place close"}[m.what], m.n, m.off, m.data, m.hard, m.buf != nil)
	}
	return fmt.Sprintf("%schain %v", b.String(), l.chain)
}

// await waits for a result that must come, and sees whether it may be.
func (l *lane) await(j int) {
	m := l.members[j]
	if m.known {
		return
	}
	l.soon(fmt.Sprintf("member %d, after\n%s\nof\n%s", j, strings.Join(l.history, "\n"), l), func() { m.outcome = <-m.told })
	m.known = true
	l.sees(fmt.Sprintf("member %d: %s", j, m.outcome), func(s *state) bool { return s.i > j && nth(s.out, j) == m.outcome })
}

// settle waits for what must come by itself: all results if the lane has ended, and else those that nothing behind them holds up.
func (l *lane) settle() {
	for j := range l.members {
		_, lasting := l.reach()
		for s := range lasting {
			if s.i <= j || s.i < len(l.members) && !l.sealed(s.out, j) {
				return
			}
		}
		l.await(j)
	}
}

// newLane makes a lane of up to most members.
func (e *rig) newLane(d *driver.Driver, most int, table bool, fixed func(n int) *buf.Fixed) *lane {
	rng := e.rng
	l := &lane{rig: e, d: d, chain: rng.IntN(4) > 0, spoiled: strings.Contains(e.name, "interrupted"), table: table, fixed: fixed}
	first := state{file: "0123456789abcdef"[:rng.IntN(17)], room: rng.IntN(2)}
	l.file = e.file([]byte(first.file))
	l.whole = e.keep(unix.FcntlInt(uintptr(l.file), unix.F_DUPFD_CLOEXEC, 0))
	var ok bool
	if l.place, ok = d.TakePlace(); !ok {
		e.Fatal("no place")
	}
	l.in, l.inEnd = e.pipe()
	l.outEnd, l.out = e.pipe()
	l.sock, l.peer = e.sockets()
	for _, fd := range []int{l.outEnd, l.peer} {
		if err := unix.SetNonblock(fd, true); err != nil {
			e.Fatal(err)
		}
	}
	if _, err := unix.FcntlInt(uintptr(l.out), unix.F_SETPIPE_SZ, os.Getpagesize()); err != nil {
		e.Fatal(err)
	}
	if first.room == 0 {
		e.write(l.out, make([]byte, os.Getpagesize()))
	}
	var c driver.Chain
	n := 1
	if l.chain {
		n += rng.IntN(most)
	}
	var submit []func(c *driver.Chain)
	inTable := rng.IntN(3) == 0
	for i := range n {
		m := &step{what: l.chooses(inTable, i), n: 1 + rng.IntN(8), fd: -1, told: make(chan string, 1), waited: make(chan error, 1)}
		if len(l.members) > 0 && rng.IntN(3) == 0 {
			l.members[len(l.members)-1].hard = true
		}
		l.members = append(l.members, m)
		submit = append(submit, l.prepare(m, &first))
	}
	for i, f := range submit {
		if f(&c); i > 0 && !l.chain {
			e.Fatal("two operations that are no chain")
		}
	}
	l.states = map[state]bool{first: true}
	if l.chain {
		e.submit(d, &c)
	}
	for _, m := range l.members {
		m.expire()
	}
	return l
}

// prepare chooses the operation of a member.
func (l *lane) prepare(m *step, s *state) func(c *driver.Chain) {
	rng := l.rng
	b := make([]byte, m.n)
	m.data = fmt.Sprintf("%08x", rng.Uint32())[:m.n]
	vectored := rng.IntN(4) == 0
	cut := rng.IntN(m.n + 1)
	read := func(fd int, off int64) func(*driver.Chain) {
		m.fd = fd
		if vectored {
			return add(l, m, ops.ReadvAt(fd, [][]byte{b[:cut], nil, b[cut:]}, off))
		}
		if l.borrows(m) {
			if rng.IntN(2) == 0 {
				return add(l, m, ops.ReadFixedAt(fd, m.buf, off))
			}
			return add(l, m, ops.ReadIn(fd, m.buf, m.mem, off))
		}
		return add(l, m, ops.ReadAt(fd, b, off))
	}
	write := func(fd int) func(*driver.Chain) {
		m.off, m.fd = rng.IntN(len(s.file)+1), fd
		if vectored {
			return add(l, m, ops.WritevAt(fd, [][]byte{[]byte(m.data[:cut]), []byte(m.data[cut:])}, int64(m.off)))
		}
		if l.borrows(m) {
			copy(m.mem, m.data)
			if rng.IntN(2) == 0 {
				return add(l, m, ops.WriteFixedAt(fd, m.buf, int64(m.off)))
			}
			return add(l, m, ops.WriteFrom(fd, m.buf, m.mem, int64(m.off)))
		}
		return add(l, m, ops.WriteAt(fd, []byte(m.data), int64(m.off)))
	}
	switch m.what {
	case failSync:
		m.fd = l.in
		return add(l, m, ops.Fsync(l.in))
	case failRead:
		return add(l, m, ops.ReadAt(-1, b, 0))
	case syncFile:
		m.fd = l.file
		return add(l, m, ops.Fdatasync(l.file))
	case readFile:
		m.off = rng.IntN(18)
		return read(l.file, int64(m.off))
	case writeFile:
		return write(l.file)
	case openPlace:
		return add(l, m, ops.OpenDirectAt(l.place, unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", l.whole), unix.O_RDWR, 0))
	case readPlace:
		m.off, m.onPlace = rng.IntN(18), true
		return read(l.place, int64(m.off))
	case writePlace:
		m.onPlace = true
		return write(l.place)
	case closePlace:
		return add(l, m, ops.CloseDirect(l.place))
	case readPipe:
		return read(l.in, -1)
	case writePipe:
		m.n, m.fd = 1+rng.IntN(2), l.out
		return add(l, m, ops.WriteAt(l.out, make([]byte, m.n*os.Getpagesize()), -1))
	case pollPipe:
		m.fd = l.in
		return add(l, m, ops.PollAdd(l.in, unix.POLLIN))
	case receive:
		m.fd = l.sock
		return add(l, m, ops.Recv(l.sock, b, 0))
	case send:
		m.fd = l.sock
		return add(l, m, ops.Send(l.sock, []byte(m.data), 0))
	case timeOut:
		return add(l, m, ops.Timeout(time.Duration(rng.IntN(500))*time.Microsecond))
	case timeOutLate:
		return add(l, m, ops.Timeout(time.Hour))
	}
	return add(l, m, ops.Nop())
}

// add returns how to add an operation to a chain, or submit it, and sees that its memory comes back.
func add[T any](l *lane, m *step, op ops.Op[T]) func(c *driver.Chain) {
	switch l.rng.IntN(8) {
	case 0:
		op.Route = ops.RouteCall
	case 1:
		switch m.what {
		case readFile, writeFile, syncFile, readPlace, writePlace:
			op.Flags |= ops.Async
		}
	}
	if m.onPlace {
		op.Flags |= ops.Direct
	}
	if op.OnTable() {
		m.refusal = l.refusal(op.Route)
	}
	lent := fmt.Sprintf("%p", any(op.Buf))
	return func(c *driver.Chain) {
		var p *driver.Pending[T]
		switch {
		case !l.chain:
			p = driver.Submit(l.d, op)
		case len(l.members) > 0 && l.behindHard(m):
			p = driver.HardLink(c, op)
		default:
			p = driver.Link(c, op)
		}
		m.cancel = p.Cancel
		tell := func(r ops.Result[T]) {
			back := any(r.Buf)
			if got := fmt.Sprintf("%p", back); r.Err == driver.ErrAbandoned && !nothing(r.Buf) || r.Err != driver.ErrAbandoned && got != lent {
				l.Errorf("a buffer at %s came back as %s with %v", lent, got, r.Err)
			}
			var data []byte
			if r.Err != driver.ErrAbandoned {
				switch b := back.(type) {
				case []byte:
					data = b
				case [][]byte:
					data = slices.Concat(b...)
				case *buf.Fixed:
					data = m.mem
				}
			}
			switch m.what {
			case readFile, readPlace, readPipe, receive:
				m.told <- says(r.N, r.Err, string(data[:min(r.N, len(data))]))
			default:
				m.told <- says(r.N, r.Err, "")
			}
		}
		p.OnEnd(tell)
		ctx, expire := context.WithCancelCause(context.Background())
		m.expire = func() { // once the chain is submitted
			why := errors.New("why")
			m.expire = func() { expire(why) }
			go func() {
				r := p.Wait(ctx)
				if errors.Is(r.Err, why) && errors.Is(r.Err, context.Canceled) {
					r.Err = syscall.ECANCELED
				}
				m.waited <- r.Err
				expire(nil)
			}()
		}
	}
}

// nothing reports whether a buffer does not come back.
func nothing(back any) bool {
	switch b := back.(type) {
	case []byte:
		return b == nil
	case [][]byte:
		return b == nil
	case *buf.Fixed:
		return b == nil
	}
	return true // there was nothing
}

// behindHard reports whether a member has a hard link to the one before it.
func (l *lane) behindHard(m *step) bool {
	i := slices.Index(l.members, m)
	return i > 0 && l.members[i-1].hard
}

// event has something happen.
func (l *lane) event() {
	rng := l.rng
	switch j := rng.IntN(len(l.members)); rng.IntN(15) {
	case 0, 1, 2:
		b := fmt.Sprintf("%08x", rng.Uint32())[:1+rng.IntN(8)]
		if l.hungUp {
			return
		}
		l.write(l.inEnd, []byte(b))
		l.happens("comes into the pipe: "+b, func(s *state) { s.in += b })
	case 3:
		b := fmt.Sprintf("%08x", rng.Uint32())[:1+rng.IntN(8)]
		l.write(l.peer, []byte(b))
		l.happens("comes from the peer: "+b, func(s *state) { s.sock += b })
	case 4, 5:
		l.drain()
	case 6:
		if rng.IntN(2) == 0 && !l.hungUp {
			l.hungUp = true
			if err := unix.Close(l.inEnd); err != nil {
				l.Fatal(err)
			}
			l.fds = slices.DeleteFunc(l.fds, func(fd int) bool { return fd == l.inEnd })
			l.happens("the pipe's other end closes", func(s *state) { s.hungUp = true })
		}
	case 7:
		l.members[j].cancel()
		l.happens(fmt.Sprintf("cancelled: %d", j), func(s *state) { s.cancelled |= 1 << j })
	case 8:
		l.members[j].expire()
		l.happens(fmt.Sprintf("its context ends: %d", j), func(s *state) { s.cancelled |= 1 << j })
	case 9:
		fd, onPlace := l.members[j].fd, l.members[j].onPlace
		if fd < 0 {
			return
		}
		l.d.CancelDescriptor(fd, onPlace, func() bool { return true })
		l.happens(fmt.Sprintf("cancelled by the descriptor of %d", j), func(s *state) {
			for i, m := range l.members {
				if m.fd == fd && m.onPlace == onPlace {
					s.cancelled |= 1 << i
				}
			}
		})
	case 10:
		fd, onPlace := l.members[j].fd, l.members[j].onPlace
		switch {
		case fd < 0:
			return
		case onPlace:
			driver.Submit(l.d, ops.CancelDirect(fd))
		default:
			driver.Submit(l.d, ops.CancelFD(fd))
		}
		l.happens(fmt.Sprintf("cancelled by an operation on the descriptor of %d", j), func(s *state) {
			for i, m := range l.members {
				if m.fd == fd && m.onPlace == onPlace {
					s.hit |= 1 << i
				}
			}
		})
	case 11:
		l.empties()
	case 12:
		l.replaces()
	case 13:
		l.frees(j)
	default:
		l.settle()
	}
}

// drain takes a page out of the pipe that is written to.
func (l *lane) drain() {
	page := os.Getpagesize()
	n, err := unix.Read(l.outEnd, make([]byte, page))
	switch {
	case err == syscall.EAGAIN:
		l.sees("the pipe is empty", func(s *state) bool { return s.room == 1 })
	case err != nil || n != page:
		l.Fatalf("read %d, %v", n, err)
	default:
		l.sees("the pipe is full", func(s *state) bool { return s.room == 0 })
		l.happens("somebody reads it", func(s *state) { s.room++ })
	}
}

// left sees what is in the files at the end.
func (l *lane) left() {
	for j := range l.members {
		l.await(j)
		m := l.members[j]
		if err := <-m.waited; m.outcome != "abandoned\n" && !strings.Contains(m.outcome, fmt.Sprintf(" %v ", err)) {
			l.Errorf("Wait of member %d says %v, and its result is %s", j, err, m.outcome)
		}
		if m.buf != nil && !m.freed {
			m.buf.Release()
		}
	}
	buf := make([]byte, 1<<12)
	read := func(n int, err error) string {
		if err != nil && err != syscall.EAGAIN {
			l.Fatal(err)
		}
		return string(buf[:max(n, 0)])
	}
	file := read(unix.Pread(l.whole, buf, 0))
	l.sees("the file has "+file, func(s *state) bool { return s.file == file })
	if err := unix.SetNonblock(l.in, true); err != nil {
		l.Fatal(err)
	}
	in := read(unix.Read(l.in, buf))
	l.sees("the pipe has "+in, func(s *state) bool { return s.in == in })
	sent := read(unix.Read(l.peer, buf))
	l.sees("the peer has "+sent, func(s *state) bool { return s.sent == sent })
	n, _, err := unix.Recvfrom(l.sock, buf, unix.MSG_DONTWAIT)
	sock := read(n, err)
	l.sees("the socket has "+sock, func(s *state) bool { return s.sock == sock })
	l.drain()
}

// program performs one.
func (e *rig) program(table bool) {
	rng := e.rng
	cfg := driver.Config{Entries: 8, InFlight: 128}
	most := 6
	if rng.IntN(4) == 0 {
		cfg.Entries, cfg.InFlight, most = 4, 16, 3
	}
	if rng.IntN(3) == 0 {
		cfg.CancelGrace = time.Duration(1 + rng.IntN(100_000))
	}
	e.drivers, e.sim, e.fault = nil, nil, nil
	d := e.open(cfg)
	fixed, allBack := e.lender()
	var lanes []*lane
	for range 1 + rng.IntN(4) {
		l := e.newLane(d, most, table, fixed)
		l.grace = cfg.CancelGrace > 0
		lanes = append(lanes, l)
	}
	for range rng.IntN(8 * len(lanes)) {
		lanes[rng.IntN(len(lanes))].event()
		if rng.IntN(8) == 0 {
			time.Sleep(time.Duration(rng.IntN(300)) * time.Microsecond)
		}
	}
	switch rng.IntN(3) {
	case 0: // closed with all that is under way
		patient := rng.IntN(2) == 0
		ctx, cancel := context.WithCancel(context.Background())
		for _, l := range lanes {
			l.happens("closed", func(s *state) { s.closing, s.givenUp = true, !patient })
		}
		if !patient {
			cancel()
		}
		if err := d.Close(ctx); err != nil && patient {
			e.Errorf("close: %v", err)
		}
		cancel()
	default:
		for _, l := range lanes {
			l.settle()
			for j := range l.members {
				l.members[j].cancel()
			}
			l.happens("all cancelled", func(s *state) { s.cancelled = ^uint32(0) })
		}
	}
	for _, l := range lanes {
		for j := range l.members {
			l.await(j)
		}
	}
	e.shut(d)
	for _, l := range lanes {
		l.left()
	}
	allBack()
	for _, fd := range e.fds {
		_ = unix.Close(fd)
	}
	e.fds = nil
	if e.sim != nil && e.sim.Err() != nil {
		e.Errorf("rules broken: %v", e.sim.Err())
	}
}
