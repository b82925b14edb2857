package testenv

import (
	"context"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Leakless calls f with a context that ends after two minutes, an hour in a nightly run, and sees that neither goroutines nor descriptors are left
// over. An error of f is one of the test.
func Leakless(t *testing.T, f func(ctx context.Context) error) {
	t.Helper()
	before := Descriptors(t)
	patience := 2 * time.Minute
	if Nightly() {
		patience = time.Hour
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f(ctx); err != nil {
		t.Error(err)
	}
	NoGoroutines(t, goleak.IgnoreTopFunction("testing.(*T).Run"), goleak.IgnoreTopFunction("testing.tRunner.func1"))
	NoneLeft(t, before)
}

// leaving is how long what ends in the background may take, on a machine that does other things too. What stays, stays for longer.
const leaving = 10 * time.Second

// NoGoroutines sees that no goroutines are left but those that the options name. What ends in the background has time for that: more than the
// part of a second that goleak waits by itself.
func NoGoroutines(t testing.TB, options ...goleak.Option) {
	t.Helper()
	for deadline := time.Now().Add(leaving); ; {
		err := goleak.Find(options...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Error(err)
			return
		}
	}
}

// Descriptors returns the open descriptors of the process and what they are.
func Descriptors(t testing.TB) map[string]string {
	t.Helper()
	profiled()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	open := make(map[string]string, len(list))
	for _, e := range list {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.Contains(to, "/fd") { // without the one that reads the list
			open[e.Name()] = to
		}
	}
	return open
}

// profiled waits until a CPU profile (go test -cpuprofile) has begun: at first it opens what the process has mapped, beside the first test.
var profiled = sync.OnceFunc(func() {
	begins := func(stack string) bool {
		return strings.Contains(stack, "pprof.profileWriter(") && !strings.Contains(stack, "pprof.readProfile(")
	}
	stacks := make([]byte, 1<<16)
	for range 1000 {
		if !slices.ContainsFunc(strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n"), begins) {
			return
		}
		time.Sleep(time.Millisecond)
	}
})

// Files returns what [Descriptors] does without those that the waiting of a driver or of Go's poller may open at any moment, for whoever counts while
// they live.
func Files(t *testing.T) map[string]string {
	t.Helper()
	open := Descriptors(t)
	maps.DeleteFunc(open, func(_, to string) bool { return waits(to) })
	return open
}

// waits reports whether a descriptor is an eventfd or an epoll instance.
func waits(to string) bool { return strings.HasPrefix(to, "anon_inode:[event") }

// NoneLeft sees that no descriptors are open but those before. What is closed in the background has time for that.
func NoneLeft(t *testing.T, before map[string]string) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(leaving); ; time.Sleep(5 * time.Millisecond) {
		left = left[:0]
		for fd, to := range Descriptors(t) {
			if before[fd] != to && !waits(to) { // Go's own poller
				left = append(left, fd+" -> "+to)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("descriptors left open: %v", left)
			return
		}
		runtime.GC()
	}
}
