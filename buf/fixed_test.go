package buf_test

import (
	"testing"

	"uringo/buf"
	"uringo/internal/testenv"
)

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
