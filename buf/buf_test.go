package buf_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"uringo/buf"
	"uringo/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// panics sees that f panics with a text.
func panics(t *testing.T, text string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if p, _ := recover().(string); !strings.Contains(p, text) {
			t.Errorf("panic %q, want one with %q", p, text)
		}
	}()
	f()
}

func TestAligned(t *testing.T) {
	for _, align := range []int{1, 2, 64, 512, 4096, 1 << 16} {
		for _, n := range []int{0, 1, 511, 512, 4096, 4097, 1 << 20} {
			b := buf.Aligned(n, align)
			if len(b) != n || cap(b) != n || !buf.IsAligned(b, align) {
				t.Errorf("Aligned(%d, %d): %d bytes of %d, aligned: %v", n, align, len(b), cap(b), buf.IsAligned(b, align))
			}
			if i := bytes.IndexFunc(b, func(r rune) bool { return r != 0 }); i >= 0 {
				t.Errorf("Aligned(%d, %d): byte %d is not zero", n, align, i)
			}
		}
	}
	if b := buf.Aligned(4096, 4096); buf.IsAligned(b[1:], 2) {
		t.Error("an odd address is aligned")
	}
	panics(t, "power of two", func() { buf.Aligned(1, 3) })
	panics(t, "power of two", func() { buf.Aligned(1, 0) })
	panics(t, "-1 bytes", func() { buf.Aligned(-1, 8) })
}

func TestArena(t *testing.T) {
	a, err := buf.NewArena(10000)
	if err != nil {
		t.Fatal(err)
	}
	if a.Size() < 10000 || a.Size()%4096 != 0 || len(a.Memory()) != a.Size() {
		t.Errorf("size %d, memory %d", a.Size(), len(a.Memory()))
	}
	x, err := a.Alloc(100, 0)
	if err != nil {
		t.Fatal(err)
	}
	y, err := a.Alloc(4096, 4096)
	if err != nil {
		t.Fatal(err)
	}
	if !buf.IsAligned(x.Bytes(), 64) || !buf.IsAligned(y.Bytes(), 4096) || x.Len() != 100 || y.Cap() != 4096 {
		t.Errorf("%d bytes at alignment 64, %d at 4096", x.Len(), y.Cap())
	}
	clear(x.Bytes())
	for i := range y.Bytes() {
		y.Bytes()[i] = 7
	}
	if x.Bytes()[99] != 0 {
		t.Error("buffers overlap")
	}
	if _, err := a.Alloc(a.Size(), 0); !errors.Is(err, buf.ErrFull) {
		t.Errorf("%v, want ErrFull", err)
	}
	for _, n := range []int{0, -1} {
		if _, err := a.Alloc(n, 0); err == nil {
			t.Errorf("a buffer of %d bytes", n)
		}
	}
	x.Release()
	told := false
	if !a.OnClose("here", func() { told = true }) || !a.OnClose("there", func() { t.Error("forgotten, and told") }) {
		t.Error("an open arena counts as closed")
	}
	a.Forget("there")
	if err := a.Close(); !errors.Is(err, buf.ErrInUse) {
		t.Errorf("%v, want ErrInUse", err)
	}
	if told {
		t.Error("told while a buffer is out")
	}
	y.Bytes()[0] = 1 // it is still there
	if _, err := a.Alloc(1, 0); !errors.Is(err, buf.ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
	y.Release()
	if !told {
		t.Error("not told of the end")
	}
	if a.OnClose("late", func() {}) {
		t.Error("an arena that is gone counts as open")
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	for _, n := range []int{0, -1, buf.MaxArena + 1} {
		if _, err := buf.NewArena(n); err == nil {
			t.Errorf("an arena of %d bytes", n)
		}
	}
}

// The view bounds what others see, and loses nothing.
func TestView(t *testing.T) {
	b := alone(t, 100)
	for i := range b.Bytes() {
		b.Bytes()[i] = byte(i)
	}
	if v := b.View(10, 20); v != b || b.Len() != 10 || b.Cap() != 100 || b.Bytes()[0] != 10 || cap(b.Bytes()) != 10 {
		t.Errorf("a view of %d bytes of %d, from %d, room for %d", b.Len(), b.Cap(), b.Bytes()[0], cap(b.Bytes()))
	}
	if b.View(30, 100); b.Bytes()[0] != 30 {
		t.Error("the second view counts from the first")
	}
	if b.View(5, 5); b.Len() != 0 {
		t.Error("an empty view is not empty")
	}
	if b.Whole(); b.Len() != 100 || b.Bytes()[99] != 99 {
		t.Error("the whole is not whole")
	}
	panics(t, "view [1:101]", func() { b.View(1, 101) })
	panics(t, "view [-1:0]", func() { b.View(-1, 0) })
	panics(t, "view [2:1]", func() { b.View(2, 1) })
	b.Release()
}

// alone returns a buffer of an arena of its own, which the end of the test closes.
func alone(t *testing.T, n int) *buf.Fixed {
	t.Helper()
	a, err := buf.NewArena(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	b, err := a.Alloc(n, 0)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMisuse(t *testing.T) {
	b := alone(t, 10)
	if err := b.Usable(); err != nil {
		t.Error(err)
	}
	b.Release()
	if err := b.Usable(); err != buf.ErrReleased {
		t.Errorf("%v, want ErrReleased", err)
	}
	if b.Pin() {
		t.Error("a released buffer can be pinned")
	}
	panics(t, "released twice", b.Release)
	panics(t, "was released", func() { b.Bytes() })
	panics(t, "was released", func() { b.Whole() })
	panics(t, "was released", func() { b.Share() })
	b.Abandon() // by a driver that comes late
	var none *buf.Fixed
	if none.Usable() == nil {
		t.Error("nil is usable")
	}
}

// A buffer that is pinned does not go home before it is let go.
func TestPin(t *testing.T) {
	p := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 1, Count: 1}}})
	b, err := p.TryGet(1)
	if err != nil {
		t.Fatal(err)
	}
	free := func() bool {
		c, err := p.TryGet(1)
		if err == nil {
			c.Release()
		}
		return err == nil
	}
	for range 2 {
		if !b.Pin() {
			t.Fatal("cannot be pinned")
		}
	}
	b.Unpin()
	panics(t, "operation has", func() { b.Share() })
	b.Release()
	if free() {
		t.Error("released while pinned, and in use again")
	}
	panics(t, "released twice", b.Release)
	b.Unpin()
	if !free() {
		t.Error("not home after Unpin")
	}

	// One that its owner lost goes home by itself, and does not mind a Release.
	b, _ = p.TryGet(1)
	b.Pin()
	b.Unpin()
	b.Abandon()
	panics(t, "abandoned", func() { b.Bytes() })
	if !free() {
		t.Error("abandoned, and not home")
	}
	b.Release()
	b.Abandon()
	b, _ = p.TryGet(1)
	b.Pin()
	b.Abandon()
	if free() {
		t.Error("abandoned while pinned, and in use again")
	}
	b.Unpin()
	if !free() {
		t.Error("not home after Unpin")
	}
}

