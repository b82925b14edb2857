package driver_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/ops"
)

// injecting are ways to run a driver whose kernel answers what it is told to.
func injecting() []way {
	var ways []way
	for name, k := range kernels() {
		engine, _ := driver.ParseEngine(name)
		ways = append(ways, way{name, engine, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
			return e.behind(k(), ring.FaultConfig{}, cfg)
		}})
	}
	return ways
}

// answer is what an operation said, without its type.
type answer struct {
	n    int
	err  error
	same bool // the buffer is what was submitted
}

func ask[T any](d *driver.Driver, op ops.Op[T], same func(T) bool) func() answer {
	return func() answer {
		r := <-driver.Submit(d, op).Done()
		return answer{r.N, r.Err, same(r.Buf)}
	}
}

// TestOddResults has every operation answered with every oddity. Users see the errno, EINTR for what only the kernel should know, and
// an error for what cannot be.
func TestOddResults(t *testing.T) {
	const attempts = 100 // of an operation whose answer means "again"
	on(t, injecting(), func(e *rig) {
		d := e.open(driver.Config{})
		if !e.fault.CanInject() {
			e.Skip("needs IORING_NOP_INJECT_RESULT (Linux 6.10)")
		}
		fd := e.file(make([]byte, 100))
		r, _ := e.pipe()
		buf, other, value := make([]byte, 8), make([]byte, 8), make([]byte, 8)
		bufs := [][]byte{make([]byte, 4), make([]byte, 4)}
		st := new(unix.Statx_t)
		is := func(b []byte) func([]byte) bool {
			return func(c []byte) bool { return &c[0] == &b[0] && len(c) == len(b) }
		}
		none := func(struct{}) bool { return true }
		type asked struct {
			name    string
			ask     func() answer
			bounded bool // 8 bytes are all there can be
			opens   bool
		}
		all := []asked{
			{name: "read", ask: ask(d, ops.ReadAt(fd, buf, 0), is(buf)), bounded: true},
			{name: "write", ask: ask(d, ops.WriteAt(fd, other, 0), is(other)), bounded: true},
			{name: "readv", ask: ask(d, ops.ReadvAt(fd, bufs, 0), func(c [][]byte) bool { return &c[0] == &bufs[0] && len(c) == 2 }), bounded: true},
			{name: "getxattr", ask: ask(d, ops.Fgetxattr(fd, "user.a", value), is(value)), bounded: true},
			{name: "splice", ask: ask(d, ops.Splice(fd, 0, fd, 0, 8, 0), none), bounded: true},
			{name: "poll", ask: ask(d, ops.PollAdd(r, unix.POLLIN), none)},
			{name: "timeout", ask: ask(d, ops.Timeout(time.Hour), none)},
			{name: "nop", ask: ask(d, ops.Nop(), none)},
			{name: "fsync", ask: ask(d, ops.Fsync(fd), none)},
			{name: "statx", ask: ask(d, ops.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_SIZE, st), func(s *unix.Statx_t) bool { return s == st })},
			{name: "openat", ask: ask(d, ops.Openat(unix.AT_FDCWD, "/", unix.O_RDONLY, 0), none), opens: true},
			{name: "openat2", ask: ask(d, ops.Openat2(unix.AT_FDCWD, "/", unix.OpenHow{Flags: unix.O_RDONLY}), none), opens: true},
			{name: "mkdirat", ask: ask(d, ops.Mkdirat(unix.AT_FDCWD, "no", 0), none)},
			{name: "fallocate", ask: ask(d, ops.Fallocate(fd, 0, 0, 8), none)},
			{name: "close", ask: ask(d, ops.Close(fd), none)},
		}
		for _, res := range []int32{-4, -11, -12, -16, -62, -105, -114, -125, -512, -513, -514, -516, -530, -4095, -4096, math.MinInt32, 9, 8, math.MaxInt32} {
			e.fault.Set(ring.FaultConfig{Inject: 1, Results: []int32{res}, Match: func(*ring.SQE) bool { return true }})
			var asking sync.WaitGroup
			for _, a := range all {
				if a.opens && res >= 0 {
					continue // that would be a descriptor
				}
				asking.Go(func() {
					res := res
					got := a.ask()
					if !got.same {
						e.Errorf("%s, %d: another buffer", a.name, res)
					}
					if a.name == "timeout" && res == -int32(syscall.ETIME) {
						res = 0 // which is how a timeout ends well
					}
					if a.name == "poll" && res > 0 { // it tells what was asked for, and what poll(2) tells unasked
						res &= unix.POLLIN | unix.POLLERR | unix.POLLHUP | unix.POLLNVAL
					}
					if err := wrong(got, res, a.bounded); err != nil {
						e.Errorf("%s, %d: %v", a.name, res, err)
					}
				})
			}
			before := d.Stats().Repeated
			asking.Wait()
			repeated := d.Stats().Repeated - before
			most := uint64(0)
			if again(res) {
				most = uint64(attempts * len(all))
			}
			if repeated > most {
				e.Errorf("%d: %d repetitions", res, repeated)
			}
		}
		e.fault.Set(ring.FaultConfig{})
	})
}

