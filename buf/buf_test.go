package buf_test

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

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
