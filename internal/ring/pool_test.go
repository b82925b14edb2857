package ring_test

import (
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/ops"
)

const (
	canceled = -int32(syscall.ECANCELED)
	already  = -int32(syscall.EALREADY)
	noent    = -int32(syscall.ENOENT)
	again    = -int32(syscall.EAGAIN)
)

// results collects completions by user data.
type results struct {
	t  *testing.T
	ch chan ring.CQE
	in map[uint64]int32
}

func newResults(t *testing.T) *results {
	return &results{t, make(chan ring.CQE, 1<<17), map[uint64]int32{}}
}

func (r *results) post(c ring.CQE) { r.ch <- c }

// of returns the result of a request when it is there.
func (r *results) of(data uint64) int32 {
	r.t.Helper()
	limit := time.After(10 * time.Second)
	for {
		if res, ok := r.in[data]; ok {
			return res
		}
		select {
		case c := <-r.ch:
			r.add(c)
		case <-limit:
			r.t.Fatalf("request %d does not complete", data)
		}
	}
}

func (r *results) add(c ring.CQE) {
	r.t.Helper()
	if _, twice := r.in[c.UserData]; twice {
		r.t.Errorf("request %d completed twice", c.UserData)
	}
	r.in[c.UserData] = c.Res
}

// quiet waits a moment and reports whether nothing completed.
func (r *results) quiet() bool {
	select {
	case c := <-r.ch:
		r.add(c)
		return false
	case <-time.After(5 * time.Millisecond):
		return true
	}
}

// none checks that nothing else completes in a moment.
func (r *results) none() {
	r.t.Helper()
	if !r.quiet() {
		r.t.Errorf("something completed: %v", r.in)
	}
}

// gate is a call that runs until it is let go, and returns its entry's Len.
type gate struct {
	began, free chan struct{}
	running     atomic.Int32
	most        atomic.Int32
	dropped     atomic.Int32
}

func newGate() *gate { return &gate{began: make(chan struct{}, 1<<16), free: make(chan struct{})} }

func (g *gate) table() *ring.CallTable {
	t := *ops.Calls()
	t[ring.OpFsync] = ring.Call{Do: g.do, Drop: func(*ring.SQE, int32) { g.dropped.Add(1) }}
	return &t
}

func (g *gate) do(e *ring.SQE) int32 {
	n := g.running.Add(1)
	for m := g.most.Load(); n > m && !g.most.CompareAndSwap(m, n); m = g.most.Load() {
	}
	g.began <- struct{}{}
	<-g.free
	g.running.Add(-1)
	return int32(e.Len)
}

func gated(data uint64) *ring.SQE {
	return &ring.SQE{Op: ring.OpFsync, FD: -1, UserData: data, Len: uint32(data)}
}

func cancelData(data uint64) *ring.SQE {
	return &ring.SQE{Op: ring.OpAsyncCancel, FD: -1, Addr: data}
}

func cancelWith(flags uint32, fd int) *ring.SQE {
	return &ring.SQE{Op: ring.OpAsyncCancel, FD: int32(fd), OpFlags: flags}
}

// A read's memory is reachable only through the number in its entry; keep it.
func readEntry(t *testing.T, data uint64, fd int, buf []byte) *ring.SQE {
	t.Cleanup(func() { runtime.KeepAlive(buf) })
	return &ring.SQE{Op: ring.OpRead, FD: int32(fd), UserData: data, Off: ^uint64(0),
		Addr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(buf)))), Len: uint32(len(buf))}
}

func newPipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(p[0]); _ = unix.Close(p[1]) })
	return p[0], p[1]
}

// heap returns memory that no stack growth moves.
func heap(n int) []byte {
	b := make([]byte, n)
	sink.Store(new(any(b)))
	return b
}

// escaped returns the address of a copy that no stack growth moves.
func escaped[T any](v T) *T {
	p := &v
	sink.Store(new(any(p)))
	return p
}

// sink makes what is stored in it escape.
var sink atomic.Pointer[any]

