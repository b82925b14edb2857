package driver_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/ops"
)

// arena returns an arena that the end of the test closes, before the driver.
func (e *rig) arena(size int) *buf.Arena {
	e.Helper()
	e.needsRegistering()
	a, err := buf.NewArena(size)
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { _ = a.Close() }) // a second one does nothing
	return a
}

// needsRegistering skips a test where so little memory may be locked that it cannot be. What becomes of buffers there is for
// TestFixedMemlock.
func (e *rig) needsRegistering() {
	e.Helper()
	if !testenv.MayRegister(e) {
		e.Skip("needs more memory to lock")
	}
}

func (e *rig) alloc(a *buf.Arena, n int) *buf.Fixed {
	e.Helper()
	b, err := a.Alloc(n, 0)
	if err != nil {
		e.Fatal(err)
	}
	return b
}

// registers reports whether the kernel behind the driver takes buffers.
func (e *rig) registers() bool { return !strings.Contains(e.name, "portable") && e.sim == nil }

// Operations on fixed buffers are the same everywhere, registered or not.
func TestFixedBuffers(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		a := e.arena(1 << 16)
		content := bytes.Repeat([]byte("0123456789"), 1000)
		fd := e.file(content)
		one, two := e.alloc(a, 10_000), e.alloc(a, 5_000)
		r := do(e, d, ops.ReadFixedAt(fd, one, 0))
		if r.Err != nil || r.Buf != one || !bytes.Equal(one.Bytes()[:r.N], content[:r.N]) || r.N == 0 {
			e.Errorf("%d, %v", r.N, r.Err)
		}
		copy(two.Bytes(), "written")
		if r := do(e, d, ops.WriteFixedAt(fd, two.View(0, 7), 5)); r.Err != nil || r.N == 0 {
			e.Errorf("%d, %v", r.N, r.Err)
		}
		v := do(e, d, ops.ReadvFixedAt(fd, []*buf.Fixed{two.View(100, 105), one.View(50, 60)}, 0))
		if v.Err != nil || v.N != 15 || !strings.HasPrefix(string(two.Bytes())+string(one.Bytes()), "01234w") {
			e.Errorf("%d, %v: %q %q", v.N, v.Err, two.Bytes(), one.Bytes())
		}
		if v = do(e, d, ops.WritevFixedAt(fd, []*buf.Fixed{one, two}, 100)); v.Err != nil || v.N != 15 {
			e.Errorf("%d, %v", v.N, v.Err)
		}
		if r := do(e, d, ops.ReadFixedAt(-1, one, 0)); r.Err != syscall.EBADF || r.Buf != one {
			e.Errorf("%v", r.Err)
		}
		s := d.Stats()
		if got, want := s.Registered > 0 && s.Fixed > 0, e.registers(); got != want {
			e.Errorf("%d bytes registered, %d operations on them; want some: %v", s.Registered, s.Fixed, want)
		}
		one.Release()
		two.Release()
		if err := a.Close(); err != nil {
			e.Error(err)
		}
		e.eventually("the memory is unregistered", func() bool { return d.Stats().Registered == 0 })
	})
}

// What was released is not used, neither by an operation that is made then nor by one that waited for its turn meanwhile.
func TestFixedReleased(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{InFlight: 16})
		a := e.arena(1 << 16)
		r, w := e.pipe()
		gone := e.alloc(a, 10)
		gone.Release()
		if got := do(e, d, ops.ReadFixedAt(r, gone, -1)); got.Err != buf.ErrReleased || got.Buf != gone {
			e.Errorf("%+v", got)
		}
		if got := do(e, d, ops.WritevFixedAt(w, []*buf.Fixed{gone}, -1)); got.Err != buf.ErrReleased {
			e.Errorf("%+v", got)
		}
		var all []*driver.Pending[[]*buf.Fixed]
		var bs []*buf.Fixed
		for range 40 { // more than there are places for reads that wait
			b := e.alloc(a, 1)
			bs = append(bs, b)
			all = append(all, driver.Submit(d, ops.ReadvFixedAt(r, []*buf.Fixed{b}, -1)))
		}
		e.eventually("some wait for their turn", func() bool { return d.Stats().Queued > 0 })
		for _, b := range bs {
			b.Release()
		}
		e.write(w, make([]byte, 40))
		released := 0
		for _, p := range all {
			switch got := result(e, p); {
			case got.Err == buf.ErrReleased:
				released++
			case got.Err != nil || got.N != 1:
				e.Errorf("%+v", got)
			}
		}
		if released == 0 || released == len(all) {
			e.Errorf("%d of %d say that their buffer was released", released, len(all))
		}
		if err := a.Close(); err != nil {
			e.Error(err)
		}
	})
}

