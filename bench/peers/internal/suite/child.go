package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/peer"
)

// patience is how long a subprocess may take beyond its measured time. A contender that hangs must not hang the run.
const patience = 30 * time.Second

// Child runs in the subprocess: it measures the job and writes the samples.
func Child(ctx context.Context, encoded string, out io.Writer) error {
	var j job.Job
	if err := json.Unmarshal([]byte(encoded), &j); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	c, ok := peer.Find(j.Contender)
	if !ok {
		return fmt.Errorf("no contender %q", j.Contender)
	}
	measure, ok := c.Works[j.Work]
	if !ok {
		return fmt.Errorf("%s cannot do %s", j.Contender, j.Work)
	}
	if j.OwnNetwork {
		if err := furnish(); err != nil {
			return err
		}
	}
	samples, err := measure(ctx, j)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(samples)
}

// spawn measures the job in a fresh process of this very program. Its process group is killed as a whole, since
// some contenders start programs of their own.
func spawn(ctx context.Context, j job.Job) ([]job.Sample, error) {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if j.OwnNetwork = isolates(j.Work); j.OwnNetwork {
		attr.Cloneflags = syscall.CLONE_NEWNET
	}
	encoded, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, j.Warm+j.Measure+patience, fmt.Errorf("no answer %v after its time: hung", patience))
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", ChildFlag, string(encoded))
	cmd.SysProcAttr = attr
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.Env = append(os.Environ(), "GOMAXPROCS=", "GODEBUG=") // what the user set for himself would change the rows
	if err := startOn(cmd, j.Cores); err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: %.400s", err, bytes.TrimSpace(said.Bytes()))
	}
	var samples []job.Sample
	err = json.Unmarshal(out.Bytes(), &samples)
	return samples, err
}

// ChildFlag is the first argument of a subprocess; the job is the second.
const ChildFlag = "-measure"