// waiting waits until so many entries of the pool wait.
func waiting(t *testing.T, p *ring.Pool, n int) {
	t.Helper()
	waitFor(t, strconv.Itoa(n)+" entries wait", func() bool { return p.Waiting() == n })
}

// waitFor waits until something is so.
func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !so(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// Every entry completes once, no more than the limit run at a time, and Start does not wait for them.
func TestPoolLimit(t *testing.T) {
	const limit, entries = 4, 1000
	g, r := newGate(), newResults(t)
	p := ring.NewPool(g.table(), limit, r.post)
	for i := range uint64(entries) {
		p.Start(gated(i))
	}
	for range limit {
		<-g.began
	}
	time.Sleep(time.Millisecond)
	close(g.free)
	for i := range uint64(entries) {
		if res := r.of(i); res != int32(i) {
			t.Errorf("request %d: %d", i, res)
		}
	}
	if most := g.most.Load(); most != limit {
		t.Errorf("%d calls at a time; the limit is %d", most, limit)
	}
	p.Close()
	r.none()
}

// Those who wait for others cost neither goroutines nor threads.
func TestPoolWaiters(t *testing.T) {
	const pipes, each = 500, 8
	r := newResults(t)
	p := ring.NewPool(ops.Calls(), 4, r.post)
	defer p.Close()
	goroutines, threads := runtime.NumGoroutine(), threadCount(t)
	var ends [pipes][2]int
	for i := range ends {
		ends[i][0], ends[i][1] = newPipe(t)
		for k := range each {
			p.Start(readEntry(t, uint64(i*each+k), ends[i][0], heap(1)))
		}
	}
	poll := &ring.SQE{Op: ring.OpPollAdd, FD: int32(ends[0][1]), OpFlags: unix.POLLOUT, UserData: 1 << 30}
	p.Start(poll) // comes after all of them
	if res := r.of(1 << 30); res != unix.POLLOUT {
		t.Errorf("poll: %#x", res)
	}
	waitFor(t, "all goroutines but the poller ended", func() bool { return runtime.NumGoroutine() <= goroutines+1 })
	if n := threadCount(t); n > threads+8+runtime.GOMAXPROCS(0) { // who runs takes one for each processor
		t.Errorf("%d threads for %d waiting reads", n-threads, pipes*each)
	}
	r.none()
	for i := range ends {
		if n, err := unix.Write(ends[i][1], make([]byte, each)); n != each {
			t.Fatal(n, err)
		}
	}
	for i := range uint64(pipes * each) {
		if res := r.of(i); res != 1 {
			t.Errorf("read %d: %d", i, res)
		}
	}
}

func threadCount(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "Threads:")
	n, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// One descriptor may be waited for in both directions, and neither takes the other's turn.
func TestPoolBothWays(t *testing.T) {
	r := newResults(t)
	p := ring.NewPool(ops.Calls(), 2, r.post)
	defer p.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])

	in := heap(8)
	p.Start(readEntry(t, 1, pair[0], in))
	chunk := heap(1 << 16)
	for err == nil {
		err = unix.Send(pair[0], chunk, unix.MSG_DONTWAIT)
	}
	write := readEntry(t, 2, pair[0], chunk)
	write.Op = ring.OpWrite
	p.Start(write)
	waiting(t, p, 2)
	if _, err := unix.Write(pair[1], []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if res := r.of(1); res != 5 || string(in[:5]) != "hello" {
		t.Errorf("%d %q", res, in)
	}
	r.none()
	if _, err := unix.Read(pair[1], make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if res := r.of(2); res <= 0 {
		t.Errorf("write: %d", res)
	}
}

func TestPoolCancel(t *testing.T) {
	g, r := newGate(), newResults(t)
	p := ring.NewPool(g.table(), 1, r.post)
	defer p.Close()
	cancel := func(what string, e *ring.SQE, want int32, who ...uint64) {
		t.Helper()
		if got := p.Cancel(e); got != want {
			t.Errorf("cancel %s: %d; want %d", what, got, want)
		}
		for _, data := range who {
			if res := r.of(data); res != canceled {
				t.Errorf("cancel %s: request %d: %d", what, data, res)
			}
			delete(r.in, data)
		}
		r.none()
	}
	rd, _ := newPipe(t)
	other, _ := newPipe(t)
	reads := func(fd int, data ...uint64) {
		t.Helper()
		before := p.Waiting()
		for _, d := range data {
			p.Start(readEntry(t, d, fd, heap(1)))
		}
		waiting(t, p, before+len(data))
	}
	hour := escaped(ring.Timespec{Sec: 3600})
	timeout := func(data uint64, fd int) {
		p.Start(&ring.SQE{Op: ring.OpTimeout, FD: int32(fd), Len: 1, UserData: data, Addr: uint64(uintptr(unsafe.Pointer(hour)))})
	}

	reads(rd, 1, 2)
	cancel("a waiting request", cancelData(1), 0, 1)
	cancel("it again", cancelData(1), noent)
	cancel("the last one on a descriptor", cancelData(2), 0, 2)

	reads(rd, 1)
	reads(other, 2)
	timeout(3, rd)
	cancel("one on a descriptor", cancelWith(ring.CancelFD, rd), 0, 1)
	cancel("one more on it", cancelWith(ring.CancelFD, rd), noent)
	cancel("a timeout", cancelData(3), 0, 3)

	reads(rd, 1, 4)
	timeout(3, rd)
	cancel("all on a descriptor", cancelWith(ring.CancelFD|ring.CancelAll, rd), 2, 1, 4)
	cancel("none on a descriptor", cancelWith(ring.CancelFD|ring.CancelAll, rd), 0)
	cancel("by data and descriptor", &ring.SQE{FD: int32(rd), Addr: 2, OpFlags: ring.CancelFD | ring.CancelUserData}, noent)
	cancel("by data and descriptor", &ring.SQE{FD: int32(other), Addr: 2, OpFlags: ring.CancelFD | ring.CancelUserData}, 0, 2)
	timeout(5, -1)
	reads(rd, 6)
	cancel("by opcode", &ring.SQE{Len: uint32(ring.OpTimeout), OpFlags: ring.CancelOp | ring.CancelAll}, 2, 3, 5)
	cancel("what no one is called", &ring.SQE{Addr: 99, OpFlags: ring.CancelAll}, 0)
	cancel("on a closed descriptor", cancelWith(ring.CancelFD|ring.CancelAll, 1<<20), -int32(syscall.EBADF))
	cancel("with an unknown flag", cancelWith(1<<20, -1), -int32(syscall.EINVAL))
	cancel("any and by descriptor", cancelWith(ring.CancelFD|ring.CancelAny, rd), -int32(syscall.EINVAL))

	p.Start(gated(7))
	<-g.began
	p.Start(gated(8))
	p.Start(gated(9))
	cancel("a running request", cancelData(7), already)
	cancel("a queued request", cancelData(8), 0, 8)
	p.Start(&ring.SQE{Op: ring.OpUnlinkat, FD: int32(other), UserData: 10})
	cancel("what is on a name below a descriptor", cancelWith(ring.CancelFD, other), noent)
	cancel("it by data", cancelData(10), 0, 10)
	timeout(3, rd)
	cancel("everything", cancelWith(ring.CancelAny, -1), 4, 3, 6, 9)
	cancel("everything again", cancelWith(ring.CancelAny|ring.CancelAll, -1), 1) // the running one
	close(g.free)
	if res := r.of(7); res != 7 {
		t.Errorf("a call that ran: %d", res)
	}
	cancel("what is over", cancelData(7), noent)
	cancel("everything", cancelWith(ring.CancelAny, -1), 0)
	runtime.KeepAlive(hour)
}

// Several requests may have the same name.
func TestPoolNamesakes(t *testing.T) {
	var done atomic.Int32
	p := ring.NewPool(ops.Calls(), 4, func(c ring.CQE) {
		if c.Res == canceled {
			done.Add(1)
		}
	})
	defer p.Close()
	rd, _ := newPipe(t)
	start := func(n int) {
		for range n {
			p.Start(readEntry(t, 5, rd, heap(1)))
		}
		waiting(t, p, n)
	}
	start(3)
	if n := p.Cancel(&ring.SQE{Addr: 5, OpFlags: ring.CancelAll}); n != 3 || done.Load() != 3 {
		t.Errorf("cancelled %d, then %d completed", n, done.Load())
	}
	start(3)
	for i := range int32(3) {
		if res := p.Cancel(cancelData(5)); res != 0 || done.Load() != 4+i {
			t.Errorf("%d, %d completed", res, done.Load())
		}
	}
	start(3)
	if n := p.Cancel(cancelWith(ring.CancelFD|ring.CancelAll, rd)); n != 3 || done.Load() != 9 {
		t.Errorf("cancelled %d, then %d completed", n, done.Load())
	}
}

// Namesakes end in any order.
func TestPoolNamesakesApart(t *testing.T) {
	done := make(chan ring.CQE, 3)
	p := ring.NewPool(ops.Calls(), 4, func(c ring.CQE) { done <- c })
	defer p.Close()
	var ends [3]int
	for i := range ends {
		var rd int
		rd, ends[i] = newPipe(t)
		p.Start(readEntry(t, 5, rd, heap(4)))
		waiting(t, p, i+1)
	}
	for _, i := range []int{1, 0, 2} {
		if _, err := unix.Write(ends[i], make([]byte, i+1)); err != nil {
			t.Fatal(err)
		}
		if c := <-done; c.Res != int32(i+1) {
			t.Errorf("%+v; want %d", c, i+1)
		}
	}
	if res := p.Cancel(cancelData(5)); res != noent {
		t.Errorf("cancel: %d", res)
	}
}

// Without descriptors there is no epoll instance: then waiting takes goroutines, but nothing fails.
func TestPoolWithoutPoller(t *testing.T) {
	r := newResults(t)
	table := *ops.Calls()
	read, begun := table[ring.OpRead].Do, make(chan struct{})
	table[ring.OpRead].Do = func(e *ring.SQE) int32 {
		close(begun)
		return read(e)
	}
	p := ring.NewPool(&table, 2, r.post)
	defer p.Close()
	rd, wr := newPipe(t)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
	}()
	p.Start(readEntry(t, 1, rd, heap(1)))
	<-begun
	r.none()
	if res := p.Cancel(cancelData(1)); res != already {
		t.Errorf("cancel: %d", res)
	}
	if _, err := unix.Write(wr, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if res := r.of(1); res != 1 {
		t.Errorf("read: %d", res)
	}
}

// A running call that is cancelled does not begin to wait.
func TestPoolCancelBeforeWait(t *testing.T) {
	r := newResults(t)
	table := *ops.Calls()
	trying, let := make(chan struct{}), make(chan struct{})
	table[ring.OpRead].Try = func(*ring.SQE) int32 {
		trying <- struct{}{}
		<-let
		return again
	}
	p := ring.NewPool(&table, 1, r.post)
	defer p.Close()
	rd, _ := newPipe(t)
	p.Start(readEntry(t, 1, rd, heap(1)))
	<-trying
	if res := p.Cancel(cancelData(1)); res != already {
		t.Errorf("cancel: %d", res)
	}
	close(let)
	if res := r.of(1); res != canceled {
		t.Errorf("read: %d", res)
	}
}

// Whatever a cancellation meets, each request completes once, and a byte is either read or still there.
func TestPoolCancelRace(t *testing.T) {
	const rounds = 300
	r := newResults(t)
	p := ring.NewPool(ops.Calls(), 4, r.post)
	defer p.Close()
	rd, wr := newPipe(t)
	bytes := 0
	for i := uint64(1); i <= rounds; i++ {
		p.Start(readEntry(t, i, rd, heap(1)))
		var both sync.WaitGroup
		both.Go(func() {
			time.Sleep(time.Duration(rand.IntN(20)) * time.Microsecond)
			p.Cancel(cancelData(i))
		})
		both.Go(func() {
			time.Sleep(time.Duration(rand.IntN(20)) * time.Microsecond)
			if _, err := unix.Write(wr, []byte("x")); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		bytes++
		switch res := r.of(i); res {
		case 1:
			bytes--
		case canceled:
		default:
			t.Errorf("read: %d", res)
		}
	}
	if bytes > 0 {
		if n, err := unix.Read(rd, make([]byte, rounds)); n != bytes {
			t.Errorf("%d bytes left, %v; want %d", n, err, bytes)
		}
	}
}

// The number of a closed descriptor comes back as another file's. Who waits for that must not be answered by the former one, nor the
// other way round.
func TestPoolDescriptorReuse(t *testing.T) {
	r := newResults(t)
	p := ring.NewPool(ops.Calls(), 2, r.post)
	defer p.Close()
	for round := uint64(0); round < 6; round += 2 {
		old, oldW := newPipe(t)
		p.Start(readEntry(t, round, old, heap(1)))
		waiting(t, p, 1)
		if round == 2 {
			p.Cancel(cancelData(round))
		}
		// The old file lives on under another number, so that it can still become ready.
		kept, err := unix.Dup(old)
		if err != nil {
			t.Fatal(err)
		}
		fresh, freshW := newPipe(t)
		if err := unix.Dup3(fresh, old, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		buf := heap(1)
		p.Start(readEntry(t, round+1, old, buf))
		waiting(t, p, 1)
		want := -int32(syscall.EBADF)
		if round == 2 {
			want = canceled
		}
		if res := r.of(round); res != want {
			t.Errorf("the former file's reader: %d, want %d", res, want)
		}
		if _, err := unix.Write(oldW, []byte("o")); err != nil {
			t.Fatal(err)
		}
		r.none()
		if _, err := unix.Write(freshW, []byte("f")); err != nil {
			t.Fatal(err)
		}
		if res := r.of(round + 1); res != 1 || buf[0] != 'f' {
			t.Errorf("the new file's reader: %d %q", res, buf)
		}
		_ = unix.Close(kept)
	}
}

// Files that cannot be polled are not: their call is made, and may block.
func TestPoolUnpollable(t *testing.T) {
	r := newResults(t)
	table := *ops.Calls()
	table[ring.OpRead].Try = func(*ring.SQE) int32 { return again }
	p := ring.NewPool(&table, 1, r.post)
	defer p.Close()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("content"); err != nil {
		t.Fatal(err)
	}
	buf := heap(7)
	e := readEntry(t, 1, int(f.Fd()), buf)
	e.Off = 0
	p.Start(e)
	if res := r.of(1); res != 7 || string(buf) != "content" {
		t.Errorf("%d %q", res, buf)
	}
	closed := readEntry(t, 2, 1<<20, buf)
	p.Start(closed)
	if res := r.of(2); res != -int32(syscall.EBADF) {
		t.Errorf("a closed descriptor: %d", res)
	}
}

// A completion whose post has begun is posted before Close returns: what is posted later, nobody looks at, and a descriptor in it would be lost.
func TestPoolCloseDuringAPost(t *testing.T) {
	g := newGate()
	posting, closed := make(chan struct{}), make(chan struct{})
	var late atomic.Bool
	done := make(chan struct{})
	p := ring.NewPool(g.table(), 1, func(ring.CQE) {
		close(posting)
		select {
		case <-closed:
			late.Store(true)
		case <-time.After(20 * time.Millisecond): // Close waits for us
		}
		close(done)
	})
	p.Start(gated(1))
	<-g.began
	close(g.free)
	<-posting
	p.Close()
	close(closed)
	<-done
	if late.Load() {
		t.Error("Close returned in the middle of a post")
	}
}

// Close does not wait for a call that hangs, and gives back what it creates in the end. What waits or is queued is gone.
func TestPoolClose(t *testing.T) {
	g, r := newGate(), newResults(t)
	p := ring.NewPool(g.table(), 2, r.post)
	rd, _ := newPipe(t)
	p.Start(readEntry(t, 1, rd, heap(1)))
	waiting(t, p, 1)
	hour := escaped(ring.Timespec{Sec: 3600})
	p.Start(&ring.SQE{Op: ring.OpTimeout, FD: -1, Len: 1, UserData: 2, Addr: uint64(uintptr(unsafe.Pointer(hour)))})
	for i := range uint64(3) {
		p.Start(gated(10 + i))
	}
	<-g.began
	<-g.began
	p.Close()
	p.Start(readEntry(t, 3, rd, heap(1)))
	close(g.free)
	waitFor(t, "both calls ended", func() bool { return g.dropped.Load() == 2 })
	r.none()
	runtime.KeepAlive(hour)
}

func TestPoolTimeout(t *testing.T) {
	r := newResults(t)
	p := ring.NewPool(ops.Calls(), 1, r.post)
	defer p.Close()
	var now [3]unix.Timespec
	clocks := [3]int32{unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_REALTIME}
	for i := range now {
		if err := unix.ClockGettime(clocks[i], &now[i]); err != nil {
			t.Fatal(err)
		}
	}
	const ms = int64(time.Millisecond)
	in10ms := func(ts unix.Timespec) ring.Timespec {
		return ring.Timespec{Sec: int64(ts.Sec), Nsec: int64(ts.Nsec) + 10*ms}
	}
	etime, einval := -int32(syscall.ETIME), -int32(syscall.EINVAL)
	for i, c := range []struct {
		ts    ring.Timespec
		flags uint32
		least time.Duration
		want  int32
	}{
		{ring.Timespec{Nsec: 5 * ms}, 0, 5 * time.Millisecond, etime},
		{ring.Timespec{Nsec: 5 * ms}, ring.TimeoutBoottime, 5 * time.Millisecond, etime},
		{in10ms(now[0]), ring.TimeoutAbs, 0, etime},
		{in10ms(now[1]), ring.TimeoutAbs | ring.TimeoutBoottime, 0, etime},
		{in10ms(now[2]), ring.TimeoutAbs | ring.TimeoutRealtime, 0, etime},
		{ring.Timespec{}, ring.TimeoutAbs, 0, etime},
		{ring.Timespec{Sec: -1}, 0, 0, einval},
		{ring.Timespec{Nsec: -1}, 0, 0, einval},
		{ring.Timespec{}, 1 << 30, 0, einval},
		{ring.Timespec{}, ring.TimeoutBoottime | ring.TimeoutRealtime, 0, einval},
	} {
		begin, ts := time.Now(), escaped(c.ts)
		p.Start(&ring.SQE{Op: ring.OpTimeout, FD: -1, Len: 1, UserData: uint64(i), OpFlags: c.flags, Addr: uint64(uintptr(unsafe.Pointer(ts)))})
		if res := r.of(uint64(i)); res != c.want || time.Since(begin) < c.least {
			t.Errorf("%+v flags %#x: %d after %v; want %d", c.ts, c.flags, res, time.Since(begin), c.want)
		}
		runtime.KeepAlive(ts)
	}
	long := escaped(ring.Timespec{Sec: 1 << 62})
	p.Start(&ring.SQE{Op: ring.OpTimeout, Len: 1, UserData: 90, Addr: uint64(uintptr(unsafe.Pointer(long)))})
	p.Start(&ring.SQE{Op: ring.OpTimeout, Len: 1, UserData: 91})
	p.Start(&ring.SQE{Op: ring.OpTimeoutRemove, UserData: 92, Addr: 90})
	p.Start(&ring.SQE{Op: ring.OpTimeoutRemove, UserData: 93, Addr: 90})
	p.Start(&ring.SQE{Op: ring.OpTimeoutRemove, UserData: 94, Addr: 90, OpFlags: 2})
	p.Start(&ring.SQE{Op: 63, UserData: 95})
	for data, want := range map[uint64]int32{90: canceled, 91: -int32(syscall.EFAULT), 92: 0, 93: noent, 94: einval, 95: einval} {
		if res := r.of(data); res != want {
			t.Errorf("request %d: %d; want %d", data, res, want)
		}
	}
	runtime.KeepAlive(long)
}

// BenchmarkPool is the cost of an entry that does nothing, from Start to its completion, for batches of different sizes.
func BenchmarkPool(b *testing.B) {
	var table ring.CallTable
	table[ring.OpFsync].Do = func(*ring.SQE) int32 { return 0 }
	for _, batch := range []int{1, 8, 64, 512} {
		b.Run(strconv.Itoa(batch), func(b *testing.B) {
			var left atomic.Int64
			done := make(chan struct{}, 1)
			p := ring.NewPool(&table, 16, func(ring.CQE) {
				if left.Add(-1) == 0 {
					done <- struct{}{}
				}
			})
			defer p.Close()
			e := ring.SQE{Op: ring.OpFsync}
			b.ReportAllocs()
			for i := 0; i < b.N; i += batch {
				left.Store(int64(batch))
				for range batch {
					p.Start(&e)
				}
				<-done
			}
		})
	}
}

// countingReceives returns a pool that counts how often it tries to receive.
func countingReceives(r *results) (*ring.Pool, *atomic.Int32) {
	table, tries := *ops.Calls(), new(atomic.Int32)
	try := table[ring.OpRecv].Try
	table[ring.OpRecv].Try = func(e *ring.SQE) int32 { tries.Add(1); return try(e) }
	return ring.NewPool(&table, 4, r.post), tries
}

// triedSeldom sees, after a while, that there were no more tries since begin than so many, and two for each pause.
func triedSeldom(t *testing.T, most int32, tries *atomic.Int32, begin time.Time) {
	t.Helper()
	time.Sleep(50 * time.Millisecond)
	n := tries.Load()
	if most += 2 * int32(time.Since(begin)/ring.ErrorPause); n > most {
		t.Errorf("tried %d times, more than %d", n, most)
	}
}

// A descriptor that is ready, but not for what is wanted of it, is not tried over and over.
func TestPoolWaitsForOtherReadiness(t *testing.T) {
	r := newResults(t)
	p, tries := countingReceives(r)
	defer p.Close()
	s, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(s[0])
	defer unix.Close(s[1])
	if _, err := unix.Write(s[1], []byte("seen")); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(s[0], unix.SOL_SOCKET, unix.SO_PEEK_OFF, 4); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 8)
	peek := readEntry(t, 1, s[0], buf)
	peek.Op, peek.Off, peek.OpFlags = ring.OpRecv, 0, unix.MSG_PEEK
	begin := time.Now()
	p.Start(peek)
	triedSeldom(t, 100, tries, begin)
	if _, err := unix.Write(s[1], []byte("new")); err != nil {
		t.Fatal(err)
	}
	if res := r.of(1); res != 3 || string(buf[:3]) != "new" {
		t.Errorf("peeked at %d, %q", res, buf)
	}
}

// A call is not tried over and over while its descriptor is in error, of which it does not tell. It can be cancelled, and it is no timeout.
func TestPoolWaitsForWhatIsInError(t *testing.T) {
	r := newResults(t)
	p, tries := countingReceives(r)
	defer p.Close()
	fd, addr := testenv.ErrorQueued(t)
	buf := make([]byte, 8)
	recv := func(data uint64) {
		e := readEntry(t, data, fd, buf)
		e.Op, e.Off = ring.OpRecv, 0
		p.Start(e)
	}
	begin := time.Now()
	recv(1)
	triedSeldom(t, 10, tries, begin)
	p.Start(&ring.SQE{Op: ring.OpTimeoutRemove, FD: -1, Addr: 1, UserData: 2})
	if res := r.of(2); res != noent {
		t.Errorf("taken for a timeout: %d", res)
	}
	p.Cancel(cancelData(1))
	if res := r.of(1); res != canceled {
		t.Errorf("cancelled: %d", res)
	}
	recv(3)
	from, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(from)
	if err := unix.Sendto(from, []byte("news"), 0, addr); err != nil {
		t.Fatal(err)
	}
	if res := r.of(3); res != 4 || string(buf[:4]) != "news" {
		t.Errorf("received %d, %q", res, buf)
	}
}
