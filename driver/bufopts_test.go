package driver_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// wishes are the ways to make a ring of buffers.
var wishes = []struct {
	name    string
	options []driver.BufferOption
}{
	{"plain", nil},
	{"incremental", []driver.BufferOption{driver.Incremental()}},
	{"bundles", []driver.BufferOption{driver.Bundles()}},
	{"both", []driver.BufferOption{driver.Incremental(), driver.Bundles()}},
}

// Whatever the buffers are like, and whether the kernel knows such ones, readers get every byte once and in order, and every buffer comes
// back. There are far fewer than the connections could fill.
func TestBufferOptions(t *testing.T) { // HAZARDS T27, N11
	for _, w := range wishes {
		t.Run(w.name, func(t *testing.T) {
			on(t, everywhere, func(e *rig) {
				d := e.open(driver.Config{})
				const bufs, conns, length = 8, 4, 100
				total := size(20_000, 500_000)
				b, err := driver.NewBufferRing(d, bufs, length, w.options...)
				if err != nil {
					e.Fatal(err)
				}
				streams := make([]*driver.Stream[driver.Chunk], conns)
				for i := range conns {
					in, out := e.streamPair()
					streams[i] = driver.RecvMulti(d, in, b, 0, nil)
					rng := e.random(100 + i)
					go func() {
						defer unix.Close(out)
						for n := 0; n < total; {
							some := make([]byte, min(total-n, 1+rng.IntN(1+rng.IntN(5*length))))
							for k := range some {
								some[k] = byte((n + k) * (2*i + 1))
							}
							k, err := unix.Write(out, some)
							if err == unix.EINTR {
								continue
							}
							if err != nil {
								return // the reader sees too little
							}
							n += k
						}
					}()
				}
				e.together(conns, func(i int) { e.readBytes(streams[i], i, total) })
				if st := b.Stats(); st.Held != 0 || st.Free != bufs {
					e.Errorf("%+v", st)
				}
				if err := b.Close(); err != nil {
					e.Error(err)
				}
			})
		})
	}
}

// streamPair returns a connected pair.
func (e *rig) streamPair() (in, out int) {
	e.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	return e.keep(p[0], err), p[1]
}

// readBytes reads a stream of total bytes to its end, and holds some chunks for a while.
func (e *rig) readBytes(s *driver.Stream[driver.Chunk], i, total int) {
	rng := e.random(i)
	ctx := inTime(e)
	var held []driver.Chunk
	n := 0
	for {
		c, err := s.Next(ctx)
		if err != nil {
			if err != io.EOF || n != total {
				e.Errorf("%v after %d bytes of %d", err, n, total)
			}
			break
		}
		for k, got := range c.Bytes() {
			if want := byte((n + k) * (2*i + 1)); got != want {
				e.Errorf("byte %d is %d, want %d", n+k, got, want)
				c.Release()
				s.Discard()
				return
			}
		}
		n += len(c.Bytes())
		if held = append(held, c); len(held) > 1 || rng.IntN(3) == 0 {
			for len(held) > 0 { // in any order
				k := rng.IntN(len(held))
				held[k].Release()
				held = append(held[:k], held[k+1:]...)
			}
		}
	}
	for _, c := range held {
		c.Release()
	}
}

