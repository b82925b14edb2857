package ring_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
	"uringo/ops"
)

// world is an engine, and files for it to work on.
type world struct {
	name   string
	kernel ring.Kernel
	file   func(t *testing.T, data []byte) int32
	pipe   func(t *testing.T) pipe
	queue  func(*ring.Config) // what the engine wants different
	check  func() error       // afterwards
}

// pipe is a pipe as seen from the reading end.
type pipe struct {
	fd   int32
	feed func([]byte)
}

// worlds returns every engine, fresh. All of them are to give the same answers.
func worlds() []world {
	sim := func(name string, cfg ring.SimConfig) world {
		s := ring.NewSim(cfg)
		return world{
			name:   "sim " + name,
			kernel: s,
			file:   func(_ *testing.T, data []byte) int32 { return s.Add(ring.NewSimFile(data)) },
			pipe: func(*testing.T) pipe {
				f := ring.NewSimPipe()
				return pipe{s.Add(f), f.Feed}
			},
			check: s.Err,
		}
	}
	system := func(name string, k ring.Kernel) world {
		return world{name: name, kernel: k, file: realFile, pipe: realPipe, check: func() error { return nil }}
	}
	unlocked := system("linux", ring.Linux())
	locked := system("linux locked", ring.Linux())
	locked.queue = func(c *ring.Config) { c.Locked = true }
	old := system("linux with an array", withoutFlags{ring.Linux(), 1<<16 | 1<<8 | 1<<9})
	return []world{
		unlocked,
		locked,
		old,
		system("linux behind idle faults", ring.NewFaults(ring.Linux(), 1, ring.FaultConfig{})),
		system("portable", ring.NewPortable(ops.Calls(), 1)), // one call after the other, see settle
		sim("calm", ring.SimConfig{}),
		sim("slow", ring.SimConfig{Delay: 30, Seed: 1}),
		sim("moody", ring.SimConfig{Delay: 5, Partial: 0.3, Early: 0.1, EnterFails: 0.2, Bogus: 0, Seed: 2, Start: 1<<32 - 3}),
		sim("real time", ring.SimConfig{Delay: 5, RealTime: true, Seed: 3}),
		sim("on real files", ring.SimConfig{Delay: 5, Seed: 4, Calls: ops.Calls()}).onRealFiles(),
	}
}

func (w world) onRealFiles() world {
	w.file, w.pipe = realFile, realPipe
	return w
}

// withoutFlags is a kernel that refuses some set-up flags.
type withoutFlags struct {
	ring.Kernel
	flags uint32
}

func (k withoutFlags) Setup(entries uint32, p *ring.Params) (int, error) {
	if p.Flags&k.flags != 0 {
		return -1, syscall.EINVAL
	}
	return k.Kernel.Setup(entries, p)
}

func realFile(t *testing.T, data []byte) int32 {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "file"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	return int32(f.Fd())
}

func realPipe(t *testing.T) pipe {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return pipe{int32(p[0]), func(b []byte) {
		if n, err := unix.Write(p[1], b); n != len(b) {
			t.Errorf("write to a pipe: %d, %v", n, err)
		}
	}}
}

// rig drives a ring for a test.
type rig struct {
	*testing.T
	world
	r     *ring.Ring
	got   map[uint64]ring.CQE
	order []uint64
	keep  []any // what the kernel may touch
}

// eachWorld runs a test on every engine.
func eachWorld(t *testing.T, cfg ring.Config, test func(*rig)) {
	for _, w := range worlds() {
		t.Run(w.name, func(t *testing.T) {
			cfg := cfg
			cfg.Kernel = w.kernel
			if w.queue != nil {
				w.queue(&cfg)
			}
			if cfg.Locked {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
			}
			r, err := ring.Open(cfg)
			if err != nil {
				if ring.Unavailable(err) {
					t.Skipf("needs io_uring: %v, running %s", err, release())
				}
				t.Fatal(err)
			}
			g := &rig{T: t, world: w, r: r, got: map[uint64]ring.CQE{}}
			defer func() {
				if err := r.Close(); err != nil {
					t.Error(err)
				}
				if err := w.check(); err != nil {
					t.Error(err)
				}
				runtime.KeepAlive(g.keep)
			}()
			test(g)
		})
	}
}

// release names the running kernel.
var release = sync.OnceValue(func() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err.Error()
	}
	return "Linux " + unix.ByteSliceToString(u.Release[:])
})

