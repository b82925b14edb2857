package driver_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// mix is a random load whose every result can be checked, and whose every effect too: what has been done twice, or was done
// although the answer says otherwise, shows.
type mix struct {
	*rig
	d *driver.Driver

	file       int // of content, never changed
	content    []byte
	scratch    int // each write has a place in it
	place      atomic.Int64
	idle       int // a pipe that nothing comes out of
	dir        int
	in, out    int // a socket for tokens
	collecting sync.WaitGroup

	mu     sync.Mutex
	token  uint64
	tokens map[uint64]int // written: 1, refused: 0, unknown: -1
	seen   map[uint64]int
}

func newMix(e *rig, d *driver.Driver) *mix {
	e.Helper()
	m := &mix{rig: e, d: d, content: make([]byte, 1<<16), tokens: map[uint64]int{}, seen: map[uint64]int{}}
	for i := range m.content {
		m.content[i] = byte(i*11 + i>>8)
	}
	m.file, m.scratch = e.file(m.content), e.file(nil)
	m.idle, _ = e.pipe()
	where := e.TempDir()
	if err := os.WriteFile(filepath.Join(where, "name"), m.content[:1234], 0o600); err != nil {
		e.Fatal(err)
	}
	m.dir = e.keep(unix.Open(where, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
	m.in, m.out = e.sockets()
	m.collecting.Go(m.collect)
	return m
}

// collect counts the tokens that come out of the socket.
func (m *mix) collect() {
	var b [8]byte
	for {
		_, err := io.ReadFull(plain(m.in), b[:])
		if err != nil {
			if err != io.EOF {
				m.Errorf("collecting: %v", err)
			}
			return
		}
		m.seen[binary.LittleEndian.Uint64(b[:])]++
	}
}

// plain reads a descriptor with plain calls.
type plain int

func (fd plain) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(fd), b)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// done checks the effects, after everything has its result.
func (m *mix) done() {
	m.Helper()
	if err := unix.Shutdown(m.out, unix.SHUT_WR); err != nil {
		m.Fatal(err)
	}
	m.collecting.Wait()
	for token, n := range m.tokens {
		if got := m.seen[token]; n >= 0 && got != n || got > 1 {
			m.Errorf("token %d was to be written %d times and came %d times", token, n, got)
		}
		delete(m.seen, token)
	}
	for token := range m.seen {
		m.Errorf("token %d was never written", token)
	}
}

// start begins a random operation and returns how to cancel it, and how to wait for it and check what became of it. ended are errors
// that are right.
func (m *mix) start(rng *rand.Rand) (cancel func(), check func(ended ...error) error) {
	switch rng.IntN(12) {
	case 0:
		op, n := m.nop(rng.IntN(1000))
		return begin(m, op, func(r ops.Result[struct{}]) error { return wanted(r.N, n) })
	case 1:
		off, n := rng.IntN(len(m.content)-2000), 1+rng.IntN(2000)
		return begin(m, ops.ReadAt(m.file, make([]byte, n), int64(off)), func(r ops.Result[[]byte]) error {
			return m.same(r.N, n, r.Buf, off)
		})
	case 2:
		off, a, b := rng.IntN(len(m.content)-2000), 1+rng.IntN(1000), 1+rng.IntN(1000)
		return begin(m, ops.ReadvAt(m.file, [][]byte{make([]byte, a), nil, make([]byte, b)}, int64(off)), func(r ops.Result[[][]byte]) error {
			return m.same(r.N, a+b, bytes.Join(r.Buf, nil), off)
		})
	case 3, 4:
		return m.write(rng)
	case 5:
		off := m.place.Add(8)
		b := binary.LittleEndian.AppendUint64(nil, rng.Uint64())
		return begin(m, ops.WriteAt(m.scratch, b, off), func(r ops.Result[[]byte]) error {
			var now [8]byte
			if _, err := unix.Pread(m.scratch, now[:], off); err != nil || !bytes.Equal(now[:], r.Buf) {
				return fmt.Errorf("wrote %x, there is %x, %v", r.Buf, now, err)
			}
			return wanted(r.N, 8)
		})
	case 6:
		d := time.Duration(rng.IntN(200)) * time.Microsecond
		start := time.Now()
		return begin(m, ops.Timeout(d), func(ops.Result[struct{}]) error {
			if took := time.Since(start); took < d && m.sim == nil {
				return fmt.Errorf("%v took %v", d, took)
			}
			return nil
		})
	case 7:
		cancel, check = begin(m, ops.ReadAt(m.idle, make([]byte, 8), -1), func(r ops.Result[[]byte]) error {
			return fmt.Errorf("read %d from nothing", r.N)
		})
		cancel()
	case 8:
		cancel, check = begin(m, ops.PollAdd(m.idle, unix.POLLIN), func(r ops.Result[struct{}]) error {
			return fmt.Errorf("ready: %x", r.N)
		})
		cancel()
	case 9, 10:
		op := ops.Statx(m.dir, "name", 0, unix.STATX_SIZE, new(unix.Statx_t))
		if rng.IntN(2) == 0 {
			op.Route = ops.RouteCall
		}
		return begin(m, op, func(r ops.Result[*unix.Statx_t]) error { return wanted(int(r.Buf.Size), 1234) })
	case 11:
		return begin(m, ops.Openat(m.dir, "name", unix.O_RDONLY, 0), func(r ops.Result[struct{}]) error {
			var b [16]byte
			if n, err := unix.Pread(r.N, b[:], 1000); n != 16 || !bytes.Equal(b[:], m.content[1000:1016]) {
				return fmt.Errorf("opened another file: %d, %v", n, err)
			}
			return unix.Close(r.N)
		})
	}
	return cancel, check
}

// write sends a token.
func (m *mix) write(rng *rand.Rand) (cancel func(), check func(ended ...error) error) {
	m.mu.Lock()
	m.token++
	token := m.token
	m.tokens[token] = -1
	m.mu.Unlock()
	op := ops.WriteAt(m.out, binary.LittleEndian.AppendUint64(nil, token), -1)
	if rng.IntN(8) == 0 {
		op.Flags |= ops.Async
	}
	return beginAny(m, op, func(r ops.Result[[]byte]) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		switch r.Err {
		case nil:
			m.tokens[token] = 1
			return wanted(r.N, 8)
		case syscall.ECANCELED, driver.ErrClosed:
			m.tokens[token] = 0
		}
		return nil
	})
}