// again reports whether a result means that it is to be tried once more.
func again(res int32) bool { return interrupted(res) || res == -11 || res == -125 }

func interrupted(res int32) bool { return res == -4 || res <= -512 && res >= -516 || res == -530 }

// A kernel that is in a bad mood for a while: nobody notices.
func TestPassingResults(t *testing.T) {
	on(t, injecting(), func(e *rig) {
		d := e.open(driver.Config{})
		if !e.fault.CanInject() {
			e.Skip("needs IORING_NOP_INJECT_RESULT (Linux 6.10)")
		}
		e.fault.Set(ring.FaultConfig{Inject: 0.5, Results: []int32{-4, -11, -125, -512, -513, -514, -516, -530}})
		newMix(e, d).play(8, size(60, 5000))
		if s := d.Stats(); s.Repeated == 0 {
			e.Error("nothing was repeated")
		}
	})
}

// An operation that is being put off can be cancelled, and the driver closed.
func TestCancelWhileRepeated(t *testing.T) {
	on(t, injecting(), func(e *rig) {
		for _, res := range []int32{-11, -4} {
			for range size(10, 500) {
				d := e.open(driver.Config{})
				if !e.fault.CanInject() {
					e.Skip("needs IORING_NOP_INJECT_RESULT (Linux 6.10)")
				}
				e.fault.Set(ring.FaultConfig{Inject: 1, Results: []int32{res}})
				p, q := driver.Submit(d, ops.Nop()), driver.Submit(d, ops.Nop())
				time.Sleep(time.Duration(e.rng.IntN(3000)) * time.Microsecond)
				p.Cancel()
				if r := result(e, p); r.Err != syscall.ECANCELED && (res != -4 || r.Err != syscall.EINTR) {
					e.Errorf("cancelled: %+v", r)
				}
				e.shut(d)
				if r := result(e, q); r.Err != driver.ErrClosed && (res != -4 || r.Err != syscall.EINTR) {
					e.Errorf("closed: %+v", r)
				}
			}
		}
	})
}