func TestPoolClasses(t *testing.T) {
	p := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 1 << 16, Count: 2}, {Size: 100, Count: 3}}, Scrub: true})
	b, err := p.Get(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	if b.Len() != 5 || b.Cap() != 4096 || !buf.IsAligned(b.Bytes(), 4096) {
		t.Errorf("a view of %d bytes of %d", b.Len(), b.Cap())
	}
	c, err := p.Get(t.Context(), 4097)
	if err != nil {
		t.Fatal(err)
	}
	if c.Len() != 4097 || c.Cap() != 1<<16 {
		t.Errorf("a view of %d bytes of %d", c.Len(), c.Cap())
	}
	if _, err := p.Get(t.Context(), 1<<16+1); err == nil {
		t.Error("more than the largest class has")
	}
	if _, err := p.TryGet(-1); err == nil {
		t.Error("a negative number of bytes")
	}
	b.Whole()
	for i := range b.Bytes() {
		b.Bytes()[i] = 1
	}
	b.Release()
	if b, err = p.TryGet(10); err != nil {
		t.Fatal(err)
	}
	for _, x := range b.Whole().Bytes() {
		if x != 0 {
			t.Fatal("what the last owner had is there for the next")
		}
	}
	arenas, err := p.Arenas()
	if err != nil || len(arenas) != 2 {
		t.Errorf("%d arenas, %v", len(arenas), err)
	}
	b.Release()
	c.Release()

	for _, cfg := range []buf.PoolConfig{
		{},
		{Classes: []buf.Class{{Size: 0, Count: 1}}},
		{Classes: []buf.Class{{Size: 1, Count: 0}}},
		{Classes: []buf.Class{{Size: buf.MaxArena + 1, Count: 1}}},
		{Classes: []buf.Class{{Size: 1, Count: 1}, {Size: 2, Count: 1}}},
		{Classes: []buf.Class{{Size: 1, Count: 1}}, Align: 3},
	} {
		if _, err := buf.NewPool(cfg); err == nil {
			t.Errorf("a pool of %+v", cfg)
		}
	}
}

