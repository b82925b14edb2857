package peer

import (
	"context"
	"os/exec"
	"time"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/testdir"
)

// cp is the program. Its row includes starting a process, about a millisecond.
func cp() Contender {
	return Contender{
		Name:    "cp",
		Prepare: func(context.Context, string) error { return missing("cp") },
		Works:   map[string]Measure{job.Copy: runCp},
	}
}

func runCp(ctx context.Context, j job.Job) ([]job.Sample, error) {
	cmd := exec.CommandContext(ctx, "cp", testdir.Cached(j.Dir), testdir.CopyTarget(j.Dir))
	at := time.Now()
	if _, err := output(cmd); err != nil {
		return nil, err
	}
	return []job.Sample{{
		Work:    j.Work,
		Ops:     testdir.CachedSize >> 20,
		Elapsed: time.Since(at),
		CPU:     cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
		Allocs:  job.NotCounted,
		Threads: job.NotCounted,
	}}, nil
}
