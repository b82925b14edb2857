package peer

import (
	"context"
	"fmt"

	"uringo/buf"
	"uringo/fs"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/meter"
	"uringo/bench/peers/internal/testdir"
)

// uringosFixed are rows of the product that read into registered buffers, from a file in the ring's table.
func uringosFixed() []Contender {
	var all []Contender
	for _, e := range executors() {
		all = append(all, Contender{Name: e.name + "-fixed", Works: map[string]Measure{job.Direct: uringoRuntime{e.exec}.fixedIO}})
	}
	return all
}

// fixedIO is randomIO in this form.
func (rt uringoRuntime) fixedIO(ctx context.Context, j job.Job) ([]job.Sample, error) {
	t := target(j)
	buffers, err := buf.NewTable(j.Tasks, testdir.Block, testdir.Block)
	if err != nil {
		return nil, err
	}
	s, err := meter.Steady(j, j.Tasks, func(m *meter.Meter) error {
		return rt.run(ctx, j.Tasks, func(ctx context.Context) error {
			f, err := fs.OpenInRing(ctx, t.name, t.flag, 0)
			if err != nil {
				return err
			}
			if !f.InRing() {
				return fmt.Errorf("%s is not in the ring's table", t.name)
			}
			err = rt.each(ctx, j.Tasks, func(ctx context.Context, i int) error {
				b, err := buffers.Take(i)
				if err != nil {
					return err
				}
				defer b.Release()
				next := offsets(i, t.size)
				return m.Loop(func() (int, error) {
					n, _, err := f.ReadFixedAt(ctx, b, next())
					if err == nil && n != testdir.Block {
						err = fmt.Errorf("%s: moved %d of %d bytes", t.name, n, testdir.Block)
					}
					return 1, err
				})
			})
			return firstError(err, f.Close(ctx))
		})
	})
	return []job.Sample{s}, firstError(err, buffers.Close())
}