// lacks skips the test for want of a feature, unless the running kernel should have it.
func lacks(t *testing.T, feature string, since ring.Version) {
	t.Helper()
	var major, minor int
	if _, err := fmt.Sscanf(release(), "Linux %d.%d", &major, &minor); err == nil && ring.V(major, minor) >= since {
		t.Fatalf("no %s, which came with %v, running %s", feature, since, release())
	}
	t.Skipf("needs %s (%v), running %s", feature, since, release())
}

// need skips the test unless the engine has the opcodes.
func (g *rig) need(ops ...ring.Op) {
	g.Helper()
	for _, op := range ops {
		if !g.r.Supports(op) {
			g.Skipf("needs opcode %v, running %s on %s", op, g.name, release())
		}
	}
}

// put lays entries and hands them over at once, so that chains stay whole.
func (g *rig) put(entries ...ring.SQE) {
	g.Helper()
	for _, e := range entries {
		to := g.r.Next()
		if to == nil {
			g.Fatal("submission queue is full")
		}
		*to = e
	}
	g.submit()
}

// submit hands over everything that is queued.
func (g *rig) submit() {
	g.Helper()
	for range 10_000 {
		if err := g.r.Submit(); err != nil && !errors.Is(err, ring.ErrBusy) {
			g.Fatal(err)
		}
		if g.r.Queued() == 0 {
			return
		}
		g.reap()
	}
	g.Fatalf("%d entries are not taken", g.r.Queued())
}

func (g *rig) reap() {
	g.Helper()
	var out [64]ring.CQE
	for _, c := range out[:g.r.Reap(out[:])] {
		if old, twice := g.got[c.UserData]; twice {
			g.Fatalf("two completions: %+v and %+v", old, c)
		}
		g.got[c.UserData] = c
		g.order = append(g.order, c.UserData)
	}
}

// wait returns when these completions are in.
func (g *rig) wait(data ...uint64) {
	g.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for g.reap(); !g.has(data...); g.reap() {
		if time.Now().After(deadline) {
			g.Fatalf("no completion of %v; there is %v", data, g.order)
		}
		if err := g.r.SubmitAndWait(time.Second); err != nil && !errors.Is(err, ring.ErrBusy) {
			g.Fatal(err)
		}
	}
}

func (g *rig) has(data ...uint64) bool {
	return !slices.ContainsFunc(data, func(d uint64) bool { _, ok := g.got[d]; return !ok })
}

// want waits for a completion and compares its result.
func (g *rig) want(data uint64, results ...int32) {
	g.Helper()
	g.wait(data)
	if res := g.got[data].Res; !slices.Contains(results, res) {
		g.Errorf("result %d is %s, want %v", data, show(res), results)
	}
}

func show(res int32) string {
	if res < 0 {
		return fmt.Sprintf("%d (%v)", res, syscall.Errno(-res))
	}
	return fmt.Sprint(res)
}

// none checks that requests have not completed.
func (g *rig) none(data ...uint64) {
	g.Helper()
	g.reap()
	for _, d := range data {
		if c, ok := g.got[d]; ok {
			g.Errorf("unexpected completion %+v", c)
		}
	}
}

// addr returns the address of b's memory, which stays as long as the rig.
func (g *rig) addr(b []byte) uint64 {
	g.keep = append(g.keep, b)
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
}

// span returns the address of a timespec.
func (g *rig) span(d time.Duration) uint64 {
	ts := &ring.Timespec{Sec: int64(d / time.Second), Nsec: int64(d % time.Second)}
	g.keep = append(g.keep, ts)
	return uint64(uintptr(unsafe.Pointer(ts)))
}

func (g *rig) read(data uint64, fd int32, buf []byte, off int64) ring.SQE {
	return ring.SQE{Op: ring.OpRead, FD: fd, Addr: g.addr(buf), Len: uint32(len(buf)), Off: uint64(off), UserData: data}
}

func (g *rig) write(data uint64, fd int32, buf []byte, off int64) ring.SQE {
	return ring.SQE{Op: ring.OpWrite, FD: fd, Addr: g.addr(buf), Len: uint32(len(buf)), Off: uint64(off), UserData: data}
}

func (g *rig) timeout(data uint64, d time.Duration) ring.SQE {
	return ring.SQE{Op: ring.OpTimeout, FD: -1, Addr: g.span(d), Len: 1, UserData: data}
}

