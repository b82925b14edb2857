package testenv

import (
	"errors"
	"io"
	"os"
	"runtime/pprof"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Storm has signals interrupt every thread, see [Signals], a profiler do so too, and all threads make system calls. The returned function ends it, and
// says how many signals there were, how many to each thread, and how many calls of all.
func Storm(t *testing.T) (end func() (signals, passes, calls int)) {
	stop := make(chan struct{})
	var raging sync.WaitGroup
	calls := 0
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		t.Error(err)
	}
	every := unix.Itimerval{Interval: unix.NsecToTimeval(2e6), Value: unix.NsecToTimeval(2e6)} // more often than the profiler
	if _, err := unix.Setitimer(unix.ITIMER_PROF, every); err != nil {
		t.Error(err)
	}
	raging.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			switch _, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPPID, 0, 0, 0); errno {
			case 0:
				calls++
			case syscall.ENOTSUP: // with cgo, which the race detector needs
				return
			default:
				t.Error(errors.New("a call of all threads: " + errno.Error()))
				return
			}
		}
	})
	signalled := Signals(t)
	return func() (int, int, int) {
		signals, passes := signalled()
		close(stop)
		raging.Wait()
		if _, err := unix.Setitimer(unix.ITIMER_PROF, unix.Itimerval{}); err != nil {
			t.Error(err)
		}
		pprof.StopCPUProfile()
		return signals, passes, calls
	}
}

// Signals sends signals to every thread thousands of times a second. The returned function ends it, and says how many there were, and how many to
// each thread.
func Signals(t testing.TB) (end func() (signals, passes int)) {
	stop := make(chan struct{})
	var sending sync.WaitGroup
	signals, passes := 0, 0
	sending.Go(func() {
		for {
			tasks, err := os.ReadDir("/proc/self/task")
			if err != nil {
				t.Error(err)
				return
			}
			for range 10 { // of the same threads: to list them takes longer than to signal to them
				for _, task := range tasks {
					tid, _ := strconv.Atoi(task.Name())
					_ = unix.Tgkill(os.Getpid(), tid, unix.SIGURG) // it may have ended
					signals++
				}
				passes++
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Microsecond):
				}
			}
		}
	})
	return func() (int, int) {
		close(stop)
		sending.Wait()
		return signals, passes
	}
}