// A buffer whose owner was let go is home when the kernel is done with it, and not before.
func TestFixedAbandoned(t *testing.T) {
	on(t, abandoning, func(e *rig) {
		d := e.open(driver.Config{CancelGrace: time.Nanosecond})
		e.swallowCancels()
		pool, err := buf.NewPool(buf.PoolConfig{Classes: []buf.Class{{Size: 100, Count: 1}}})
		if err != nil {
			e.Fatal(err)
		}
		for i, early := range []bool{false, true} {
			r, w := e.pipe()
			b, err := pool.TryGet(100)
			if err != nil {
				e.Fatal(err)
			}
			p := driver.Submit(d, ops.ReadFixedAt(r, b, -1))
			pending(e, p)
			p.Cancel()
			if got := result(e, p); got.Err != driver.ErrAbandoned || got.Buf != nil {
				e.Fatalf("%+v", got)
			}
			if early {
				b.Release() // deferred by somebody who does not know
			}
			if _, err := pool.TryGet(1); err != buf.ErrNoBuffer {
				e.Fatalf("%v, and the kernel still has it", err)
			}
			e.write(w, []byte("late"))
			e.eventually("it ends", func() bool { return d.Stats().AbandonedDone == uint64(i)+1 })
			if !early {
				b.Release()
			}
			again, err := pool.TryGet(1)
			if err != nil {
				e.Fatalf("%v, and the kernel is done with it", err)
			}
			again.Release()
		}
		e.fault.Set(ring.FaultConfig{})
		if err := pool.Close(); err != nil {
			e.Error(err)
		}
	})
}

// Registering ahead of time says what became of it.
func TestRegisterBuffers(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		e.needsRegistering()
		core, log := observer.New(zap.WarnLevel)
		d := e.open(driver.Config{Logger: zap.New(core)})
		pool, err := buf.NewPool(buf.PoolConfig{Classes: []buf.Class{{Size: 1 << 20, Count: 3}, {Size: 4096, Count: 10}}})
		if err != nil {
			e.Fatal(err)
		}
		arenas, err := pool.Arenas()
		if err != nil {
			e.Fatal(err)
		}
		for range 2 { // the second time there is nothing to do
			if err := d.RegisterBuffers(arenas...); e.registers() != (err == nil) || err != nil && !errors.Is(err, errors.ErrUnsupported) {
				e.Errorf("%v", err)
			}
		}
		want := 0
		if e.registers() {
			want = 3<<20 + 10*4096
		}
		if s := d.Stats(); s.Registered != want {
			e.Errorf("%d bytes registered, want %d", s.Registered, want)
		}
		if err := pool.Close(); err != nil {
			e.Error(err)
		}
		e.eventually("the memory is unregistered", func() bool { return d.Stats().Registered == 0 })
		if err := d.RegisterBuffers(arenas[0]); err == nil {
			e.Error("an arena that is gone can be registered")
		}
		e.shut(d)
		a := e.arena(1)
		if err := d.RegisterBuffers(a); err == nil {
			e.Error("a closed driver registers buffers")
		}
		if err := d.RegisterBuffers(); err != nil && !errors.Is(err, driver.ErrClosed) {
			e.Error(err)
		}
		for _, entry := range log.All() {
			if strings.Contains(entry.Message, "buffer") {
				e.Errorf("%+v", entry)
			}
		}
	})
}

// Places in the table are used again, and when all are taken, the rest works without.
func TestBufferTable(t *testing.T) {
	on(t, []way{onUring, onLocked}, func(e *rig) {
		core, log := observer.New(zap.DebugLevel)
		d := e.open(driver.Config{Logger: zap.New(core)})
		const table = 1024
		fd := e.file([]byte("content"))
		for round := range 2 {
			all := make([]*buf.Arena, table)
			for i := range all {
				all[i] = e.arena(1)
			}
			if err := d.RegisterBuffers(all...); err != nil {
				e.Fatalf("round %d: %v", round, err)
			}
			more := e.arena(1)
			if err := d.RegisterBuffers(more); err == nil || !strings.Contains(err.Error(), "full") {
				e.Errorf("round %d: %v", round, err)
			}
			before := d.Stats().Fixed
			for i, a := range []*buf.Arena{more, more, all[table-1]} {
				b := e.alloc(a, 7)
				if r := do(e, d, ops.ReadFixedAt(fd, b, 0)); r.N != 7 || r.Err != nil || string(b.Bytes()) != "content" {
					e.Errorf("%+v", r)
				}
				if got, want := d.Stats().Fixed-before, uint64(i/2); got != want {
					e.Errorf("%d operations on registered memory, want %d", got, want)
				}
				b.Release()
			}
			for _, a := range append(all, more) {
				if err := a.Close(); err != nil {
					e.Error(err)
				}
			}
			e.eventually("the table is empty", func() bool { return d.Stats().Registered == 0 })
			if n := log.Filter(func(l observer.LoggedEntry) bool { return strings.Contains(l.Message, "unregistered") }).Len(); n != round+1 {
				e.Errorf("round %d: said %d times that buffers work unregistered, and not once a table", round, n)
			}
		}
	})
}

