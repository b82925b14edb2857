package driver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/ops"
)

// TestNoWakeupLost has goroutines submit when the driver is about to sleep, asleep, or about to wake, with an operation in flight that
// never ends and without. Nothing else comes by: what is not noticed at once is noticed never.
func TestNoWakeupLost(t *testing.T) {
	ways := append([]way{onLockedPortable}, engines...)
	cycles := size(100_000, 1_000_000) / (len(ways) * 3 * 3 * 2)
	if raceEnabled {
		cycles /= 8
	}
	on(t, ways, func(e *rig) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
		var slowest atomic.Int64
		delays := testenv.Delays()
		for _, procs := range []int{1, 2, 8} {
			runtime.GOMAXPROCS(procs)
			for _, goroutines := range []int{1, 2, 64} {
				for _, pendingRead := range []bool{false, true} {
					d := e.open(driver.Config{})
					var held *driver.Pending[[]byte]
					if pendingRead {
						r, _ := e.pipe()
						held = driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
					}
					e.together(goroutines, func(i int) {
						rng := e.random(i)
						for range max(1, cycles/goroutines) {
							switch pause := time.Duration(rng.IntN(50)) * time.Microsecond; rng.IntN(4) {
							case 0:
								time.Sleep(pause)
							case 1:
								runtime.Gosched()
							default:
								spin(pause / 4)
							}
							start := time.Now()
							var err error
							switch rng.IntN(8) {
							case 0: // the way of plain calls
								op := ops.Nop()
								op.Route = ops.RouteCall
								err = do(e, d, op).Err
							case 1:
								d.Stats()
							case 2:
								op := ops.Statx(unix.AT_FDCWD, "/", 0, unix.STATX_MODE, new(unix.Statx_t))
								op.Route = ops.RouteCall
								err = do(e, d, op).Err
							default:
								err = do(e, d, ops.Nop()).Err
							}
							if err != nil {
								e.Error(err)
							}
							if took := int64(time.Since(start)); took > slowest.Load() {
								slowest.Store(took)
							}
						}
					})
					if held != nil {
						held.Cancel()
						result(e, held)
					}
					e.shut(d)
				}
			}
		}
		worst, late := time.Duration(slowest.Load()), delays()
		e.Logf("%d cycles, at most %v", cycles*3*3*2, worst)
		if worst-late > time.Second {
			e.Errorf("an operation took %v, on a machine that was %v late in all", worst, late)
		}
	})
}

// Everything that a driver has to notice while it sleeps: requests, cancellations, ends of contexts, its own end.
func TestWakers(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		r, w := e.pipe()
		for round := range size(20, 1000) {
			d := e.open(driver.Config{})
			read := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
			pending(e, read)
			start, delays := time.Now(), testenv.Delays()
			switch round % 6 {
			case 0:
				must(e, d, ops.Nop())
			case 1:
				read.Cancel()
				result(e, read)
			case 2:
				ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
				if r := read.Wait(ctx); !errors.Is(r.Err, os.ErrDeadlineExceeded) {
					e.Error(r.Err)
				}
				cancel()
			case 3:
				e.write(w, []byte{1})
				result(e, read)
			case 4:
				d.Poke()
				d.Stats()
			case 5:
				op := ops.Statx(unix.AT_FDCWD, "/", 0, unix.STATX_MODE, new(unix.Statx_t))
				op.Route = ops.RouteCall
				must(e, d, op)
			}
			e.shut(d)
			if took, late := time.Since(start), delays(); took-late > 2*time.Second {
				e.Errorf("round %d took %v, on a machine that was %v late", round, took, late)
			}
			if r := read.Wait(context.Background()); r.Err != driver.ErrClosed && r.Err != nil && !driver.IsCanceled(r.Err) {
				e.Errorf("round %d: %+v", round, r)
			}
		}
	})
}

// processorTime is what this process has used.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// idleVar says to a process of TestIdle what it has.
const idleVar = "URINGO_TEST_IDLE"

// beIdle sleeps for as many nanoseconds as every line of standard input says, and says how much processor time that took and how often
// the driver has entered the kernel meanwhile.
func beIdle(t *testing.T, enters func() uint64) {
	runtime.GC()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		while, err := strconv.ParseInt(in.Text(), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		entered, used := enters(), processorTime(t)
		time.Sleep(time.Duration(while))
		used = processorTime(t) - used
		fmt.Println(int64(used), enters()-entered)
	}
}

// idler starts a process that does nothing with what it has, and returns what begins a measurement of it and what gives the result.
func idler(t *testing.T, with string) (begin func(while time.Duration), end func() (used time.Duration, enters uint64)) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")
	cmd.Env = testenv.Environ(idleVar + "=" + with)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewReader(out)
	begin = func(while time.Duration) {
		if _, err := fmt.Fprintln(in, int64(while)); err != nil {
			t.Error(err)
		}
	}
	return begin, func() (used time.Duration, enters uint64) {
		line, err := lines.ReadString('\n')
		if err == nil {
			_, err = fmt.Sscan(line, (*int64)(&used), &enters)
		}
		if err != nil || used <= 0 {
			t.Errorf("the idle process says %q: %v", line, err)
		}
		return used, enters
	}
}