// All buffers of a class are different, also beyond one slab.
func TestPoolDisjoint(t *testing.T) {
	const n = 1000
	p := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 5000, Count: n}}})
	all := make([]*buf.Fixed, n)
	for i := range all {
		b, err := p.TryGet(5000)
		if err != nil {
			t.Fatal(err)
		}
		for j := range b.Bytes() {
			b.Bytes()[j] = byte(i)
		}
		all[i] = b
	}
	if _, err := p.TryGet(1); err != buf.ErrNoBuffer {
		t.Errorf("%v, want ErrNoBuffer", err)
	}
	for i, b := range all {
		if !bytes.Equal(b.Bytes(), bytes.Repeat([]byte{byte(i)}, 5000)) {
			t.Fatalf("buffer %d shares memory with another", i)
		}
		b.Release()
	}
}

// Who waits longer is served first, and nobody pushes in.
func TestPoolFair(t *testing.T) {
	const n = 20
	p := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 1, Count: 1}}})
	b, err := p.Get(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	order := make(chan int, n)
	var wg sync.WaitGroup
	for i := range n {
		before := p.Waiting()
		wg.Go(func() {
			b, err := p.Get(t.Context(), 1)
			if err != nil {
				t.Error(err)
				return
			}
			order <- i
			if _, err := p.TryGet(1); err != buf.ErrNoBuffer {
				t.Errorf("%v, want ErrNoBuffer", err)
			}
			b.Release()
		})
		for p.Waiting() == before {
			runtime.Gosched()
		}
	}
	b.Release()
	wg.Wait()
	for i := range n {
		if got := <-order; got != i {
			t.Fatalf("number %d was served in place of %d", got, i)
		}
	}
}

// A wait ends with its context, and takes nothing with it.
func TestPoolCancel(t *testing.T) {
	p := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 1, Count: 2}}})
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Get(over, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		wg.Go(func() {
			for range 500 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(200))*time.Microsecond)
				b, err := p.Get(ctx, 1)
				switch {
				case err == nil:
					b.Bytes()[0]++
					time.Sleep(time.Duration(rng.IntN(100)) * time.Microsecond)
					b.Release()
				case !errors.Is(err, context.DeadlineExceeded) || b != nil:
					t.Errorf("%v, %v", b, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	for range 2 {
		b, err := p.TryGet(1)
		if err != nil {
			t.Fatal("a buffer is lost")
		}
		defer b.Release()
	}
}

// Whether a context had ended before or ends meanwhile, the error says that it has, and why.
func TestPoolCancelCause(t *testing.T) {
	p := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 1, Count: 1}}})
	b, err := p.Get(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Release()
	reason := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(time.Millisecond, func() { cancel(reason) })
	for range 2 {
		if _, err := p.Get(ctx, 1); !errors.Is(err, context.Canceled) || !errors.Is(err, reason) {
			t.Errorf("%v, want context.Canceled and %v", err, reason)
		}
	}
}

