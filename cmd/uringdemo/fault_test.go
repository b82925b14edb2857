package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"uringo/driver"
	"uringo/fs"
	"uringo/internal/ring"
)

// A run of the program on a kernel that misbehaves: one of ten enters fails, one of twenty transfers is short, and one of fifty
// operations is interrupted or told to come back.
func runFaulty(t *testing.T, seed uint64, cfg ring.FaultConfig, args ...string) (outcome, ring.FaultStats) {
	t.Helper()
	o, err := parse(args)
	must(t, err)
	k := ring.NewFaults(ring.Linux(), seed, cfg)
	o.driver = driver.OnKernel(o.driver, k)
	var stdout, stderr bytes.Buffer
	code := o.run(t.Context(), &stdout, &stderr)
	return outcome{code, stdout.String(), beside(stderr.String())}, k.Stats()
}

var usualFaults = ring.FaultConfig{EnterFails: 0.1, Shorten: 0.05, Inject: 0.02, Limit: 0.05}

// throughRing has every operation take the ring, where the faults are, until the test ends.
func throughRing(t *testing.T) {
	for op := fs.OpRead; op <= fs.OpClose; op++ {
		old := fs.Pin(op, fs.Ring)
		t.Cleanup(func() { fs.Pin(op, old) })
	}
}

// TestFaultyCopy copies a large file through faults.
func TestFaultyCopy(t *testing.T) {
	throughRing(t)
	dir := shm(t)
	y := yard{t, dir}
	large := 256 << 20
	if raceEnabled {
		large = large * 3 / 4
	}
	for _, c := range []struct {
		executor string
		size     int
	}{{"workers:2", large}, {"goroutines", large / 2}, {"pool:3", large / 2}, {"local", large / 2}} {
		t.Run(c.executor, func(t *testing.T) {
			y.file("a", c.size)
			args := []string{"--executor=" + c.executor, "--engine=uring", "--method=blocks", y.path("a"), y.path("b")}
			begin := time.Now()
			clean, _ := runFaulty(t, 1, ring.FaultConfig{}, args...)
			plain := time.Since(begin)
			clean.want(t, exitOK)
			must(t, os.Remove(y.path("b")))

			// Which faults happen is chance: more copies, until both kinds have.
			var seen ring.FaultStats
			for seed := uint64(2); seen.Shortened == 0 || seen.Failed == 0; seed++ {
				if seed > 5 {
					t.Fatal("hardly anything went wrong: the faults did not reach the operations")
				}
				begin = time.Now()
				faulty, stats := runFaulty(t, seed, usualFaults, args...)
				took := time.Since(begin)
				faulty.want(t, exitOK)
				if faulty.stderr != "" {
					t.Errorf("said %s", faulty.stderr)
				}
				sameContent(t, y.path("b"), y.path("a"))
				must(t, os.Remove(y.path("b")))
				t.Logf("%d MiB in %v without faults, %v with %+v", c.size>>20, plain, took, stats)
				seen.Shortened += stats.Shortened
				seen.Failed += stats.Failed
			}
			noTemps(t, dir)
		})
	}
}

// TestLostWrite has the kernel say that it wrote what it did not write. Verify must find out, and nothing may have the final name.
func TestLostWrite(t *testing.T) {
	throughRing(t)
	y := yard{t, shm(t)}
	y.file("a", 3<<20)
	lost := false
	cfg := ring.FaultConfig{Inject: 1, Results: []int32{1 << 20}, Match: func(e *ring.SQE) bool {
		hit := !lost && e.Op == ring.OpWrite && e.Off == 1<<20 && e.Len == 1<<20
		lost = lost || hit
		return hit
	}}
	o, stats := runFaulty(t, 1, cfg, "--engine=uring", "--method=blocks", "--verify", y.path("a"), y.path("b"))
	if stats.Injected != 1 {
		t.Fatalf("injected %d times", stats.Injected)
	}
	o.want(t, exitFailed)
	o.says(t, y.path("b")+": differs from its source: xxh64 is ")
	if _, err := os.Lstat(y.path("b")); err == nil {
		t.Error("the file exists")
	}
	noTemps(t, y.dir)
}

// TestFaultyTree copies a tree through faults and compares it with what cp makes.
func TestFaultyTree(t *testing.T) {
	throughRing(t)
	dir := shm(t)
	y := yard{t, dir}
	hardLinks(y)
	for i := range 300 {
		y.file("d/"+itoa(i%7)+"/"+itoa(i%31)+"/"+itoa(i), i*37)
	}
	y.settle()
	must(t, exec.Command("cp", "-a", y.path("d"), y.path("cp")).Run())
	want := snapshot(t, y.path("cp"), true)
	for i, executor := range []string{"workers:2", "goroutines", "pool:3", "local"} {
		t.Run(executor, func(t *testing.T) {
			dst := y.path("copy-" + itoa(i))
			o, stats := runFaulty(t, uint64(i), usualFaults, "--executor="+executor, "--engine=uring", "-a", y.path("d"), dst)
			o.want(t, exitOK)
			sameTree(t, snapshot(t, dst, true), want)
			t.Logf("%+v", stats)
			noTemps(t, dir)
		})
	}
}

