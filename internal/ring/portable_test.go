package ring_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	sys "github.com/iceber/iouring-go/syscall"
	"pgregory.net/rapid"

	"uringo/internal/ring"
	"uringo/ops"
)

// Set-up flags that the ABI package lacks.
const (
	singleIssuer = 1 << 12
	deferTaskrun = 1 << 13
	noSQArray    = 1 << 16
)

// openPortable returns a portable ring that the test closes.
func openPortable(t testing.TB, cfg ring.Config) *ring.Ring {
	t.Helper()
	if cfg.Kernel == nil {
		cfg.Kernel = ring.NewPortable(ops.Calls(), 16)
	}
	r, err := ring.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// needLinux skips the test where there is nothing to compare with.
func needLinux(t testing.TB) {
	t.Helper()
	r, err := ring.Open(ring.Config{})
	if ring.Unavailable(err) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// The portable engine makes queues of the same sizes as the kernel, and refuses the same wishes.
func TestPortableSetup(t *testing.T) {
	needLinux(t)
	const taskrun = sys.IORING_SETUP_TASKRUN_FLAG
	for _, c := range []struct {
		entries, flags, cq uint32
	}{
		{0, 0, 0}, {1, 0, 0}, {3, 0, 0}, {256, 0, 0}, {32768, 0, 0}, {32769, 0, 0}, {1 << 31, 0, 0},
		{32769, sys.IORING_SETUP_CLAMP, 0}, {8, sys.IORING_SETUP_CQSIZE, 0}, {8, sys.IORING_SETUP_CQSIZE, 8},
		{8, sys.IORING_SETUP_CQSIZE, 4}, {8, sys.IORING_SETUP_CQSIZE, 5}, {5, sys.IORING_SETUP_CQSIZE, 9},
		{8, sys.IORING_SETUP_CQSIZE, 1 << 17}, {8, sys.IORING_SETUP_CQSIZE | sys.IORING_SETUP_CLAMP, 1 << 17},
		{8, noSQArray, 0}, {8, singleIssuer, 0}, {8, deferTaskrun, 0}, {8, singleIssuer | deferTaskrun, 0}, {8, taskrun, 0},
		{8, taskrun | sys.IORING_SETUP_COOP_TASKRUN, 0}, {8, 1 << 31, 0}, {8, sys.IORING_SETUP_R_DISABLED, 0},
	} {
		setup := func(k ring.Kernel) string {
			p := ring.Params{Flags: c.flags, CQEntries: c.cq}
			fd, err := k.Setup(c.entries, &p)
			if err != nil {
				return err.Error()
			}
			if err := k.Close(fd); err != nil {
				t.Error(err)
			}
			return fmt.Sprint(p.SQEntries, " and ", p.CQEntries)
		}
		want, got := setup(ring.Linux()), setup(ring.NewPortable(ops.Calls(), 1))
		if got != want {
			t.Errorf("%d entries, flags %#x, %d completions: %s; Linux: %s", c.entries, c.flags, c.cq, got, want)
		}
	}
	if _, err := ring.NewPortable(ops.Calls(), 1).Setup(8, &ring.Params{Flags: sys.IORING_SETUP_SQPOLL}); err != syscall.EINVAL {
		t.Errorf("a submission thread: %v", err)
	}
}

// What makes no sense is refused, before, while and after the ring is open.
func TestPortableRefuses(t *testing.T) {
	k := ring.NewPortable(ops.Calls(), 1)
	enter := func(fd int, submit, min, flags uint32, arg *ring.WaitArg) syscall.Errno {
		_, errno := k.Enter(fd, submit, min, flags, arg)
		return errno
	}
	register := func(fd int, op uint32, arg unsafe.Pointer, n uint32) syscall.Errno {
		_, errno := k.Register(fd, op, arg, n)
		return errno
	}
	mapped := func(fd int, off uint64, size int) error {
		_, err := k.Map(fd, off, size)
		return err
	}
	check := func(what string, got, want error) {
		t.Helper()
		if errno, ok := got.(syscall.Errno); ok && errno == 0 {
			got = nil
		}
		if got != want {
			t.Errorf("%s: %v; want %v", what, got, want)
		}
	}
	check("enter before setup", enter(0, 0, 0, 0, nil), syscall.EBADF)
	p := ring.Params{Flags: sys.IORING_SETUP_R_DISABLED}
	fd, err := k.Setup(4, &p)
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Setup(4, &ring.Params{})
	check("a second ring", err, syscall.EBUSY)
	check("map", mapped(fd, sys.IORING_OFF_SQ_RING, 64), nil)
	check("map of another descriptor", mapped(3, sys.IORING_OFF_SQ_RING, 64), syscall.EBADF)
	check("map too much", mapped(fd, sys.IORING_OFF_SQES, 4*64+1), syscall.EINVAL)
	check("map elsewhere", mapped(fd, 42, 64), syscall.EINVAL)

	const probe, restrictions, enable = 8, 11, 12
	var zero [4096]byte
	arg := unsafe.Pointer(&zero)
	check("enter while disabled", enter(fd, 0, 0, 0, nil), syscall.EBADFD)
	check("probe of nothing", register(fd, probe, arg, 0), syscall.EINVAL)
	check("probe to nowhere", register(fd, probe, nil, 1), syscall.EFAULT)
	check("what it does not offer", register(fd, 0, arg, 1), syscall.EINVAL)
	check("unknown restrictions", register(fd, restrictions, unsafe.Pointer(&[16]byte{9}), 1), syscall.EINVAL)
	check("restrictions", register(fd, restrictions, unsafe.Pointer(&[2][16]byte{{1, 0, byte(ring.OpNop)}, {0, 0, enable}}), 2), nil)
	check("more restrictions", register(fd, restrictions, arg, 1), syscall.EBUSY)
	check("enable with words", register(fd, enable, arg, 1), syscall.EINVAL)
	check("enable", register(fd, enable, nil, 0), nil)
	check("enable again", register(fd, enable, nil, 0), syscall.EBADFD)
	check("a register call that is not allowed", register(fd, probe, arg, 1), syscall.EACCES)

	check("unknown flags", enter(fd, 0, 0, 1<<30, nil), syscall.EINVAL)
	check("an argument without its flag", enter(fd, 0, 0, 0, &ring.WaitArg{}), syscall.EINVAL)
	const get, ext = ring.EnterGetEvents, ring.EnterExtArg
	check("a flag without its argument", enter(fd, 0, 0, ext, nil), syscall.EINVAL)
	ts := escaped(ring.Timespec{Nsec: 1000})
	wait := ring.WaitArg{Timespec: uint64(uintptr(unsafe.Pointer(ts)))}
	check("a wait", enter(fd, 0, 1, get|ext, &wait), syscall.ETIME)
	wait.MinWaitUsec = 1
	check("a minimal wait", enter(fd, 0, 1, get|ext, &wait), syscall.EINVAL)
	ts.Nsec, wait.MinWaitUsec = -1, 0
	check("a negative wait", enter(fd, 0, 1, get|ext, &wait), syscall.EINVAL)
	runtime.KeepAlive(ts)

	check("close of another descriptor", k.Close(3), syscall.EBADF)
	check("close", k.Close(fd), nil)
	check("close again", k.Close(fd), syscall.EBADF)
	check("enter afterwards", enter(fd, 0, 0, 0, nil), syscall.EBADF)
	k.Wake()
	k.Wake() // nobody is there; it must not block
}

// As many calls run at a time as the engine was made for: it has no worker threads that the limits of those would count for.
func TestPortableLimit(t *testing.T) {
	limit := 2*runtime.NumCPU() + 100 // more than a ring lets a kernel have threads, unless it is told to
	for _, cfg := range []ring.Config{{}, {IowqBounded: 1, IowqUnbounded: 1}} {
		g := newGate()
		cfg.Entries, cfg.Kernel = uint32(limit+2), ring.NewPortable(g.table(), limit)
		r := openPortable(t, cfg)
		for i := range limit + 1 {
			*r.Next() = *gated(uint64(i))
		}
		if err := r.Submit(); err != nil {
			t.Fatal(err)
		}
		for n := range limit {
			select {
			case <-g.began:
			case <-time.After(20 * time.Second):
				t.Fatalf("%d calls at a time; the limit is %d", n, limit)
			}
		}
		close(g.free)
		var out [64]ring.CQE
		for n := 0; n <= limit; n += r.Reap(out[:]) {
			if err := r.SubmitAndWait(0); err != nil {
				t.Fatal(err)
			}
		}
		if most := int(g.most.Load()); most != limit {
			t.Errorf("%d calls at a time; the limit is %d", most, limit)
		}
	}
}

// Entries that ask for what the engine lacks are answered, and not taken for others.
func TestPortableEntryFlags(t *testing.T) {
	r := openPortable(t, ring.Config{Entries: 16})
	for want, e := range map[syscall.Errno]ring.SQE{
		syscall.EBADF:      {Op: ring.OpRead, Flags: ring.SQEFixedFile},
		syscall.EOPNOTSUPP: {Op: ring.OpRead, Flags: ring.SQEBufferSelect},
		syscall.EINVAL:     {Op: ring.OpNop, Flags: ring.SQEDrain},
	} {
		if got := one(t, r, e); got != -int32(want) {
			t.Errorf("%+v: %d; want %v", e, got, want)
		}
	}
	for _, e := range []ring.SQE{
		{Op: ring.OpNop, Flags: 1 << 7}, {Op: ring.OpNop, Personality: 1}, {Op: ring.OpNop, OpFlags: 1 << 20},
		{Op: ring.OpPollAdd, FD: 0, OpFlags: 1, Len: 1}, {Op: ring.OpReadMultishot}, {Op: 255},
	} {
		if got := one(t, r, e); got != -int32(syscall.EINVAL) {
			t.Errorf("%+v: %d; want EINVAL", e, got)
		}
	}
	if got := one(t, r, ring.SQE{Op: ring.OpNop, Flags: ring.SQEAsync}); got != 0 {
		t.Errorf("a nop for the workers: %d", got)
	}
}

// one performs an entry.
func one(t *testing.T, r *ring.Ring, e ring.SQE) int32 {
	t.Helper()
	b := batch{r: r}
	b.all(t, []ring.SQE{e})
	if len(b.got) != 1 {
		t.Fatalf("%+v: %+v", e, b.got)
	}
	return b.got[0].Res
}

// Completions beyond the queue are kept, announced, and come in their order.
func TestPortableOverflow(t *testing.T) {
	r := openPortable(t, ring.Config{Entries: 8, CQEntries: 8})
	const all = 100
	for i := uint64(0); i < all; {
		for ; i < all && r.Space() > 0; i++ {
			*r.Next() = nop(i)
		}
		if err := r.Submit(); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.SubmitAndWait(0); err != nil { // returns, although there is no room for more
		t.Fatal(err)
	}
	var got []uint64
	for len(got) < all {
		var out [3]ring.CQE
		n := r.Reap(out[:])
		if n == 0 {
			if err := r.SubmitAndWait(time.Second); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range out[:n] {
			got = append(got, c.UserData)
		}
	}
	for i, data := range got {
		if data != uint64(i) {
			t.Fatalf("completion %d is of %d", i, data)
		}
	}
	if r.Overflows == 0 {
		t.Error("the queue did not overflow")
	}
}

// A bad entry stops a batch only if the ring was not told to go on; entries through the indirection array may be in any order, and
// impossible ones are dropped.
func TestPortableArray(t *testing.T) {
	for _, k := range []ring.Kernel{ring.NewPortable(ops.Calls(), 1), ring.Linux()} {
		p := ring.Params{}
		fd, err := k.Setup(8, &p)
		if err != nil {
			t.Skip(err)
		}
		size := int(max(p.SQOffset.Array+p.SQEntries*4, p.CQOffset.Cqes+p.CQEntries*16))
		mem, err := k.Map(fd, sys.IORING_OFF_SQ_RING, size)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := k.Map(fd, sys.IORING_OFF_SQES, int(p.SQEntries)*64)
		if err != nil {
			t.Fatal(err)
		}
		at := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&mem[off])) }
		sqes := unsafe.Slice((*ring.SQE)(unsafe.Pointer(&entries[0])), p.SQEntries)
		cqes := unsafe.Slice((*ring.CQE)(unsafe.Pointer(at(p.CQOffset.Cqes))), p.CQEntries)
		array := unsafe.Slice(at(p.SQOffset.Array), p.SQEntries)
		sqes[5], sqes[2], sqes[7] = nop(1), ring.SQE{Op: 200, UserData: 2}, nop(3)
		array[0], array[1], array[2], array[3] = 5, 2, 7, 99
		atomic.StoreUint32(at(p.SQOffset.Tail), 4)
		var story []string
		for range 3 {
			n, errno := k.Enter(fd, 4, 0, 0, nil)
			story = append(story, fmt.Sprint(n, errno, atomic.LoadUint32(at(p.SQOffset.Head)), atomic.LoadUint32(at(p.CQOffset.Tail)),
				atomic.LoadUint32(at(p.SQOffset.Dropped))))
		}
		if want := []string{"2 errno 0 2 2 0", "1 errno 0 4 3 1", "0 errno 0 4 3 1"}; !slices.Equal(story, want) {
			t.Errorf("%T: %q; want %q", k, story, want)
		}
		if !slices.Equal(cqes[:3], []ring.CQE{{UserData: 1}, {UserData: 2, Res: -int32(syscall.EINVAL)}, {UserData: 3}}) {
			t.Errorf("%T: %+v", k, cqes[:3])
		}
		for _, m := range [][]byte{mem, entries} {
			if err := k.Unmap(m); err != nil {
				t.Error(err)
			}
		}
		if err := k.Close(fd); err != nil {
			t.Error(err)
		}
	}
}

// Waiting owners hold no threads, and every one is woken.
func TestPortableWait(t *testing.T) {
	const rings = 200
	threads := threadCount(t)
	woken := make(chan error, rings)
	var all []*ring.Ring
	for range rings {
		r := openPortable(t, ring.Config{Entries: 4, CQEntries: 4})
		all = append(all, r)
		go func() { woken <- r.SubmitAndWait(0) }()
	}
	time.Sleep(10 * time.Millisecond)
	if n := threadCount(t); n > threads+8+runtime.GOMAXPROCS(0) { // who runs takes one for each processor
		t.Errorf("%d threads for %d waiting rings", n-threads, rings)
	}
	if len(woken) > 0 {
		t.Errorf("%d rings did not wait", len(woken))
	}
	for _, r := range all {
		r.Wake()
	}
	for range rings {
		if err := <-woken; err != nil {
			t.Error(err)
		}
	}
}

// No wake-up is lost, whenever it comes: before the wait, during it, or with a completion or the end of its time.
func TestPortableWakeRace(t *testing.T) {
	r := openPortable(t, ring.Config{Entries: 8, CQEntries: 8})
	const rounds = 2000
	var posted atomic.Int64
	turn := make(chan struct{})
	go func() {
		for range rounds {
			posted.Add(1)
			r.Wake()
			<-turn
		}
	}()
	var out [8]ring.CQE
	for i := int64(1); i <= rounds; i++ {
		for posted.Load() < i {
			timeout := time.Duration(0)
			switch i % 3 {
			case 1:
				*r.Next() = nop(1)
			case 2:
				timeout = time.Microsecond
			}
			if err := r.SubmitAndWait(timeout); err != nil {
				t.Fatal(err)
			}
			r.Reap(out[:])
		}
		turn <- struct{}{}
	}
}

// Pool goroutines and the owner share the completion queue: nothing is lost or torn.
func TestPortableLoad(t *testing.T) {
	r := openPortable(t, ring.Config{Entries: 64, CQEntries: 64})
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content := make([]byte, 256)
	for i := range content {
		content[i] = byte(i)
	}
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	const total, inFlight = 20000, 200
	bufs := make([][]byte, inFlight)
	for i := range bufs {
		bufs[i] = heap(1)
	}
	started, finished := 0, 0
	free := make([]int, inFlight)
	for i := range free {
		free[i] = i
	}
	at := make([]int, inFlight)
	var out [64]ring.CQE
	for finished < total {
		for started < total && len(free) > 0 {
			e := r.Next()
			if e == nil {
				break
			}
			i := free[len(free)-1]
			free = free[:len(free)-1]
			at[i] = started % 256
			*e = ring.SQE{Op: ring.OpRead, FD: int32(f.Fd()), Off: uint64(at[i]), Len: 1, UserData: uint64(i),
				Addr: uint64(uintptr(unsafe.Pointer(&bufs[i][0])))}
			started++
		}
		if err := r.SubmitAndWait(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		for _, c := range out[:r.Reap(out[:])] {
			if c.Res != 1 || int(bufs[c.UserData][0]) != at[c.UserData] {
				t.Fatalf("%+v: read %d; want %d", c, bufs[c.UserData][0], at[c.UserData])
			}
			free = append(free, int(c.UserData))
			finished++
		}
	}
	runtime.KeepAlive(bufs)
}

// Any chains of any results and flags complete on the portable engine as they do in the kernel.
func TestPortableChains(t *testing.T) {
	needLinux(t)
	linux, err := ring.Open(ring.Config{Entries: 32})
	if ring.Unavailable(err) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := linux.Close(); err != nil {
			t.Error(err)
		}
	}()
	portable := openPortable(t, ring.Config{Entries: 32})
	probe := batch{r: linux}
	if probe.run(t, []ring.SQE{{Op: ring.OpNop, OpFlags: ring.NopInjectResult, Len: 7, UserData: 1}}); probe.got[0].Res != 7 {
		t.Skip("needs injected results (Linux 6.10)")
	}
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("four"); err != nil {
		t.Fatal(err)
	}
	buf, now := heap(8), escaped(ring.Timespec{})
	iov := escaped([2]struct {
		base *byte
		len  uint64
	}{{&buf[0], 2}, {&buf[2], 2}})
	read := ring.SQE{Op: ring.OpRead, FD: int32(f.Fd()), Addr: uint64(uintptr(unsafe.Pointer(&buf[0])))}
	timeout := ring.SQE{Op: ring.OpTimeout, FD: -1, Len: 1, Addr: uint64(uintptr(unsafe.Pointer(now)))}
	kinds := []func(rt *rapid.T) ring.SQE{
		func(rt *rapid.T) ring.SQE {
			res := rapid.SampledFrom([]int32{0, 0, 0, 5, -4, -125}).Draw(rt, "result")
			return ring.SQE{Op: ring.OpNop, OpFlags: ring.NopInjectResult, Len: uint32(res)}
		},
		func(rt *rapid.T) ring.SQE {
			e := read
			e.Len = rapid.SampledFrom([]uint32{0, 3, 4, 8}).Draw(rt, "len") // 8 is short
			e.Off = rapid.SampledFrom([]uint64{0, 100}).Draw(rt, "off")
			return e
		},
		func(rt *rapid.T) ring.SQE {
			e := read
			e.Op, e.Addr = ring.OpReadv, uint64(uintptr(unsafe.Pointer(iov)))
			e.Len = uint32(rapid.IntRange(0, 2).Draw(rt, "buffers"))
			e.Off = rapid.SampledFrom([]uint64{0, 1}).Draw(rt, "off")
			return e
		},
		func(rt *rapid.T) ring.SQE {
			e := timeout
			e.OpFlags = rapid.SampledFrom([]uint32{0, ring.TimeoutETimeSuccess, 1 << 20}).Draw(rt, "flags")
			return e
		},
		func(*rapid.T) ring.SQE { return ring.SQE{Op: ring.OpAsyncCancel, FD: -1, Addr: 99} },
		func(*rapid.T) ring.SQE { return ring.SQE{Op: 200} },
	}
	links := []uint8{0, 0, ring.SQELink, ring.SQELink, ring.SQEHardlink, ring.SQELink | ring.SQEHardlink}
	from := uint64(100) // of which nothing has the user data that is to be cancelled
	rapid.Check(t, func(rt *rapid.T) {
		entries := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) ring.SQE {
			e := kinds[rapid.SampledFrom([]int{0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5}).Draw(rt, "kind")](rt)
			e.Flags = rapid.SampledFrom(links).Draw(rt, "link") | rapid.SampledFrom([]uint8{0, 0, ring.SQECQESkip}).Draw(rt, "skip")
			return e
		}), 1, 12).Draw(rt, "entries")
		from += 100
		for i := range entries {
			entries[i].UserData = from + uint64(i)
		}
		want, got := batch{r: linux, from: from}, batch{r: portable, from: from}
		want.run(rt, entries)
		got.run(rt, entries)
		for tries := 0; !slices.Equal(got.got, want.got) && tries < 20; tries++ {
			// Nobody says when silent requests are over. Perhaps it was just slow.
			want.more(rt, 200*time.Millisecond)
			got.more(rt, 200*time.Millisecond)
		}
		if !slices.Equal(got.got, want.got) {
			rt.Errorf("entries %+v:\nportable %+v\nLinux    %+v", entries, got.got, want.got)
		}
	})
	runtime.KeepAlive(iov)
	runtime.KeepAlive(now)
}

