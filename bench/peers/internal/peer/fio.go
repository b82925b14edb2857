package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"time"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/testdir"
)

// fio is the figure that the storage world knows: its io_uring engine, one job, plain buffers and files. It tells
// how much the device itself gives.
func fio() Contender {
	return Contender{
		Name:    "fio",
		Prepare: func(context.Context, string) error { return missing("fio") },
		Works: map[string]Measure{
			job.Direct:            runFio,
			job.Flood:             runFio,
			job.StreamReadDirect:  streamFio("read"),
			job.StreamWriteDirect: streamFio("write"),
		},
	}
}

func runFio(ctx context.Context, j job.Job) ([]job.Sample, error) {
	t := target(j)
	out, err := output(exec.CommandContext(ctx, "fio",
		"--name=floor", "--filename="+t.name, "--size="+strconv.FormatInt(t.size, 10), "--allow_file_create=0",
		"--rw=randread", "--bs=4k", "--direct=1", "--norandommap", "--ioengine=io_uring", "--iodepth="+strconv.Itoa(min(j.Tasks, fioDepth)),
		"--time_based", "--runtime="+millis(j.Measure)+"ms", "--output-format=json"))
	if err != nil {
		return nil, err
	}
	s, err := parseFio(out)
	s.Work = j.Work
	return []job.Sample{s}, err
}

// fioDepth is more than a device has room for, and no more than fio can have in flight.
const fioDepth = 1024

// streamFio reads or writes the file of the streams once, in blocks as they do.
func streamFio(verb string) Measure {
	return func(ctx context.Context, j job.Job) ([]job.Sample, error) {
		name := testdir.Direct(j.Dir)
		args := []string{"--allow_file_create=0"}
		if verb == "write" {
			name = testdir.Stream(j.Dir)
			args = append(args, "--end_fsync=1", "--overwrite=1")
		}
		out, err := output(exec.CommandContext(ctx, "fio", append(args,
			"--name=stream", "--filename="+name, "--size="+strconv.Itoa(testdir.DirectSize), "--rw="+verb,
			"--bs="+strconv.Itoa(streamBlock), "--direct=1", "--ioengine=io_uring", "--iodepth="+strconv.Itoa(streamDepth),
			"--output-format=json")...))
		if err != nil {
			return nil, err
		}
		s, err := parseFio(out)
		s.Work, s.Ops = j.Work, s.Ops*streamBlock>>20
		return []job.Sample{s}, err
	}
}

// fioReport is what we read of fio's report.
type fioReport struct {
	Jobs []fioJob
}

type fioJob struct {
	Error  int
	Read   fioSide
	Write  fioSide
	User   float64 `json:"usr_cpu"` // percent of the runtime
	System float64 `json:"sys_cpu"`
}

type fioSide struct {
	Total   int64 `json:"total_ios"`
	Runtime int64 `json:"runtime"` // ms
}

// side is what the job did: it either reads or writes.
func (j fioJob) side() fioSide {
	if j.Read.Total == 0 {
		return j.Write
	}
	return j.Read
}

// parseFio reads the figures of the only job in fio's report.
func parseFio(report []byte) (job.Sample, error) {
	var r fioReport
	if err := json.Unmarshal(report, &r); err != nil {
		return job.Sample{}, fmt.Errorf("fio's report: %w", err)
	}
	if len(r.Jobs) != 1 || r.Jobs[0].Error != 0 || r.Jobs[0].side().Runtime == 0 {
		return job.Sample{}, fmt.Errorf("fio's report has no good job: %+v", r)
	}
	one := r.Jobs[0]
	elapsed := time.Duration(one.side().Runtime) * time.Millisecond
	return job.Sample{
		Ops:     one.side().Total,
		Elapsed: elapsed,
		CPU:     time.Duration(float64(elapsed) * (one.User + one.System) / 100),
		Allocs:  job.NotCounted,
		Threads: job.NotCounted,
	}, nil
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