// A driver with nothing to do does nothing, whether it waits for a request or for an operation. What a Go program uses that only sleeps depends on
// the machine, and on what else is going on there; so one sleeps beside it. Both are processes of their own, as other tests leave the Go
// runtime something to do. It has its own affairs now and then, too, which are less of a longer while.
func TestIdle(t *testing.T) {
	ways := []way{onUring, onPortable, onLocked, onLockedPortable}
	const nothing, driverAlone, operation = "nothing", "a driver", "an operation in flight"
	switch with := os.Getenv(idleVar); with {
	case nothing:
		beIdle(t, func() uint64 { return 0 })
		return
	case driverAlone, operation:
		on(t, ways, func(e *rig) {
			d := e.open(driver.Config{})
			r, w := e.pipe()
			must(e, d, ops.Nop())
			var read *driver.Pending[[]byte]
			if with == operation {
				read = driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
				pending(e, read)
			}
			beIdle(e.T, func() uint64 { return d.Stats().Enters })
			if read != nil {
				e.write(w, []byte{1})
				result(e, read)
			}
			e.shut(d)
		})
		return
	}
	beginNothing, endNothing := idler(t, nothing)
	on(t, ways, func(e *rig) {
		for _, with := range []string{driverAlone, operation} {
			begin, end := idler(e.T, with)
			const most = 0.5 // percent
			least := 100.0
			for while := 400 * time.Millisecond; least > most && while < 10*time.Second; while *= 2 {
				beginNothing(while)
				begin(while)
				used, n := end()
				without, _ := endNothing()
				least = min(least, 100*float64(used-without)/float64(while))
				e.Logf("%s; in %v: %d enters, at least %.2f %% of processor time more than without", with, while, n, least)
				if n > 2 { // asking takes one
					e.Errorf("%d enters", n)
				}
			}
			if least > most {
				e.Errorf("%.2f %% of processor time more than without", least)
			}
		}
	})
}

// blocked returns how many tasks of the machine wait for input or output right now, as the load of a machine is reckoned.
func blocked(t testing.TB) int {
	t.Helper()
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Skip(err)
	}
	_, rest, _ := strings.Cut(string(stat), "procs_blocked ")
	n, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// leastBlocked is the least that blocked returned in a while, or what is little enough: what others do for a moment does not count.
func leastBlocked(t testing.TB, while time.Duration, enough int) int {
	t.Helper()
	least := blocked(t)
	for begun := time.Now(); least > enough && time.Since(begun) < while; {
		time.Sleep(3 * time.Millisecond)
		least = min(least, blocked(t))
	}
	return least
}

// A driver that waits for a read does not count as waiting for a disk: an idle service must not look like a machine under load.
func TestIdleIsNotIowait(t *testing.T) {
	const (
		featNoIowait  = 1 << 17
		enterNoIowait = 1 << 7
	)
	for _, honest := range []bool{true, false} {
		for _, locked := range []bool{false, true} {
			on(t, []way{{fmt.Sprintf("flag kept: %v, locked: %v", honest, locked), driver.Uring, nil}}, func(e *rig) {
				k := &kept{hooked: hooked{Kernel: ring.Linux()}}
				k.enter = func(fd int, submit, minComplete, flags uint32, arg *ring.WaitArg) (int, syscall.Errno) {
					if !honest {
						flags &^= enterNoIowait
					}
					return k.Kernel.Enter(fd, submit, minComplete, flags, arg)
				}
				cfg := driver.OnKernel(driver.Config{Engine: driver.Uring}, k)
				open := driver.Open
				if locked {
					open = func(cfg driver.Config) (*driver.Driver, error) { return driver.OpenGuest(cfg, idle{}) }
				}
				const moment = 300 * time.Millisecond
				others := leastBlocked(e, moment, 0)
				d := e.opened(open(cfg))
				if k.p.Features&featNoIowait == 0 {
					e.Skip("needs IORING_ENTER_NO_IOWAIT (Linux 6.15)")
				}
				r, _ := e.pipe()
				read := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
				pending(e, read)
				while := moment
				if honest { // others may have begun to wait meanwhile, and will have ended some time
					while = patience
				}
				n := leastBlocked(e, while, others)
				e.Logf("%d tasks wait for a disk, %d before", n, others)
				if honest && n > others {
					e.Errorf("%d tasks wait for a disk, %d before", n, others)
				}
				if !honest && n <= others {
					e.Logf("and this cannot be told from waiting without the flag")
				}
			})
		}
	}
}

// kept is a kernel that remembers what it was set up with.
type kept struct {
	hooked
	p ring.Params
}

func (k *kept) Setup(entries uint32, p *ring.Params) (int, error) {
	fd, err := k.Kernel.Setup(entries, p)
	k.p = *p
	return fd, err
}