// A large arena is registered on request only.
func TestLargeArena(t *testing.T) {
	on(t, []way{onUring}, func(e *rig) {
		d := e.open(driver.Config{})
		a := e.arena(8<<20 + 1)
		b := e.alloc(a, 7)
		defer b.Release()
		fd := e.file([]byte("content"))
		for i := range uint64(2) {
			if r := do(e, d, ops.ReadFixedAt(fd, b, 0)); r.N != 7 || r.Err != nil {
				e.Errorf("%+v", r)
			}
			if got := d.Stats().Fixed; got != i {
				e.Errorf("%d operations on registered memory, want %d", got, i)
			}
			err := d.RegisterBuffers(a)
			if errors.Is(err, syscall.ENOMEM) && os.Getuid() != 0 {
				e.Skipf("needs more memory to lock: %v", err)
			}
			if err != nil {
				e.Fatal(err)
			}
		}
	})
}

// With little memory to lock, buffers work unregistered, the log says so once, and whoever asks is told the limit.
func TestFixedMemlock(t *testing.T) { // HAZARDS T30
	if os.Getenv("URINGO_MEMLOCK") != "" {
		littleMemory(t)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, to become somebody with a limit")
	}
	if !engineWanted(t, driver.Uring) {
		t.Skip("needs io_uring")
	}
	for _, limit := range []string{"0", "65536", "8388608"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFixedMemlock$", "-test.v")
		cmd.Env = testenv.Environ("URINGO_MEMLOCK=" + limit)
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestFixedMemlock")) {
			t.Errorf("with %s bytes to lock: %v\n%s", limit, err, out)
		}
	}
}

// littleMemory is the test itself, in a process of its own.
func littleMemory(t *testing.T) {
	limit := uint64(0)
	for _, c := range os.Getenv("URINGO_MEMLOCK") {
		limit = limit*10 + uint64(c-'0')
	}
	fd, err := unix.Open(os.TempDir(), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const block, blocks = 1 << 20, 12
	if err := unix.Ftruncate(fd, block*blocks); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		t.Fatal(err)
	}
	// The kernel counts locked memory by user, so this is somebody who is nobody else: not in another run of this test either.
	if err := syscall.Setuid(30_000 + os.Getpid()%30_000); err != nil {
		t.Fatal(err)
	}
	core, log := observer.New(zap.WarnLevel)
	d, err := driver.Open(driver.Config{Entries: 8, InFlight: 16, Engine: driver.Uring, Logger: zap.New(core)})
	if errors.Is(err, syscall.ENOMEM) {
		// Not even a ring: that is an error which names the limit.
		if !strings.Contains(err.Error(), "RLIMIT_MEMLOCK") {
			t.Error(err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	pool, err := buf.NewPool(buf.PoolConfig{Classes: []buf.Class{{Size: block, Count: blocks}}})
	if err != nil {
		t.Fatal(err)
	}
	var all []*buf.Fixed
	for i := range blocks {
		b, err := pool.TryGet(block)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
		b.Bytes()[0], b.Bytes()[block-1] = byte(i), byte(i)
		if r := <-driver.Submit(d, ops.WriteFixedAt(fd, b, int64(i*block))).Done(); r.N != block || r.Err != nil {
			t.Errorf("block %d: %d, %v", i, r.N, r.Err)
		}
		clear(b.Bytes())
		if r := <-driver.Submit(d, ops.ReadFixedAt(fd, b, int64(i*block))).Done(); r.N != block || r.Err != nil || b.Bytes()[block-1] != byte(i) {
			t.Errorf("block %d: %d, %v", i, r.N, r.Err)
		}
	}
	s := d.Stats()
	if uint64(s.Registered) > limit || (limit > 4*block) != (s.Registered > 0) || (s.Registered > 0) != (s.Fixed > 0) {
		t.Errorf("%d bytes registered of %d that may be locked, %d operations on them", s.Registered, limit, s.Fixed)
	}
	arenas, err := pool.Arenas()
	if err != nil {
		t.Fatal(err)
	}
	err = d.RegisterBuffers(arenas...)
	if !errors.Is(err, syscall.ENOMEM) || !strings.Contains(err.Error(), "RLIMIT_MEMLOCK is "+os.Getenv("URINGO_MEMLOCK")+" bytes") {
		t.Errorf("the error does not name the limit: %v", err)
	}
	if n := log.FilterMessage("buffers work unregistered").Len(); n != 1 {
		t.Errorf("said %d times", n)
	}
	for _, b := range all {
		b.Release()
	}
	if err := pool.Close(); err != nil {
		t.Error(err)
	}
	if err := d.Close(context.Background()); err != nil {
		t.Error(err)
	}
}
