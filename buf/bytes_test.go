package buf_test

import (
	"sync"
	"testing"

	"uringo/buf"
	"uringo/internal/testenv"
)

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