func nop(data uint64) ring.SQE { return ring.SQE{Op: ring.OpNop, FD: -1, UserData: data} }

// bad is an entry that is performed and fails.
func bad(data uint64) ring.SQE {
	return ring.SQE{Op: ring.OpFsync, FD: -1, UserData: data}
}

func cancel(data, victim uint64) ring.SQE {
	return ring.SQE{Op: ring.OpAsyncCancel, FD: -1, Addr: victim, UserData: data}
}

func linked(e ring.SQE) ring.SQE { e.Flags |= ring.SQELink; return e }

const (
	eBADF     = -int32(syscall.EBADF)
	eINVAL    = -int32(syscall.EINVAL)
	eIO       = -int32(syscall.EIO)
	eNOENT    = -int32(syscall.ENOENT)
	eALREADY  = -int32(syscall.EALREADY)
	eCANCELED = -int32(syscall.ECANCELED)
	eINTR     = -int32(syscall.EINTR)
	eTIME     = -int32(syscall.ETIME)
	eACCES    = -int32(syscall.EACCES)
)

// conformance lists what every engine answers alike.
var conformance = []struct {
	name string
	test func(*rig)
}{
	{"a nop", func(g *rig) {
		g.put(nop(1))
		g.want(1, 0)
		if f := g.got[1].Flags; f != 0 {
			g.Errorf("flags %#x", f)
		}
	}},
	{"many nops through a small queue", func(g *rig) {
		var all []uint64
		for data := uint64(1); data <= 1000; {
			if e := g.r.Next(); e != nil {
				*e = nop(data)
				all = append(all, data)
				data++
				continue
			}
			g.submit()
			g.reap()
		}
		g.submit()
		g.wait(all...)
		for _, d := range all {
			g.want(d, 0)
		}
	}},
	{"what is missing", func(g *rig) {
		g.need(ring.OpNop, ring.OpRead, ring.OpWrite, ring.OpReadv, ring.OpWritev, ring.OpFsync, ring.OpTimeout,
			ring.OpTimeoutRemove, ring.OpAsyncCancel)
		if g.r.Supports(ring.OpCount-1) || g.r.Supports(ring.OpCount) || g.r.Supports(255) {
			g.Error("supports opcodes that do not exist")
		}
		g.put(ring.SQE{Op: 200, UserData: 1}, nop(2))
		g.want(1, eINVAL)
		g.want(2, 0)
	}},
	{"injected results", func(g *rig) {
		var all []uint64
		results := []int32{0, 1, 1<<31 - 1, eIO, eINTR, -512, -4095}
		for i, res := range results {
			e := nop(uint64(i + 1))
			e.OpFlags, e.Len = ring.NopInjectResult, uint32(res)
			g.put(e)
			all = append(all, e.UserData)
		}
		g.wait(all...)
		if g.got[2].Res == 0 {
			lacks(g.T, "IORING_NOP_INJECT_RESULT", ring.V(6, 10))
		}
		for i, res := range results {
			g.want(uint64(i+1), res)
		}
	}},

	{"a chain in order", func(g *rig) {
		g.put(linked(nop(1)), linked(nop(2)), nop(3))
		g.wait(1, 2, 3)
		if !slices.Equal(g.order, []uint64{1, 2, 3}) {
			g.Errorf("order %v", g.order)
		}
	}},
	{"a chain broken by a failure", func(g *rig) {
		g.put(linked(nop(1)), linked(bad(2)), linked(nop(3)), nop(4), nop(5))
		g.want(1, 0)
		g.want(2, eBADF)
		g.want(3, eCANCELED)
		g.want(4, eCANCELED)
		g.want(5, 0)
	}},
	{"a hard chain goes on", func(g *rig) {
		e := bad(1)
		e.Flags = ring.SQEHardlink
		g.put(e, nop(2))
		g.want(1, eBADF)
		g.want(2, 0)
	}},
	{"a chain broken by a short read", func(g *rig) {
		fd := g.file(g.T, []byte("abc"))
		g.put(linked(g.read(1, fd, make([]byte, 8), 0)), nop(2))
		g.want(1, 3)
		g.want(2, eCANCELED)
	}},
	{"a chain with an impossible member", func(g *rig) {
		g.put(linked(nop(1)), linked(ring.SQE{Op: 200, UserData: 2}), nop(3), nop(4))
		g.want(1, eCANCELED)
		g.want(2, eINVAL)
		g.want(3, eCANCELED)
		g.want(4, 0)
	}},
	{"a chain with several impossible members", func(g *rig) {
		impossible := func(data uint64) ring.SQE { return ring.SQE{Op: 200, UserData: data} }
		g.put(linked(impossible(1)), linked(nop(2)), linked(impossible(3)), impossible(4), nop(5))
		g.want(1, eINVAL)
		g.want(2, eCANCELED)
		g.want(3, eINVAL)
		g.want(4, eINVAL)
		g.want(5, 0)
	}},
	{"a hard chain with an impossible member", func(g *rig) {
		hard := func(e ring.SQE) ring.SQE { e.Flags |= ring.SQEHardlink; return e }
		g.put(hard(nop(1)), hard(ring.SQE{Op: 200, UserData: 2}), hard(nop(3)), nop(4))
		g.want(1, eCANCELED)
		g.want(2, eINVAL)
		g.want(3, eCANCELED)
		g.want(4, eCANCELED)
	}},
	{"a timeout breaks its chain", func(g *rig) {
		g.put(linked(g.timeout(1, time.Millisecond)), nop(2))
		g.want(1, eTIME)
		g.want(2, eCANCELED)
		e := linked(g.timeout(3, time.Millisecond))
		e.OpFlags = ring.TimeoutETimeSuccess
		g.put(e, nop(4))
		g.want(3, eTIME)
		g.want(4, 0)
	}},
	{"what waits in a chain cannot be found", func(g *rig) {
		g.put(linked(g.timeout(1, time.Minute)), nop(2))
		g.put(cancel(3, 2))
		g.want(3, eNOENT)
		g.put(cancel(4, 1))
		g.want(4, 0)
		g.want(1, eCANCELED)
		g.want(2, eCANCELED)
	}},
	{"silence on success", func(g *rig) {
		quiet := func(e ring.SQE) ring.SQE { e.Flags |= ring.SQECQESkip; return e }
		g.put(quiet(nop(1)), quiet(bad(2)), linked(quiet(nop(3))), nop(4))
		g.want(2, eBADF)
		g.want(4, 0)
		g.none(1, 3)
	}},

	{"a timeout", func(g *rig) {
		g.put(g.timeout(1, time.Millisecond))
		g.want(1, eTIME)
	}},
	{"a timeout that counts", func(g *rig) {
		e := g.timeout(1, 10*time.Second)
		e.Off = 1
		g.put(e)
		g.reap()
		if g.got[1].Res == eINVAL {
			g.Skipf("needs timeouts that count completions, running %s on %s", g.name, release())
		}
		g.none(1)
		g.put(nop(2))
		g.want(1, 0)
	}},
	{"a timeout is removed", func(g *rig) {
		remove := ring.SQE{Op: ring.OpTimeoutRemove, FD: -1, Addr: 1, UserData: 2}
		g.put(g.timeout(1, time.Minute))
		g.put(remove)
		g.want(2, 0)
		g.want(1, eCANCELED)
		remove.UserData = 3
		g.put(remove)
		g.want(3, eNOENT)
	}},
	{"a timeout is cancelled", func(g *rig) {
		g.put(g.timeout(1, time.Minute))
		g.put(cancel(2, 1))
		g.want(2, 0)
		g.want(1, eCANCELED)
	}},
	{"timeouts in their order", func(g *rig) {
		g.put(g.timeout(1, 30*time.Millisecond), g.timeout(2, 10*time.Millisecond), g.timeout(3, 20*time.Millisecond))
		g.wait(1, 2, 3)
		// The portable engine has a goroutine for each, and they may overtake one another when all are late.
		if !slices.Equal(g.order, []uint64{2, 3, 1}) && g.name != "portable" {
			g.Errorf("order %v", g.order)
		}
	}},
	{"a link timeout that fires", func(g *rig) {
		g.need(ring.OpLinkTimeout)
		p := g.pipe(g.T)
		limit := g.timeout(2, time.Millisecond)
		limit.Op = ring.OpLinkTimeout
		g.put(linked(g.read(1, p.fd, make([]byte, 8), 0)), limit)
		g.want(1, eCANCELED, eINTR)
		g.want(2, eTIME)
	}},
	{"a link timeout that does not", func(g *rig) {
		g.need(ring.OpLinkTimeout)
		limit := g.timeout(2, time.Minute)
		limit.Op = ring.OpLinkTimeout
		g.put(linked(nop(1)), limit)
		g.want(1, 0)
		g.want(2, eCANCELED)
	}},

	{"nothing to cancel", func(g *rig) {
		g.put(cancel(1, 99))
		g.want(1, eNOENT)
		g.put(nop(2))
		g.wait(2)
		g.put(cancel(3, 2))
		g.want(3, eNOENT)
	}},
	{"a pending read is cancelled", func(g *rig) {
		p := g.pipe(g.T)
		g.put(g.read(1, p.fd, make([]byte, 8), 0))
		g.settle()
		g.none(1)
		g.put(cancel(2, 1))
		g.want(2, 0, eALREADY)
		g.want(1, eCANCELED, eINTR)
		// It took nothing with it.
		buf := make([]byte, 8)
		p.feed([]byte("left"))
		g.put(g.read(3, p.fd, buf, 0))
		g.want(3, 4)
		if string(buf[:4]) != "left" {
			g.Errorf("read %q", buf[:4])
		}
	}},
	{"everything on a descriptor is cancelled", func(g *rig) {
		p, other := g.pipe(g.T), g.pipe(g.T)
		g.put(g.read(1, p.fd, make([]byte, 8), 0), g.read(2, other.fd, make([]byte, 8), 0), g.read(3, p.fd, make([]byte, 8), 0),
			g.timeout(4, time.Minute))
		g.settle()
		g.put(ring.SQE{Op: ring.OpAsyncCancel, FD: p.fd, OpFlags: ring.CancelFD | ring.CancelAll, UserData: 5})
		g.want(5, 2)
		g.want(1, eCANCELED, eINTR)
		g.want(3, eCANCELED, eINTR)
		g.none(2, 4)
		g.put(ring.SQE{Op: ring.OpAsyncCancel, FD: p.fd, OpFlags: ring.CancelFD | ring.CancelAll, UserData: 6})
		g.want(6, 0)
		g.put(ring.SQE{Op: ring.OpAsyncCancel, FD: 1 << 28, OpFlags: ring.CancelFD | ring.CancelAll, UserData: 7})
		g.want(7, eBADF)
		g.put(ring.SQE{Op: ring.OpAsyncCancel, FD: -1, OpFlags: ring.CancelAny, UserData: 8})
		g.want(8, 2, 3) // the ring may have a read of its own in flight
		g.want(2, eCANCELED, eINTR)
		g.want(4, eCANCELED)
	}},
	{"cancellation by several criteria", func(g *rig) {
		p := g.pipe(g.T)
		g.put(g.read(1, p.fd, make([]byte, 8), 0), g.read(2, p.fd, make([]byte, 8), 0), g.timeout(3, time.Minute))
		g.settle()
		g.put(ring.SQE{Op: ring.OpAsyncCancel, FD: p.fd, Addr: 2, OpFlags: ring.CancelFD | ring.CancelUserData, UserData: 4})
		g.wait(4)
		if g.got[4].Res == eINVAL {
			g.put(cancel(5, 1), cancel(6, 2), cancel(7, 3))
			g.wait(1, 2, 3, 5, 6, 7)
			lacks(g.T, "IORING_ASYNC_CANCEL_USERDATA", ring.V(6, 6))
		}
		g.want(4, 0)
		g.want(2, eCANCELED, eINTR)
		g.none(1, 3)
		g.put(ring.SQE{Op: ring.OpAsyncCancel, Len: uint32(ring.OpRead), OpFlags: ring.CancelOp | ring.CancelAll, FD: -1, UserData: 5})
		g.want(5, 1, 2) // the ring may have a read of its own in flight
		g.wait(1)
		g.none(3)
		g.put(cancel(6, 3))
		g.want(3, eCANCELED)
	}},
	{"contradictory cancellation", func(g *rig) {
		g.put(ring.SQE{Op: ring.OpAsyncCancel, FD: -1, OpFlags: ring.CancelAny | ring.CancelFD, UserData: 1})
		g.want(1, eINVAL)
	}},

	{"a read waits for bytes", func(g *rig) {
		p := g.pipe(g.T)
		buf := make([]byte, 8)
		g.put(g.read(1, p.fd, buf, 0))
		g.settle()
		g.none(1)
		p.feed([]byte("bytes"))
		g.want(1, 5)
		if string(buf[:5]) != "bytes" {
			g.Errorf("read %q", buf)
		}
	}},
	{"bytes come from where they belong", func(g *rig) {
		data := []byte("0123456789")
		fd := g.file(g.T, data)
		a, b := make([]byte, 4), make([]byte, 8)
		g.put(g.read(1, fd, a, 3), g.read(2, fd, b, 6), g.read(3, fd, make([]byte, 4), 10), g.read(4, fd, nil, 0),
			g.read(5, fd, make([]byte, 4), 1000))
		g.want(1, 4)
		g.want(2, 4)
		g.want(3, 0)
		g.want(4, 0)
		g.want(5, 0)
		if string(a) != "3456" || !bytes.Equal(b, []byte("6789\x00\x00\x00\x00")) {
			g.Errorf("read %q and %q", a, b)
		}
		g.put(linked(g.write(6, fd, []byte("abc"), 9)), g.read(7, fd, b, 8))
		g.want(6, 3)
		g.want(7, 4)
		if string(b[:4]) != "8abc" {
			g.Errorf("read %q", b[:4])
		}
	}},
	{"the file position", func(g *rig) {
		fd := g.file(g.T, []byte("0123456789"))
		a, b := make([]byte, 4), make([]byte, 4)
		g.put(g.read(1, fd, a, -1))
		g.want(1, 4)
		g.put(g.read(2, fd, b, -1))
		g.want(2, 4)
		if string(a)+string(b) != "01234567" {
			g.Errorf("read %q, %q", a, b)
		}
	}},
	{"several buffers", func(g *rig) {
		fd := g.file(g.T, []byte("0123456789"))
		vec := func(op ring.Op, data uint64, off uint64, bufs ...[]byte) ring.SQE {
			v := make([]unix.Iovec, len(bufs))
			for i, b := range bufs {
				v[i].Base = unsafe.SliceData(b)
				v[i].SetLen(len(b))
			}
			g.keep = append(g.keep, v)
			return ring.SQE{Op: op, FD: fd, Addr: uint64(uintptr(unsafe.Pointer(&v[0]))), Len: uint32(len(v)), Off: off, UserData: data}
		}
		a, b := make([]byte, 3), make([]byte, 9)
		g.put(vec(ring.OpReadv, 1, 2, a, nil, b))
		g.want(1, 8)
		if string(a) != "234" || string(b[:5]) != "56789" {
			g.Errorf("read %q, %q", a, b)
		}
		g.put(linked(vec(ring.OpWritev, 2, 1, []byte("ab"), []byte("cde"))), g.read(3, fd, b[:7], 0))
		g.want(2, 5)
		g.want(3, 7)
		if string(b[:7]) != "0abcde6" {
			g.Errorf("read %q", b[:7])
		}
	}},
	{"impossible descriptors and offsets", func(g *rig) {
		fd := g.file(g.T, []byte("0123456789"))
		g.put(g.read(1, 1<<28, make([]byte, 4), 0), g.read(2, fd, make([]byte, 4), -1<<63))
		g.want(1, eBADF)
		g.want(2, eINVAL)
	}},
	{"size and sync", func(g *rig) {
		fd := g.file(g.T, []byte("0123456789"))
		g.need(ring.OpFtruncate)
		g.put(linked(ring.SQE{Op: ring.OpFtruncate, FD: fd, Off: 4, UserData: 1}), linked(ring.SQE{Op: ring.OpFsync, FD: fd, UserData: 2}),
			g.read(3, fd, make([]byte, 8), 0))
		g.want(1, 0)
		g.want(2, 0)
		g.want(3, 4)
	}},
	{"a drain waits for what came before", func(g *rig) {
		if g.name == "portable" {
			g.Skipf("needs IOSQE_IO_DRAIN, running %s on %s", g.name, release())
		}
		drain := nop(2)
		drain.Flags = ring.SQEDrain
		g.put(g.timeout(1, 5*time.Millisecond), drain, nop(3))
		g.wait(1, 2, 3)
		if !slices.Equal(g.order[:2], []uint64{1, 2}) {
			g.Errorf("order %v", g.order)
		}
	}},

	{"waiting ends with its time", func(g *rig) {
		p := g.pipe(g.T)
		g.put(g.read(1, p.fd, make([]byte, 8), 0))
		g.settle()
		for range 3 {
			if err := g.r.SubmitAndWait(time.Millisecond); err != nil && !errors.Is(err, ring.ErrBusy) {
				g.Fatal(err)
			}
		}
		g.none(1)
		g.put(cancel(2, 1))
		g.wait(1, 2)
	}},
	{"waiting ends with a wake-up", func(g *rig) {
		p := g.pipe(g.T)
		g.put(g.read(1, p.fd, make([]byte, 8), 0))
		for range 100 {
			g.r.Wake()
			if err := g.r.SubmitAndWait(0); err != nil && !errors.Is(err, ring.ErrBusy) {
				g.Fatal(err)
			}
			g.none(1)
		}
		g.put(cancel(2, 1))
		g.wait(1, 2)
	}},
}

