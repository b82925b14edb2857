// Package testenv has what the tests of several packages ask of their surroundings.
package testenv

import (
	"math"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
)

// Engines returns what performs operations in a test: both engines, or the one that the environment names.
func Engines(tb testing.TB) []driver.Engine {
	tb.Helper()
	if name := os.Getenv(driver.EngineVar); name != "" {
		e, err := driver.ParseEngine(name)
		if err != nil {
			tb.Fatal(err)
		}
		return []driver.Engine{e}
	}
	return []driver.Engine{driver.Uring, driver.Portable}
}

// Nightly reports whether stress tests are to run at their full size: URINGO_NIGHTLY=1.
func Nightly() bool { return os.Getenv("URINGO_NIGHTLY") != "" }

// MayRegister reports whether the user may lock enough memory for the buffers of a test. With less they work unregistered.
func MayRegister(tb testing.TB) bool {
	tb.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		tb.Fatal(err)
	}
	return os.Getuid() == 0 || limit.Cur >= 1<<20
}

// Pool returns a pool that the end of the test closes.
func Pool(tb testing.TB, cfg buf.PoolConfig) *buf.Pool {
	tb.Helper()
	p, err := buf.NewPool(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Close(); err != nil {
			tb.Error(err)
		}
	})
	return p
}

// OpenNetpoller has the runtime open the descriptors that it keeps, so that no test is blamed for them.
func OpenNetpoller() {
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	_ = r.SetReadDeadline(time.Now())
	r.Close()
	w.Close()
}

// Huge returns memory of more than 4 GiB, or as much as fits where addresses have 32 bits, always more than 1 GiB. It costs nothing before it
// is used, and is gone at the end of the test.
func Huge(t testing.TB) []byte {
	t.Helper()
	const size = min(4<<30+1, math.MaxInt/8*5)
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		t.Skipf("needs address space: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	return mem
}

// CountsAllocs skips a test that sees nothing allocated where that cannot be: under the race detector, and where goroutines are told apart
// without assembly, see package executor.
func CountsAllocs(t testing.TB, race bool) {
	t.Helper()
	if race {
		t.Skip("the race detector allocates")
	}
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("executors allocate on " + runtime.GOARCH)
	}
}