func TestPoolClose(t *testing.T) {
	p, err := buf.NewPool(buf.PoolConfig{Classes: []buf.Class{{Size: 1, Count: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Get(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error)
	go func() {
		_, err := p.Get(t.Context(), 1)
		waited <- err
	}()
	for p.Waiting() == 0 {
		runtime.Gosched()
	}
	if err := p.Close(); !errors.Is(err, buf.ErrInUse) {
		t.Errorf("%v, want ErrInUse", err)
	}
	if err := <-waited; err != buf.ErrClosed {
		t.Errorf("%v, want ErrClosed", err)
	}
	if _, err := p.Get(t.Context(), 1); err != buf.ErrClosed {
		t.Errorf("%v, want ErrClosed", err)
	}
	if _, err := p.Arenas(); err != buf.ErrClosed {
		t.Errorf("%v, want ErrClosed", err)
	}
	b.Bytes()[0] = 1 // still there
	b.Release()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestTable(t *testing.T) {
	for _, size := range []int{1, 4096, 3 << 20} {
		table, err := buf.NewTable(5, size, 0)
		if err != nil {
			t.Fatal(err)
		}
		all := make([]*buf.Fixed, table.Len())
		for i := range all {
			if all[i], err = table.Take(i); err != nil {
				t.Fatal(err)
			}
			b := all[i].Bytes()
			if len(b) != size || !buf.IsAligned(b, 4096) {
				t.Errorf("%d bytes of %d", len(b), size)
			}
			b[0], b[size-1] = byte(i), byte(i)
			if _, err := table.Take(i); !errors.Is(err, buf.ErrTaken) {
				t.Errorf("%v, want ErrTaken", err)
			}
		}
		for i, b := range all {
			b.Release()
			if b, err = table.Take(i); err != nil {
				t.Fatal(err)
			}
			if b.Bytes()[0] != byte(i) || b.Bytes()[size-1] != byte(i) {
				t.Error("the content has changed")
			}
			all[i] = b
		}
		for _, i := range []int{-1, 5} {
			if _, err := table.Take(i); err == nil {
				t.Errorf("index %d exists", i)
			}
		}
		arenas, err := table.Arenas()
		if err != nil || len(arenas) == 0 {
			t.Errorf("%d arenas, %v", len(arenas), err)
		}
		clear(arenas) // the list is the caller's
		all[0].Release()
		if err := table.Close(); !errors.Is(err, buf.ErrInUse) {
			t.Errorf("%v, want ErrInUse", err)
		}
		if _, err := table.Take(0); err != buf.ErrClosed {
			t.Errorf("%v, want ErrClosed", err)
		}
		for _, b := range all[1:] {
			b.Release()
		}
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := buf.NewTable(math.MaxInt, 1, 0); err == nil {
		t.Error("a table of more buffers than there can be")
	}
	if _, err := buf.NewTable(0, 1, 0); err == nil {
		t.Error("an empty table")
	}
}

// Addresses are multiples of what was asked for, also where that is more than a page.
func TestLargeAlign(t *testing.T) {
	const align = 1 << 20
	pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 1, Count: 3}, {Size: 3 * align, Count: 1}}, Align: align})
	table, err := buf.NewTable(4, 5000, align)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	var all []*buf.Fixed
	for i := range 4 {
		b, err := pool.Get(t.Context(), 1+i/3*2*align)
		if err != nil {
			t.Fatal(err)
		}
		c, err := table.Take(i)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b.Whole(), c)
	}
	for _, b := range all {
		m := b.Bytes()
		if !buf.IsAligned(m, align) {
			t.Errorf("%d bytes at %p", len(m), m)
		}
		m[0], m[len(m)-1] = 1, 1
		b.Release()
	}
}

// The arenas of a pool or a table are full from the start: what is cut from one of them would be memory that it lends.
func TestNoRoom(t *testing.T) {
	pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 64, Count: 1}}, Align: 64})
	table, err := buf.NewTable(1, 64, 64)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	for what, arenas := range map[string]func() ([]*buf.Arena, error){"pool": pool.Arenas, "table": table.Arenas} {
		all, err := arenas()
		if err != nil || len(all) != 1 {
			t.Fatalf("%s: %d arenas, %v", what, len(all), err)
		}
		if b, err := all[0].Alloc(1, 1); !errors.Is(err, buf.ErrFull) {
			t.Errorf("%s: %v, want ErrFull", what, err)
			b.Release()
		}
	}
}

// The memory is free when its last holder has released it.
func TestBytes(t *testing.T) {
	p := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 1, Count: 1}}})
	b, err := p.Get(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	copy(b.Bytes(), "0123456789")
	all := b.View(0, 8).Share()
	panics(t, "was shared", b.Release)
	panics(t, "was shared", func() { b.Bytes() })
	if b.Usable() == nil {
		t.Error("a shared buffer is usable")
	}
	part := all.Slice(2, 5)
	one := part.Clone()
	if string(all.Bytes()) != "01234567" || string(part.Bytes()) != "234" || one.Len() != 3 || cap(part.Bytes()) != 3 {
		t.Errorf("%q, %q", all.Bytes(), part.Bytes())
	}
	panics(t, "slice [0:4]", func() { part.Slice(0, 4) })
	all.Release()
	panics(t, "released twice", all.Release)
	panics(t, "were released", func() { all.Bytes() })
	one.Release()
	if _, err := p.TryGet(1); err != buf.ErrNoBuffer {
		t.Error("reused while somebody reads it")
	}
	if string(part.Bytes()) != "234" {
		t.Errorf("%q", part.Bytes())
	}
	part.Release()
	b, err = p.TryGet(1)
	if err != nil {
		t.Fatal(err)
	}
	b.Release()

	heap := buf.BytesOf([]byte("heap"))
	if s := heap.Slice(1, 3); string(s.Bytes()) != "ea" {
		t.Errorf("%q", s.Bytes())
	}
	heap.Release()
}

// Holders on many goroutines, of many buffers: each goes back exactly once.
func TestBytesTogether(t *testing.T) {
	p := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 1, Count: 4}}})
	var wg sync.WaitGroup
	for range 500 {
		b, err := p.Get(t.Context(), 64)
		if err != nil {
			t.Fatal(err)
		}
		s := b.Share()
		for i := range 4 {
			part := s.Slice(i, i+10)
			wg.Go(func() {
				again := part.Clone()
				_ = again.Bytes()[0]
				again.Release()
				part.Release()
			})
		}
		s.Release()
	}
	wg.Wait()
}
