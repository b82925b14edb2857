package buf_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"uringo/buf"
	"uringo/internal/testenv"
)

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