// shm is a directory in memory if there is one.
func shm(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "uringdemo")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// traced runs the program under strace, which answers system calls in the kernel's place, and returns what it saw of them.
func (w way) traced(t *testing.T, inject string, args ...string) (outcome, string) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace: not installed")
	}
	cmd := w.command(t.Context(), t, args...)
	call, _, _ := strings.Cut(inject, ":")
	trace := t.TempDir() + "/trace"
	cmd.Args = append([]string{strace, "-f", "-qq", "-o", trace, "-e", "trace=" + call, "-e", "inject=" + inject, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = strace
	o := await(t, cmd)
	seen, err := os.ReadFile(trace)
	must(t, err)
	if !strings.Contains(string(seen), "(INJECTED)") {
		if strings.Contains(o.stderr, "ptrace") || strings.Contains(o.stderr, "Operation not permitted") {
			t.Skip("strace may not trace here: ", o.stderr)
		}
	}
	return o, string(seen)
}

// TestForbidden runs where io_uring may not be set up, as in many containers: it copies all the same and says once why.
func TestForbidden(t *testing.T) {
	y := yard{t, t.TempDir()}
	smallTree(y)
	for _, errno := range []string{"EPERM", "ENOSYS", "EACCES"} {
		t.Run(errno, func(t *testing.T) {
			dst := y.path("to-" + errno)
			w := way{"workers:2", "auto"}
			o, seen := w.traced(t, "io_uring_setup:error="+errno+":when=1+", "-a", "--json", y.path("d"), dst)
			if !strings.Contains(seen, errno) {
				t.Fatalf("nothing injected: %s", seen)
			}
			o.want(t, exitOK)
			if s := o.summary(t); s.Engine != "portable" || s.Files != 3 {
				t.Errorf("summary: %+v", s)
			}
			if n := strings.Count(o.stderr, "\n"); n != 1 || !strings.Contains(o.stderr, "io_uring") {
				t.Errorf("want one line that says why, got: %s", o.stderr)
			}
			must(t, exec.Command("diff", "-r", y.path("d"), dst).Run())

			w.engine = "uring"
			o, _ = w.traced(t, "io_uring_setup:error="+errno+":when=1+", "-a", y.path("d"), dst+"2")
			o.want(t, exitFailed)
			o.says(t, "io_uring")
			if _, err := os.Lstat(dst + "2"); err == nil {
				t.Error("copied on another engine than asked for")
			}
		})
	}
}

// TestRangeSaysNothing runs where copy_file_range copies nothing and calls that success.
func TestRangeSaysNothing(t *testing.T) {
	y := yard{t, t.TempDir()}
	y.file("a", 3<<20+1)
	for _, answer := range []string{"retval=0", "error=EXDEV", "error=EOPNOTSUPP", "error=EINVAL", "error=EPERM", "error=ENOSYS"} {
		o, seen := way{"workers:2", "auto"}.traced(t, "copy_file_range:"+answer+":when=1+", y.path("a"), y.path("b"))
		if !strings.Contains(seen, "INJECTED") {
			t.Fatalf("nothing injected: %s", seen)
		}
		o.want(t, exitOK)
		sameContent(t, y.path("b"), y.path("a"))
		must(t, os.Remove(y.path("b")))
	}
}

// TestSyncFails lets fsync fail once. There must be no second try, and no file.
func TestSyncFails(t *testing.T) {
	y := yard{t, t.TempDir()}
	y.file("a", 100000)
	everyWay(t, func(t *testing.T, w way) {
		must(t, os.RemoveAll(y.path("b"))) // another way may have synced through the ring
		o, seen := w.traced(t, "fsync:error=EIO:when=1", y.path("a"), y.path("b"))
		if !strings.Contains(seen, "INJECTED") {
			t.Skip("this way syncs through the ring")
		}
		o.want(t, exitFailed)
		o.says(t, y.path("b")+": ", "input/output error")
		// The other one may be that of the directory.
		if n := strings.Count(seen, "fsync("); n > 2 {
			t.Errorf("%d calls of fsync:\n%s", n, seen)
		}
		if _, err := os.Lstat(y.path("b")); err == nil {
			t.Error("the file exists")
		}
		noTemps(t, y.dir)
	})
}