// settle gives what was submitted the time to begin. On the portable engine, a call behind it has been made by then.
func (g *rig) settle() {
	if g.name == "portable" {
		const last = 1 << 50
		delete(g.got, last)
		g.put(ring.SQE{Op: ring.OpFsync, FD: -1, UserData: last})
		g.want(last, eBADF)
	}
	for range 3 {
		if err := g.r.SubmitAndWait(2 * time.Millisecond); err != nil && !errors.Is(err, ring.ErrBusy) {
			g.Fatal(err)
		}
		g.reap()
	}
}

// TestConformance runs the same cases on every engine, so that they mean the same, and the model cannot drift from what it
// models.
func TestConformance(t *testing.T) {
	for _, c := range conformance {
		t.Run(c.name, func(t *testing.T) {
			eachWorld(t, ring.Config{Entries: 8, CQEntries: 64}, c.test)
		})
	}
}

// TestOverflow lets completions pile up beyond the queue. The ring loses none.
func TestOverflow(t *testing.T) {
	eachWorld(t, ring.Config{Entries: 16, CQEntries: 16}, func(g *rig) {
		var all []uint64
		for range 5 {
			for range 8 {
				data := uint64(len(all) + 1)
				*g.r.Next() = nop(data)
				all = append(all, data)
			}
			for g.r.Queued() > 0 {
				if err := g.r.Submit(); err != nil && !errors.Is(err, ring.ErrBusy) {
					g.Fatal(err)
				}
			}
		}
		g.settleUnreaped()
		g.wait(all...)
		if g.r.Overflows == 0 && g.name != "sim slow" && g.name != "portable" {
			g.Error("the queue did not overflow")
		}
	})
}