// batch is what became of entries that were submitted together, by user data.
type batch struct {
	r    *ring.Ring
	from uint64 // its least user data: what comes late of an earlier batch is not its own
	got  []ring.CQE
}

type fataler interface{ Fatal(...any) }

func (b *batch) run(t fataler, entries []ring.SQE) {
	for i := range entries {
		*b.r.Next() = entries[i]
	}
	if err := b.r.Submit(); err != nil {
		t.Fatal(err)
	}
	b.more(t, 2*time.Millisecond)
}

// all is run for entries that all have a completion, and waits for these.
func (b *batch) all(t fataler, entries []ring.SQE) {
	b.run(t, entries)
	for deadline := time.Now().Add(10 * time.Second); len(b.got) < len(entries) && time.Now().Before(deadline); {
		b.more(t, 2*time.Millisecond)
	}
}

// more collects completions until there are none for a while.
func (b *batch) more(t fataler, quiet time.Duration) {
	for deadline := time.Now().Add(quiet); time.Now().Before(deadline); {
		if err := b.r.SubmitAndWait(time.Until(deadline)); err != nil {
			t.Fatal(err)
		}
		var out [64]ring.CQE
		for _, c := range out[:b.r.Reap(out[:])] {
			if c.UserData >= b.from {
				b.got = append(b.got, c)
				deadline = time.Now().Add(quiet)
			}
		}
	}
	slices.SortFunc(b.got, func(x, y ring.CQE) int { return int(x.UserData) - int(y.UserData) })
}
