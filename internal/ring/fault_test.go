package ring_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

// pattern returns n bytes of which every few are unlike their neighbours.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// TestFaultsShorten makes transfers short: they really are, and move the right bytes.
func TestFaultsShorten(t *testing.T) {
	for _, align := range []uint32{0, 16} {
		t.Run(fmt.Sprintf("align %d", align), func(t *testing.T) {
			f := ring.NewFaults(ring.Linux(), 1, ring.FaultConfig{Shorten: 1, Align: align})
			g := rigOn(t, ring.Config{Kernel: f, Entries: 8})
			data := pattern(10_000)
			from, to := realFile(t, data), realFile(t, nil)
			short := 0
			id := uint64(0)
			move := func(make func(uint64, int32, []byte, int64) ring.SQE, fd int32, b []byte) {
				for off := 0; off < len(b); {
					id++
					g.put(make(id, fd, b[off:], int64(off)))
					g.wait(id)
					n := int(g.got[id].Res)
					if n <= 0 {
						t.Fatalf("at %d: %s", off, show(int32(n)))
					}
					if n < len(b)-off {
						short++
						if align > 0 && n%int(align) != 0 {
							t.Fatalf("%d bytes moved, want a multiple of %d", n, align)
						}
					}
					off += n
				}
			}
			got := make([]byte, len(data))
			move(g.read, from, got)
			move(g.write, to, got)
			again := make([]byte, len(data))
			move(g.read, to, again)
			if !bytes.Equal(got, data) || !bytes.Equal(again, data) {
				t.Error("bytes went wrong")
			}
			if st := f.Stats(); short == 0 || st.Shortened != uint64(short) {
				t.Errorf("%d short transfers, %+v", short, st)
			}
			// The ring's own read stays whole.
			g.r.Wake()
			if err := g.r.SubmitAndWait(0); err != nil || g.r.Wakeups == 0 {
				g.reap()
				if g.r.Wakeups == 0 {
					t.Errorf("no wake-up: %v", err)
				}
			}
			// And so do members of a chain, of which the kernel would not know that they are short.
			g.put(linked(g.read(9000, from, make([]byte, 64), 0)), nop(9001))
			g.want(9000, 64)
			g.want(9001, 0)
		})
	}
}

// TestFaultsShortenVectors leaves something to move: empty buffers alone would say that the file has ended.
func TestFaultsShortenVectors(t *testing.T) {
	f := ring.NewFaults(ring.Linux(), 1, ring.FaultConfig{Shorten: 1})
	g := rigOn(t, ring.Config{Kernel: f, Entries: 8})
	from := realFile(t, pattern(30))
	b := make([]byte, 30)
	iov := []unix.Iovec{{Base: &b[0]}, {Base: &b[0]}, {Base: &b[0], Len: 10}, {Base: &b[10], Len: 10}, {Base: &b[20], Len: 10}}
	seen := map[int32]int{}
	for i := range uint64(100) {
		g.put(ring.SQE{Op: ring.OpReadv, FD: from, Addr: uint64(uintptr(unsafe.Pointer(&iov[0]))), Len: uint32(len(iov)), UserData: i + 1})
		g.wait(i + 1)
		seen[g.got[i+1].Res]++
	}
	if seen[10] == 0 || seen[20] == 0 || seen[10]+seen[20] != 100 {
		t.Errorf("times that so much was read: %v", seen)
	}
	// With nothing after the first that is not empty, there is nothing to take away.
	g.put(ring.SQE{Op: ring.OpReadv, FD: from, Addr: uint64(uintptr(unsafe.Pointer(&iov[0]))), Len: 3, UserData: 1000})
	g.want(1000, 10)
	runtime.KeepAlive(iov)
}

// TestFaultsInject replaces results. The operation does not happen, and its chain breaks.
func TestFaultsInject(t *testing.T) {
	for name, inner := range map[string]ring.Kernel{
		"linux": ring.Linux(), "sim": ring.NewSim(ring.SimConfig{Delay: 3}), "portable": portable(),
	} {
		t.Run(name, func(t *testing.T) {
			results := []int32{eINTR, -11, -12, -16, -105, -114, eCANCELED, -512, -516, -4095, 1<<31 - 1, 4097}
			f := ring.NewFaults(inner, 1, ring.FaultConfig{})
			g := rigOn(t, ring.Config{Kernel: f, Entries: 8})
			if !f.CanInject() {
				lacks(t, "IORING_NOP_INJECT_RESULT", ring.V(6, 10))
			}
			fd := realFile(t, []byte("whole"))
			for i, res := range results {
				f.Set(ring.FaultConfig{Inject: 1, Results: []int32{res}, Match: func(e *ring.SQE) bool { return e.Op == ring.OpWrite }})
				data := uint64(i*2 + 1)
				g.put(linked(g.write(data, fd, []byte("WRITTEN"), 0)), nop(data+1))
				g.want(data, res)
				if res < 0 {
					g.want(data+1, eCANCELED)
				} else {
					g.want(data+1, 0)
				}
			}
			if got, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil || string(got) != "whole" {
				t.Errorf("the file is %q, %v", got, err)
			}
			if n := f.Stats().Injected; n != uint64(len(results)) {
				t.Errorf("%d injected", n)
			}
		})
	}
}

