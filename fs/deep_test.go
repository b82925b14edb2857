package fs_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
)

// TestRemoveAllMemory removes a tree that is deeper than paths can be long, in memory that does not grow with the square of its depth.
func TestRemoveAllMemory(t *testing.T) {
	const depth, most = 900, 48 << 20
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < depth+100 {
		t.Skipf("needs %d open files, the limit is %d", depth+100, limit.Cur)
	}
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	makeDeep(t, root, strings.Repeat("d", 200), depth)
	run(t, executor.Goroutines(), driver.Config{}, func(t *testing.T, ctx context.Context) {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if err := fs.RemoveAll(ended, root); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := fs.RemoveAll(ctx, root); err != nil {
			t.Error(err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > most {
			t.Errorf("allocated %d KiB", n>>10)
		}
		if _, err := os.Lstat(root); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the tree is still there: %v", err)
		}
	})
}

// makeDeep makes a directory in the directory root, one in that, and so on.
func makeDeep(t *testing.T, root, name string, depth int) {
	t.Helper()
	at, err := unix.Open(root, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for range depth {
		if err == nil {
			err = unix.Mkdirat(at, name, 0o700)
		}
		if err == nil {
			var next int
			next, err = unix.Openat(at, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			unix.Close(at)
			at = next
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(at)
}
