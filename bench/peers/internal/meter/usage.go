package meter

import (
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"uringo/bench/peers/internal/job"
)

// A mark is the state of the process's accounts at the start of the measured time.
type mark struct {
	mallocs uint64
	cpu     time.Duration
	at      time.Time
}

// start reads the costliest account first and the clock last; stop goes the other way round. So neither the world
// stop of ReadMemStats nor reading /proc counts as the contender's. On one processor the scheduler likes to use that
// stop to put the tasks first, for as long as all of them want: such a mark has its accounts from different times,
// and another is taken.
func start() mark {
	var m mark
	for range 10 {
		asked := time.Now()
		m = mark{mallocs: mallocs(), cpu: cpu(), at: time.Now()}
		if m.at.Sub(asked) < time.Millisecond {
			break
		}
	}
	return m
}

func (m mark) stop(work string) job.Sample {
	s := job.Sample{Work: work, Elapsed: time.Since(m.at)}
	s.CPU = cpu() - m.cpu
	s.Allocs = int64(mallocs() - m.mallocs)
	s.Threads = threads()
	return s
}

func mallocs() uint64 {
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	return ms.Mallocs
}

// A Server is a process that serves and does not measure itself.
type Server struct {
	Pid int // 0 for this process
	at  mark
}

// Start begins the measured time.
func (s *Server) Start() error {
	s.at = start()
	if s.Pid == 0 {
		return nil
	}
	var err error
	s.at.cpu, err = s.cpu()
	return err
}

// Stop ends it, after a load that counts for itself.
func (s *Server) Stop(work string, ops int64, elapsed time.Duration) (job.Sample, error) {
	one := s.at.stop(work)
	one.Ops, one.Elapsed = ops, elapsed
	if s.Pid == 0 {
		return one, nil
	}
	used, err := s.cpu()
	one.CPU = used - s.at.cpu
	one.Allocs, one.Threads = job.NotCounted, job.NotCounted
	return one, err
}

// cpu reads the processor time clock of a process, as clock_getcpuclockid(3) finds it.
func (s *Server) cpu() (time.Duration, error) {
	const cpuclockSched = 2
	var ts unix.Timespec
	err := unix.ClockGettime(int32(^s.Pid)<<3|cpuclockSched, &ts)
	return time.Duration(ts.Nano()), err
}

// cpu includes the kernel's io-wq workers: they are threads of this process.
func cpu() time.Duration {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		panic(err) // it fails only on a bad argument
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func threads() int {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return job.NotCounted
	}
	return len(tasks)
}