// A transfer moves at most a gibibyte, and offsets are what they are for plain calls.
func TestLengthsAndOffsets(t *testing.T) {
	const most = 1 << 30
	huge := testenv.Huge(t)
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		null := e.keep(unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0))
		for _, n := range []int64{0, 1, most - 1, most, most + 1, 2<<30 - 1, 2 << 30, 4 << 30, 4<<30 + 1} {
			if n > int64(len(huge)) {
				break
			}
			n := int(n)
			r := do(e, d, ops.WriteAt(null, huge[:n], 0))
			if r.N != min(n, most) || r.Err != nil || len(r.Buf) != n {
				e.Errorf("write of %d: %d, %v", n, r.N, r.Err)
			}
			v := do(e, d, ops.WritevAt(null, [][]byte{huge[:n/2], huge[n/2 : n]}, 0))
			if v.N != min(n, most) || v.Err != nil {
				e.Errorf("write of %d in two: %d, %v", n, v.N, v.Err)
			}
		}
		if size(0, 1) == 1 {
			zero := e.keep(unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0))
			// The device stops early when the reader has something else to do.
			if r := do(e, d, ops.ReadAt(zero, huge, 0)); r.N <= 0 || r.N > most || r.Err != nil {
				e.Errorf("read of %d: %d, %v", len(huge), r.N, r.Err)
			}
			_ = unix.Madvise(huge, unix.MADV_DONTNEED)
		}

		fd := e.file([]byte("hello"))
		if err := unix.Ftruncate(fd, 5<<30); err != nil {
			e.Skipf("needs files of 5 GiB: %v", err)
		}
		for _, off := range []int64{0, 3, 1<<31 - 2, 1 << 31, 1<<32 - 1, 1 << 32, 5<<30 - 1, 5 << 30, 5<<30 + 1, math.MaxInt64 - 1, math.MaxInt64, -2, math.MinInt64} {
			a, b := make([]byte, 8), make([]byte, 8)
			n, err := unix.Pread(fd, a, off)
			r := do(e, d, ops.ReadAt(fd, b, off))
			if r.N != max(n, 0) || (r.Err == nil) != (err == nil) || !bytes.Equal(a, b) {
				e.Errorf("read at %d: %d, %v; pread: %d, %v", off, r.N, r.Err, n, err)
			}
		}
		many := make([][]byte, 1025)
		for i := range many {
			many[i] = make([]byte, 1)
		}
		for n, want := range map[int]int{0: 0, 1: 1, 1024: 1024, 1025: 1024} {
			if r := do(e, d, ops.ReadvAt(fd, many[:n], 0)); r.N != want || r.Err != nil || len(r.Buf) != n {
				e.Errorf("read into %d buffers: %d, %v", n, r.N, r.Err)
			}
		}
	})
}

// Reads and writes as anybody would use them, by plain calls as witnesses.
func TestFileRoundTrip(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		text := []byte(strings.Repeat("0123456789", 1400))
		name := filepath.Join(e.TempDir(), "file")
		fd := must(e, d, ops.Openat(unix.AT_FDCWD, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600))
		if n := must(e, d, ops.WriteAt(fd, text, 0)); n != len(text) {
			e.Errorf("wrote %d", n)
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, text) {
			e.Errorf("%d bytes, %v", len(got), err)
		}
		buf := make([]byte, len(text)+100)
		if r := do(e, d, ops.ReadAt(fd, buf, 0)); r.N != len(text) || r.Err != nil || !bytes.Equal(r.Buf[:r.N], text) {
			e.Errorf("read %d, %v", r.N, r.Err)
		}
		if r := do(e, d, ops.ReadAt(fd, buf, int64(len(text)))); r.N != 0 || r.Err != nil {
			e.Errorf("at the end: %d, %v", r.N, r.Err)
		}
		parts := [][]byte{make([]byte, 5), make([]byte, 9)}
		if r := do(e, d, ops.ReadvAt(fd, parts, 3)); r.N != 14 || string(parts[0]) != "34567" || string(parts[1]) != "890123456" {
			e.Errorf("read %d in two: %q", r.N, parts)
		}
		must(e, d, ops.Fsync(fd))
		must(e, d, ops.Close(fd))
		if r := do(e, d, ops.ReadAt(fd, buf, 0)); r.Err != syscall.EBADF || &r.Buf[0] != unsafe.SliceData(buf) {
			e.Errorf("closed: %+v", r.Err)
		}
		must(e, d, ops.Unlinkat(unix.AT_FDCWD, name, 0))
	})
}

// wrong returns what is wrong with the answer to a result.
func wrong(got answer, res int32, bounded bool) error {
	var want error
	switch {
	case res > 8 && bounded, res < -4095, res == -4096:
		if !errors.Is(got.err, ops.ErrBadResult) || got.n != 0 {
			return fmt.Errorf("%+v", got)
		}
		return nil
	case res >= 0:
		if got.err != nil || got.n != int(res) {
			return fmt.Errorf("%+v", got)
		}
		return nil
	case interrupted(res):
		want = syscall.EINTR
	default:
		want = syscall.Errno(-res)
	}
	if got.err != want || got.n != 0 {
		return fmt.Errorf("%+v, want %v", got, want)
	}
	return nil
}
