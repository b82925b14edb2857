package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"time"

	"uringo/bench/peers/internal/job"
)

// fio is the figure that the storage world knows: its io_uring engine, one job, plain buffers and files. It tells
// how much the device itself gives.
func fio() Contender {
	return Contender{
		Name:    "fio",
		Prepare: func(context.Context, string) error { return missing("fio") },
		Works:   map[string]Measure{job.Direct: runFio},
	}
}

func runFio(ctx context.Context, j job.Job) ([]job.Sample, error) {
	t := target(j)
	out, err := output(exec.CommandContext(ctx, "fio",
		"--name=floor", "--filename="+t.name, "--size="+strconv.FormatInt(t.size, 10), "--allow_file_create=0",
		"--rw=randread", "--bs=4k", "--direct=1", "--norandommap", "--ioengine=io_uring", "--iodepth="+strconv.Itoa(j.Tasks),
		"--time_based", "--runtime="+millis(j.Measure)+"ms", "--output-format=json"))
	if err != nil {
		return nil, err
	}
	s, err := parseFio(out)
	s.Work = j.Work
	return []job.Sample{s}, err
}

// parseFio reads the figures of the only job in fio's report.
func parseFio(report []byte) (job.Sample, error) {
	var r struct {
		Jobs []struct {
			Error int
			Read  struct {
				Total   int64 `json:"total_ios"`
				Runtime int64 `json:"runtime"` // ms
			}
			User   float64 `json:"usr_cpu"` // percent of the runtime
			System float64 `json:"sys_cpu"`
		}
	}
	if err := json.Unmarshal(report, &r); err != nil {
		return job.Sample{}, fmt.Errorf("fio's report: %w", err)
	}
	if len(r.Jobs) != 1 || r.Jobs[0].Error != 0 || r.Jobs[0].Read.Runtime == 0 {
		return job.Sample{}, fmt.Errorf("fio's report has no good job: %+v", r)
	}
	one := r.Jobs[0]
	elapsed := time.Duration(one.Read.Runtime) * time.Millisecond
	return job.Sample{
		Ops:     one.Read.Total,
		Elapsed: elapsed,
		CPU:     time.Duration(float64(elapsed) * (one.User + one.System) / 100),
		Allocs:  job.NotCounted,
		Threads: job.NotCounted,
	}, nil
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
