// Package testenv has what the tests of several packages ask of their surroundings.
package testenv

import (
	"os"
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
