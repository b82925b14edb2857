package buf_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"uringo/buf"
)

// Buffers of two sizes. Whoever wants one waits until there is one, in turn, so the pool also bounds what is in work.
func ExamplePool() {
	pool, err := buf.NewPool(buf.PoolConfig{Classes: []buf.Class{{Size: 4 << 10, Count: 2}, {Size: 1 << 20, Count: 1}}})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	large, err := pool.Get(context.Background(), 100_000) // from the smallest class that does
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(large.Len(), large.Cap())
	_, err = pool.TryGet(100_000)
	fmt.Println(errors.Is(err, buf.ErrNoBuffer))
	large.Release()
	if large, err = pool.TryGet(100_000); err != nil {
		log.Fatal(err)
	}
	large.Release()
	// Output:
	// 100000 1048576
	// true
}

// An arena is memory of its own, for buffers that live as long as it does.
func ExampleArena() {
	arena, err := buf.NewArena(1 << 20)
	if err != nil {
		log.Fatal(err)
	}
	header, err := arena.Alloc(100, 0)
	if err != nil {
		log.Fatal(err)
	}
	block, err := arena.Alloc(64<<10, 4096) // for direct I/O
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(header.Len(), block.Len(), buf.IsAligned(block.Bytes(), 4096))
	_, err = arena.Alloc(1<<20, 0)
	fmt.Println(errors.Is(err, buf.ErrFull))
	header.Release()
	block.Release()
	fmt.Println(arena.Close())
	// Output:
	// 100 65536 true
	// true
	// <nil>
}

// An operation works on a view, which may grow again afterwards.
func ExampleFixed_View() {
	arena, err := buf.NewArena(4096)
	if err != nil {
		log.Fatal(err)
	}
	defer arena.Close()
	b, err := arena.Alloc(10, 0)
	if err != nil {
		log.Fatal(err)
	}
	defer b.Release()
	copy(b.Bytes(), "0123456789")
	fmt.Printf("%s\n", b.View(3, 6).Bytes())
	fmt.Printf("%s\n", b.Whole().Bytes())
	// Output:
	// 345
	// 0123456789
}

// Parts of what was read go to several readers, and nothing is copied: the memory goes back to the pool when the last of them has released
// his part.
func ExampleBytes() {
	pool, err := buf.NewPool(buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 1}}})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	b, err := pool.TryGet(11)
	if err != nil {
		log.Fatal(err)
	}
	copy(b.Bytes(), "hello world")
	all := b.Share() // from now on nobody writes to it
	first, second := all.Slice(0, 5), all.Slice(6, 11)
	all.Release()
	fmt.Printf("%s, %s\n", first.Bytes(), second.Bytes())
	first.Release()
	_, err = pool.TryGet(1)
	fmt.Println(err == buf.ErrNoBuffer)
	second.Release()
	b, err = pool.TryGet(1)
	fmt.Println(err)
	b.Release()
	// Output:
	// hello, world
	// true
	// <nil>
}

// Buffers by number, as a page cache has them.
func ExampleTable() {
	table, err := buf.NewTable(8, 4096, 0)
	if err != nil {
		log.Fatal(err)
	}
	defer table.Close()
	page, err := table.Take(3)
	if err != nil {
		log.Fatal(err)
	}
	copy(page.Bytes(), "page three")
	_, err = table.Take(3)
	fmt.Println(errors.Is(err, buf.ErrTaken))
	page.Release()
	if page, err = table.Take(3); err != nil { // what it holds stays
		log.Fatal(err)
	}
	defer page.Release()
	fmt.Printf("%s\n", page.Bytes()[:10])
	// Output:
	// true
	// page three
}

func ExampleAligned() {
	b := buf.Aligned(8192, 4096) // the garbage collector frees it
	fmt.Println(len(b), buf.IsAligned(b, 4096), buf.IsAligned(b[1:], 4096))
	// Output: 8192 true false
}
