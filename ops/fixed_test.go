package ops

import (
	"syscall"
	"testing"

	"uringo/buf"
)

// Without a driver that knows of registered memory, operations on fixed buffers are the plain ones.
func TestFixedAt(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		a, err := buf.NewArena(4096)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		one, err := a.Alloc(100, 0)
		if err != nil {
			t.Fatal(err)
		}
		two, err := a.Alloc(100, 0)
		if err != nil {
			t.Fatal(err)
		}
		fd := e.file("0123456789")
		if n := must(e, ReadFixedAt(fd, one.View(10, 14), 3)); n != 4 || string(one.Bytes()) != "3456" {
			t.Errorf("%d, %q", n, one.Bytes())
		}
		copy(two.Bytes(), "ab")
		if n := must(e, WriteFixedAt(fd, two.View(0, 2), 1)); n != 2 {
			t.Errorf("wrote %d", n)
		}
		if n := must(e, WritevFixedAt(fd, []*buf.Fixed{one, two}, 4)); n != 6 {
			t.Errorf("wrote %d", n)
		}
		if got := e.content(fd); got != "0ab33456ab" {
			t.Errorf("%q", got)
		}
		if n := must(e, ReadvFixedAt(fd, []*buf.Fixed{two, one}, 0)); n != 6 || string(two.Bytes()) != "0a" || string(one.Bytes()) != "b334" {
			t.Errorf("%d, %q, %q", n, two.Bytes(), one.Bytes())
		}
		part := one.Bytes()[1:3]
		if r := do(e, ReadIn(fd, one, part, 8)); r.N != 2 || r.Err != nil || string(one.Bytes()) != "bab4" {
			t.Errorf("%d, %v, %q", r.N, r.Err, one.Bytes())
		}
		if r := do(e, WriteFrom(fd, one, part, 0)); r.N != 2 || r.Err != nil || e.content(fd)[:2] != "ab" {
			t.Errorf("%d, %v", r.N, r.Err)
		}
		fails(e, ReadFixedAt(-1, one, 0), syscall.EBADF)
		one.Release()
		fails(e, ReadFixedAt(fd, one, 0), buf.ErrReleased)
		fails(e, WritevFixedAt(fd, []*buf.Fixed{two, one}, 0), buf.ErrReleased)
		fails(e, ReadvFixedAt(fd, []*buf.Fixed{one}, 0), buf.ErrReleased)
		two.Release()
	})
}
