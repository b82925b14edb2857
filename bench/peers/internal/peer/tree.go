package peer

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/meter"
	"uringo/bench/peers/internal/testdir"
)

// A treeRuntime runs tasks that work on whole files by name.
type treeRuntime interface {
	runtime
	stat(ctx context.Context, name string) error
	writeFile(ctx context.Context, name string, data []byte) error
	readFile(ctx context.Context, name string) error
	remove(ctx context.Context, name string) error
}

// warmStat stats the same few files again and again.
func warmStat(rt treeRuntime) Measure {
	return func(ctx context.Context, j job.Job) ([]job.Sample, error) {
		var names [testdir.StatFiles]string
		for i := range names {
			names[i] = testdir.StatFile(j.Dir, i)
		}
		s, err := meter.Steady(j, j.Tasks, func(m *meter.Meter) error {
			return rt.run(ctx, j.Tasks, func(ctx context.Context) error {
				return rt.each(ctx, j.Tasks, func(ctx context.Context, i int) error {
					return m.Loop(func() (int, error) {
						i++
						return 1, rt.stat(ctx, names[i%len(names)])
					})
				})
			})
		})
		return []job.Sample{s}, err
	}
}

// filesPerSecond makes each of the three small-file works last some tenths of the asked time on a common disk.
const filesPerSecond = 16384

// smallFiles creates a number of files of one block, reads them all, and removes them all. The number is fixed, not the time:
// a removal needs a file that a creation made.
func smallFiles(rt treeRuntime) Measure {
	return func(ctx context.Context, j job.Job) ([]job.Sample, error) {
		perTask := max(1, int(filesPerSecond*j.Measure/time.Second)/j.Tasks)
		dir, err := testdir.NewSmall(j.Dir)
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		names := smallNames(dir, j.Tasks, perTask)
		data := make([]byte, testdir.Block)
		steps := []struct {
			work string
			do   func(ctx context.Context, name string) error
		}{
			{job.Create, func(ctx context.Context, name string) error { return rt.writeFile(ctx, name, data) }},
			{job.Read, rt.readFile},
			{job.Unlink, rt.remove},
		}
		var samples []job.Sample
		err = rt.run(ctx, j.Tasks, func(ctx context.Context) error {
			for _, step := range steps {
				s, err := meter.Whole(step.work, int64(perTask*j.Tasks), func() error {
					return rt.each(ctx, j.Tasks, func(ctx context.Context, i int) error {
						for _, name := range names[i] {
							if err := step.do(ctx, name); err != nil {
								return err
							}
						}
						return nil
					})
				})
				if err != nil {
					return err
				}
				samples = append(samples, s)
			}
			return nil
		})
		return samples, err
	}
}

// smallNames are made before the clock starts: building strings is nobody's file system.
func smallNames(dir string, tasks, perTask int) [][]string {
	names := make([][]string, tasks)
	for task := range names {
		for i := range perTask {
			names[task] = append(names[task], filepath.Join(dir, strconv.Itoa(task)+"-"+strconv.Itoa(i)))
		}
	}
	return names
}
