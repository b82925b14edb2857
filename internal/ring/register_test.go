package ring_test

import (
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
	"uringo/ops"
)

// growing is a kernel whose caller's stack has moved by the time it looks at what it was given.
type growing struct {
	ring.Kernel
	got unix.Iovec
}

func (k *growing) Register(fd int, op uint32, arg unsafe.Pointer, n uint32) (int, syscall.Errno) {
	const buffersUpdate = 16
	if op != buffersUpdate {
		return k.Kernel.Register(fd, op, arg, n)
	}
	deep(1000)
	// Whoever gets the memory that the stack had before writes to it.
	var all sync.WaitGroup
	release := make(chan struct{})
	for i := range 1000 {
		all.Add(1)
		go func() {
			deep(1 + i%20)
			all.Done()
			<-release
		}()
	}
	all.Wait()
	defer close(release)
	k.got = **(**unix.Iovec)(unsafe.Add(arg, 8)) // struct io_uring_rsrc_update2
	return 0, 0
}

//go:noinline
func deep(n int) byte {
	var frame [200]byte
	for i := range frame {
		frame[i] = byte(n) | 0x80
	}
	if n == 0 {
		return frame[7]
	}
	return deep(n-1) + frame[n%len(frame)]
}

// What the kernel is told of a buffer stays where it is while it is told.
func TestSetBufferStays(t *testing.T) {
	k := &growing{Kernel: ring.NewPortable(ops.Calls(), 1)}
	r, err := ring.Open(ring.Config{Kernel: k})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	mem := make([]byte, 100)
	for range 20 {
		done := make(chan error)
		go func() { done <- r.SetBuffer(0, mem) }() // on a small stack
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if k.got.Base != unsafe.SliceData(mem) || uint64(k.got.Len) != uint64(len(mem)) {
			t.Fatalf("%d bytes at %p, want %d at %p", k.got.Len, k.got.Base, len(mem), mem)
		}
	}
}