// settleUnreaped lets the engine finish without making room.
func (g *rig) settleUnreaped() {
	for range 40 {
		if err := g.r.Submit(); err != nil && !errors.Is(err, ring.ErrBusy) {
			g.Fatal(err)
		}
		if g.name == "portable" {
			time.Sleep(time.Millisecond)
		}
	}
}

// TestRestrictions allows two opcodes and checks that others are refused, and what can still be registered.
func TestRestrictions(t *testing.T) {
	for _, tables := range []bool{false, true} {
		cfg := ring.Config{Entries: 8, Allow: []ring.Op{ring.OpNop, ring.OpPipe}, AllowTables: tables}
		eachWorld(t, cfg, func(g *rig) {
			fd := g.file(g.T, []byte("0123456789"))
			b := make([]byte, 4)
			g.put(nop(1), g.write(2, fd, []byte("x"), 0), bad(3), nop(4), g.read(5, fd, b, 0))
			g.want(1, 0)
			g.want(2, eACCES)
			g.want(3, eACCES)
			g.want(4, 0)
			if g.r.Supports(ring.OpWrite) || !g.r.Supports(ring.OpNop) || !g.r.Supports(ring.OpAsyncCancel) {
				g.Error("the ring does not know what it is restricted to")
			}
			// Reading stays: the ring needs it for its wake-up.
			g.want(5, 4)
			if string(b) != "0123" {
				g.Errorf("read %q", b)
			}
			p, err := g.r.OpenProvided(4, 1, false)
			switch {
			case err == nil && tables:
				if err := g.r.CloseProvided(p); err != nil {
					g.Error(err)
				}
			case tables && errors.Is(err, syscall.EINVAL): // the portable engine, and kernels before 5.19
			case tables && errors.Is(err, syscall.ENOMEM) && os.Getuid() != 0: // what the user may lock
			case !errors.Is(err, syscall.EACCES) || tables:
				g.Errorf("a ring of buffers: %v", err)
			}
		})
	}
}