// An incremental buffer holds several messages, is free when the last of them was released, and knows its parts.
func TestIncremental(t *testing.T) {
	on(t, engines, func(e *rig) {
		e.needsRegistering() // else the ring of buffers may come to nothing
		d := e.open(driver.Config{})
		ctx := inTime(e)
		b, err := driver.NewBufferRing(d, 4, 100, driver.Incremental())
		if err != nil {
			e.Fatal(err)
		}
		in, out := e.streamPair()
		defer unix.Close(out)
		s := driver.RecvMulti(d, in, b, 0, nil)
		var chunks []driver.Chunk
		for i := range 3 {
			msg := fmt.Sprintf("%40d", i)
			e.write(out, []byte(msg))
			for got := ""; got < msg; {
				c, err := s.Next(ctx)
				if err != nil {
					e.Fatal(err)
				}
				chunks = append(chunks, c)
				got += string(c.Bytes())
			}
		}
		if d.Engine() == driver.Uring && release(e) >= 612 {
			if st := b.Stats(); st.Held != 1 || len(chunks) != 4 { // the third message lies in two buffers
				e.Errorf("%+v with %d chunks", st, len(chunks))
			}
		}
		for _, i := range []int{1, 0, 2} {
			chunks[i].Release()
		}
		func() {
			defer func() {
				if recover() == nil {
					e.Error("released twice")
				}
			}()
			chunks[1].Release()
		}()
		for _, c := range chunks[3:] {
			c.Release()
		}
		if st := b.Stats(); st.Held > 1 { // of the portable engine one may wait in an operation
			e.Errorf("%+v", st)
		}
		if err := s.Close(ctx); err != nil {
			e.Error(err)
		}
		if st := b.Stats(); st.Held != 0 || st.Free != 4 {
			e.Errorf("%+v", st)
		}
		packets, other := e.seqpackets()
		defer unix.Close(other)
		if _, err := driver.RecvMulti(d, packets, b, 0, nil).Next(ctx); err == nil {
			e.Error("packets into incremental buffers")
		}
	})
}

// A second release is one also when the buffer has its next reader, at the same place: that one keeps what it has.
func TestIncrementalReleasedLate(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		ctx := inTime(e)
		const size = 8
		b, err := driver.NewBufferRing(d, 1, size, driver.Incremental())
		if err != nil {
			e.Fatal(err)
		}
		in, out := e.streamPair()
		defer unix.Close(out)
		s := driver.RecvMulti(d, in, b, 0, nil)
		full := func(text byte) driver.Chunk {
			e.write(out, bytes.Repeat([]byte{text}, size))
			c, err := s.Next(ctx)
			if err != nil || len(c.Bytes()) != size {
				e.Fatalf("%q, %v", c.Bytes(), err)
			}
			return c
		}
		first := full('1')
		first.Release()
		second := full('2')
		func() {
			defer func() {
				if recover() == nil {
					e.Error("released twice")
				}
			}()
			first.Release()
		}()
		if st := b.Stats(); st.Held != 1 {
			e.Errorf("%+v", st)
		}
		second.Release()
		if err := s.Close(ctx); err != nil {
			e.Error(err)
		}
	})
}

// More than a processor of 32 bits can address is refused.
func TestBuffersBeyondAddresses(t *testing.T) {
	if math.MaxInt > math.MaxInt32 {
		t.Skip("needs 32 bits: here the largest ring of buffers has an address")
	}
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		if b, err := driver.NewBufferRing(d, 1<<15, 1<<20); err == nil || errors.Is(err, driver.ErrBroken) {
			e.Errorf("%v, %v", b, err)
		}
		must(e, d, ops.Nop())
	})
}

// Much data comes in bundles where the kernel has them.
func TestBundles(t *testing.T) {
	on(t, engines, func(e *rig) {
		e.needsRegistering() // else the ring of buffers may come to nothing
		d := e.open(driver.Config{})
		ctx := inTime(e)
		b, err := driver.NewBufferRing(d, 16, 10, driver.Bundles())
		if err != nil {
			e.Fatal(err)
		}
		in, out := e.streamPair()
		e.write(out, make([]byte, 95))
		unix.Close(out)
		s := driver.RecvMulti(d, in, b, 0, nil)
		for n := 0; ; {
			c, err := s.Next(ctx)
			if err == io.EOF && n == 95 {
				break
			}
			if err != nil {
				e.Fatalf("%v after %d bytes", err, n)
			}
			n += len(c.Bytes())
			c.Release()
		}
		if st := d.Stats(); d.Engine() == driver.Uring && release(e) >= 610 && st.Bundled == 0 {
			e.Errorf("%+v", st)
		}
	})
}