// begin submits an operation; right looks at its success.
func begin[T any](m *mix, op ops.Op[T], right func(ops.Result[T]) error) (cancel func(), check func(ended ...error) error) {
	return beginAny(m, op, func(r ops.Result[T]) error {
		if r.Err != nil {
			return nil
		}
		return right(r)
	})
}

// beginAny submits an operation; settled looks at its result, right or wrong. Cancelling it makes ECANCELED right too.
func beginAny[T any](m *mix, op ops.Op[T], settled func(ops.Result[T]) error) (cancel func(), check func(ended ...error) error) {
	p := driver.Submit(m.d, op)
	cancelled := false
	cancel = func() {
		cancelled = true
		p.Cancel()
	}
	return cancel, func(ended ...error) error {
		if cancelled {
			ended = append(ended, syscall.ECANCELED)
		}
		r := result(m.rig, p)
		if _, twice := <-p.Done(); twice {
			return fmt.Errorf("%s: a second result", op.Kind.Name)
		}
		err := r.Err
		if e := settled(r); e != nil {
			err = e
		}
		for _, e := range ended {
			if err == e {
				return nil
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", op.Kind.Name, err)
		}
		return nil
	}
}

func wanted(got, want int) error {
	if got != want {
		return fmt.Errorf("%d, want %d", got, want)
	}
	return nil
}

func (m *mix) same(got, want int, b []byte, off int) error {
	if got != want || !bytes.Equal(b, m.content[off:off+want]) {
		return fmt.Errorf("read of %d at %d: %d, and other bytes", want, off, got)
	}
	return nil
}

// play has goroutines perform random operations, several at once, some of them cancelled.
func (m *mix) play(goroutines, operations int) {
	m.Helper()
	m.together(goroutines, func(i int) {
		rng := m.random(i)
		var checks []func(...error) error
		for range operations {
			cancel, check := m.start(rng)
			if rng.IntN(8) == 0 {
				spin(time.Duration(rng.IntN(30)) * time.Microsecond)
				cancel()
			}
			checks = append(checks, check)
			if n := 1 + rng.IntN(8); len(checks) >= n {
				for _, check := range checks {
					if err := check(); err != nil {
						m.Error(err)
					}
				}
				checks = checks[:0]
			}
		}
		for _, check := range checks {
			if err := check(); err != nil {
				m.Error(err)
			}
		}
	})
	m.done()
}