// TestFaultsSpare checks what is not touched unless asked for: closing and cancelling.
func TestFaultsSpare(t *testing.T) {
	f := ring.NewFaults(ring.Linux(), 1, ring.FaultConfig{Inject: 1})
	g := rigOn(t, ring.Config{Kernel: f, Entries: 8})
	if !f.CanInject() {
		lacks(t, "IORING_NOP_INJECT_RESULT", ring.V(6, 10))
	}
	fd, err := syscall.Dup(int(realFile(t, nil)))
	if err != nil {
		t.Fatal(err)
	}
	g.put(ring.SQE{Op: ring.OpClose, FD: int32(fd), UserData: 1}, cancel(2, 99), nop(3))
	g.want(1, 0)
	g.want(2, eNOENT)
	g.want(3, eINTR, -int32(syscall.EAGAIN))
	if err := syscall.Close(fd); err != syscall.EBADF {
		t.Errorf("still open: %v", err)
	}
}

// TestFaultsInEnter lets every other enter fail, also while nothing is in flight. Every entry is performed once.
func TestFaultsInEnter(t *testing.T) {
	for name, inner := range map[string]ring.Kernel{
		"linux": ring.Linux(), "sim": ring.NewSim(ring.SimConfig{Delay: 5}), "portable": portable(),
	} {
		t.Run(name, func(t *testing.T) {
			f := ring.NewFaults(inner, 7, ring.FaultConfig{EnterFails: 0.5, Limit: 0.3})
			g := rigOn(t, ring.Config{Kernel: f, Entries: 16, CQEntries: 64})
			for data := uint64(1); data <= 500; data += 5 {
				g.put(nop(data), linked(nop(data+1)), linked(nop(data+2)), nop(data+3), nop(data+4))
				g.wait(data, data+1, data+2, data+3, data+4)
			}
			if len(g.order) != 500 {
				t.Errorf("%d completions", len(g.order))
			}
			if st := f.Stats(); st.Failed == 0 || st.Limited == 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestFaultsTogether copies a file through everything at once, while the rates change, and while somebody keeps waking the
// ring. 20 files of 256 KiB, 400 with URINGO_NIGHTLY=1.
func TestFaultsTogether(t *testing.T) {
	rounds := uint64(20)
	if nightly() {
		rounds = 400
	}
	for seed := range rounds {
		rng := rand.New(rand.NewPCG(seed, 3))
		f := ring.NewFaults(ring.Linux(), seed, ring.FaultConfig{})
		g := rigOn(t, ring.Config{Kernel: f, Entries: 16, CQEntries: 128})
		stop := make(chan struct{})
		var others sync.WaitGroup
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Microsecond):
					f.Set(ring.FaultConfig{Shorten: 0.3, Inject: 0.2, EnterFails: 0.3, Limit: 0.3})
					g.r.Wake()
				}
			}
		})
		if err := copyBlocks(g, rng, pattern(256<<10+int(seed)*1237)); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		close(stop)
		others.Wait()
	}
}

// copyBlocks copies data from one file to another in blocks, several at a time, and repeats what is short or interrupted.
func copyBlocks(g *rig, rng *rand.Rand, data []byte) error {
	const blockSize, depth = 4096, 10
	from, to := realFile(g.T, data), realFile(g.T, nil)
	type block struct {
		buf     []byte
		off     int64
		n       int
		writing bool
	}
	blocks := map[uint64]*block{}
	next, id := int64(0), uint64(0)
	lay := func(b *block) error {
		id++
		e := g.r.Next()
		for ; e == nil; e = g.r.Next() {
			if err := g.r.Submit(); err != nil && !errors.Is(err, ring.ErrBusy) {
				return err
			}
		}
		if b.writing {
			*e = g.write(id, to, b.buf[b.n:], b.off+int64(b.n))
		} else {
			*e = g.read(id, from, b.buf[b.n:], b.off+int64(b.n))
		}
		blocks[id] = b
		return nil
	}
	for next < int64(len(data)) || len(blocks) > 0 {
		for len(blocks) < depth && next < int64(len(data)) {
			size := min(int64(1+rng.IntN(blockSize)), int64(len(data))-next)
			if err := lay(&block{buf: make([]byte, size), off: next}); err != nil {
				return err
			}
			next += size
		}
		if err := g.r.SubmitAndWait(0); err != nil && !errors.Is(err, ring.ErrBusy) {
			return err
		}
		var out [32]ring.CQE
		for _, c := range out[:g.r.Reap(out[:])] {
			b := blocks[c.UserData]
			if b == nil {
				return fmt.Errorf("unexpected completion %+v", c)
			}
			delete(blocks, c.UserData)
			switch {
			case c.Res > 0:
				b.n += int(c.Res)
			case c.Res != eINTR && c.Res != -int32(syscall.EAGAIN):
				return fmt.Errorf("block at %d: %s", b.off, show(c.Res))
			}
			if b.n == len(b.buf) {
				if b.writing {
					continue
				}
				b.writing, b.n = true, 0
			}
			if err := lay(b); err != nil {
				return err
			}
		}
	}
	got, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", to))
	if err != nil {
		return err
	}
	if !bytes.Equal(got, data) {
		return errors.New("the copy differs")
	}
	return nil
}
