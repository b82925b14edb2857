package ops

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

func TestMain(m *testing.M) {
	time.AfterFunc(0, func() {}) // has the runtime open the descriptors that it keeps, before a test closes one and looks at its number
	goleak.VerifyTestMain(m)
}

// engine performs single operations on a ring, without a driver.
type engine struct {
	testing.TB
	*ring.Ring
	portable bool
	data     uint64
	early    map[uint64]int32
}

// onEngines runs a test on the kernel and on the portable engine: it must not be able to tell them apart.
func onEngines(t *testing.T, test func(t *testing.T, e *engine)) {
	t.Helper()
	onEnginesWith(t, 16, test)
}

// onEnginesWith is onEngines with so many goroutines for calls on the portable engine.
func onEnginesWith(t *testing.T, calls int, test func(t *testing.T, e *engine)) {
	t.Helper()
	for name, k := range map[string]ring.Kernel{"kernel": ring.Linux(), "portable": ring.NewPortable(Calls(), calls)} {
		t.Run(name, func(t *testing.T) {
			r, err := ring.Open(ring.Config{Entries: 64, Kernel: k})
			if errors.Is(err, ring.ErrUnavailable) || errors.Is(err, syscall.ENOMEM) && os.Getuid() != 0 {
				t.Skip(err) // not offered, or too little memory to lock
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}()
			test(t, &engine{t, r, name == "portable", 0, map[uint64]int32{}})
		})
	}
}

// need skips the test if the running kernel lacks an opcode. The portable engine has them all.
func (e *engine) need(k *Kind, since string) {
	e.Helper()
	if e.Supports(k.Code) {
		return
	}
	if e.portable {
		e.Fatalf("the portable engine lacks %s", k.Name)
	}
	e.Skipf("needs %s (Linux %s)", k.Name, since)
}

// start submits an operation and returns its user data.
func (e *engine) start(s *Spec) uint64 {
	e.Helper()
	entry := e.Next()
	if entry == nil {
		e.Fatal("submission queue full")
	}
	s.Prepare(entry)
	e.data++
	entry.UserData = e.data
	if err := e.Submit(); err != nil {
		e.Fatal(err)
	}
	return e.data
}

// take reaps what has completed.
func (e *engine) take() {
	e.Helper()
	var out [64]ring.CQE
	for _, c := range out[:e.Reap(out[:])] {
		if _, twice := e.early[c.UserData]; twice {
			e.Fatalf("request %d completed twice", c.UserData)
		}
		e.early[c.UserData] = c.Res
	}
}

// await returns the raw result of a started operation, after waiting for it as long as a broken test should take at most.
func (e *engine) await(data uint64) int32 {
	e.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if res, ok := e.early[data]; ok {
			delete(e.early, data)
			return res
		}
		if time.Now().After(deadline) {
			e.Fatalf("request %d does not complete", data)
		}
		if err := e.SubmitAndWait(time.Until(deadline)); err != nil {
			e.Fatal(err)
		}
		e.take()
	}
}

// settle takes what completes in a moment.
func (e *engine) settle() {
	e.Helper()
	for deadline := time.Now().Add(10 * time.Millisecond); time.Now().Before(deadline); {
		if err := e.SubmitAndWait(time.Until(deadline)); err != nil {
			e.Fatal(err)
		}
		e.take()
	}
}

// begun waits until everything that was started has been tried. On the portable engine it takes that there is one goroutine for calls.
func (e *engine) begun() {
	e.Helper()
	must(e, Statx(unix.AT_FDCWD, "/", 0, unix.STATX_MODE, new(unix.Statx_t)))
}

// pending reports whether an operation has not completed after a moment.
func (e *engine) pending(data uint64) bool {
	e.Helper()
	e.settle()
	_, done := e.early[data]
	return !done
}

// do performs an operation, and again if it was interrupted, as the driver does.
func do[T any](e *engine, op Op[T]) Result[T] {
	e.Helper()
	if err := op.Invalid(); err != nil {
		return op.Result(0, err)
	}
	res := e.await(e.start(&op.Spec))
	for Interrupted(res) && !op.Kind.Once {
		res = e.await(e.start(&op.Spec))
	}
	r := op.Result(op.Finish(res))
	runtime.KeepAlive(&op)
	return r
}

// must performs an operation that is to succeed.
func must[T any](e *engine, op Op[T]) int {
	e.Helper()
	r := do(e, op)
	if r.Err != nil {
		e.Fatalf("%s: %v", op.Kind.Name, r.Err)
	}
	return r.N
}

// fails performs an operation that is to fail with one of the errors.
func fails[T any](e *engine, op Op[T], want ...error) {
	e.Helper()
	r := do(e, op)
	for _, w := range want {
		if errors.Is(r.Err, w) {
			return
		}
	}
	e.Errorf("%s: %d, %v; want %v", op.Kind.Name, r.N, r.Err, want)
}

// file returns a descriptor of a new file with the given content.
func (e *engine) file(content string) int {
	e.Helper()
	name := filepath.Join(e.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		e.Fatal(err)
	}
	return e.opened(unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0))
}

// opened closes a descriptor at the end of the test.
func (e *engine) opened(fd int, err error) int {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// pipe returns the reading and the writing end of a pipe.
func (e *engine) pipe() (r, w int) {
	e.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		e.Fatal(err)
	}
	return e.opened(p[0], nil), e.opened(p[1], nil)
}

// content returns what a file holds.
func (e *engine) content(fd int) string {
	e.Helper()
	buf := make([]byte, 1<<16)
	n, err := unix.Pread(fd, buf, 0)
	if err != nil {
		e.Fatal(err)
	}
	return string(buf[:n])
}

// isOpen reports whether a descriptor is open.
func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// prepared returns the entry of an operation.
func prepared[T any](op *Op[T]) *ring.SQE {
	e := new(ring.SQE)
	op.Prepare(e)
	return e
}
