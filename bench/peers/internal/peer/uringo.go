package peer

import (
	"context"
	iofs "io/fs"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/ops"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/meter"
)

// uringos are the product's rows, one for each executor.
func uringos() []Contender {
	var all []Contender
	for _, e := range executors() {
		all = append(all, uringo(e.name, e.exec))
	}
	return all
}

// uringosAlone are what the product's rows are compared with where they have something beside them.
func uringosAlone() []Contender {
	var all []Contender
	for _, e := range executors() {
		all = append(all, Contender{Name: e.name + "-alone", Works: map[string]Measure{job.Beside: beside(uringoRuntime{e.exec}, false)}})
	}
	return all
}

// A namedExecutor is made for a number of tasks.
type namedExecutor struct {
	name string
	exec func(tasks int) executor.Executor
}

func executors() []namedExecutor {
	return []namedExecutor{
		{"local", func(int) executor.Executor { return executor.Local() }},
		{"workers1", func(int) executor.Executor { return executor.Workers(1) }},
		{"workers4", func(int) executor.Executor { return executor.Workers(4) }},
		{"goroutines", func(int) executor.Executor { return executor.Goroutines() }},
		{"pool", executor.Pool},
	}
}

func uringo(name string, exec func(tasks int) executor.Executor) Contender {
	rt := uringoRuntime{exec}
	return Contender{Name: name, Works: map[string]Measure{
		job.Nop:    rt.nop,
		job.Cached: randomIO(rt),
		job.Direct: randomIO(rt),
		job.Write:  randomIO(rt),
		job.Stat:   warmStat(rt),
		job.Small:  smallFiles(rt),
		job.Copy:   blockCopy(rt),

		job.StreamRead:        stream(rt),
		job.StreamReadDirect:  stream(rt),
		job.StreamWrite:       stream(rt),
		job.StreamWriteDirect: stream(rt),
		job.WalkCold:          walkTree(rt),
		job.WalkWarm:          walkTree(rt),
		job.FilesCold:         readFiles(rt),
		job.FilesWarm:         readFiles(rt),
		job.Flood:             flood(rt),
		job.Beside:            beside(rt, true),

		job.Echo:      underLoad(rt.echo),
		job.Pipelined: underLoad(rt.echo),
		job.Accept:    underLoad(rt.echo),
		job.Hello:     underLoad(rt.hello),
		job.SendFile:  underLoad(rt.sendFile),
	}}
}

type uringoRuntime struct {
	exec func(tasks int) executor.Executor
}

func (rt uringoRuntime) run(ctx context.Context, tasks int, root func(ctx context.Context) error) error {
	return executor.Start(ctx, root,
		executor.WithExecutor(rt.exec(tasks)),
		executor.WithDriver(driver.Config{Entries: ringEntries}))
}

func (rt uringoRuntime) each(ctx context.Context, n int, task func(ctx context.Context, i int) error) error {
	handles := make([]*executor.JoinHandle[struct{}], n)
	for i := range handles {
		handles[i] = executor.Go(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, task(ctx, i) })
	}
	var failed error
	for _, h := range handles {
		_, err := h.Join(ctx)
		failed = firstError(failed, err)
	}
	return failed
}

func (rt uringoRuntime) nop(ctx context.Context, j job.Job) ([]job.Sample, error) {
	n := inRow(j)
	s, err := meter.Steady(j, j.Tasks, func(m *meter.Meter) error {
		return rt.run(ctx, j.Tasks, func(ctx context.Context) error {
			return rt.each(ctx, j.Tasks, func(ctx context.Context, _ int) error {
				return m.Loop(func() (int, error) {
					for range n {
						if err := executor.Do(ctx, ops.Nop()).Err; err != nil {
							return 0, err
						}
					}
					return n, nil
				})
			})
		})
	})
	return []job.Sample{s}, err
}

func (uringoRuntime) open(ctx context.Context, name string, flag int) (blockFile, error) {
	f, err := fs.OpenFile(ctx, name, flag, 0o644)
	return uringoFile{f}, err
}

func (uringoRuntime) stat(ctx context.Context, name string) error {
	_, err := fs.Stat(ctx, name)
	return err
}

func (uringoRuntime) writeFile(ctx context.Context, name string, data []byte) error {
	return fs.WriteFile(ctx, name, data, 0o644)
}

func (uringoRuntime) readFile(ctx context.Context, name string) error {
	_, err := fs.ReadFile(ctx, name)
	return err
}

func (uringoRuntime) remove(ctx context.Context, name string) error { return fs.Remove(ctx, name) }

func (uringoRuntime) walk(ctx context.Context, root string, each iofs.WalkDirFunc) error {
	return fs.Walker{Stat: true}.WalkDir(ctx, root, each)
}

// pulse goes through the driver and back.
func (uringoRuntime) pulse(ctx context.Context) error { return executor.Do(ctx, ops.Nop()).Err }

// uringoFile drops the buffer that comes back: it is the one that went in, and no measurement abandons an operation.
type uringoFile struct{ f *fs.File }

func (f uringoFile) readAt(ctx context.Context, b []byte, off int64) (int, error) {
	n, _, err := f.f.ReadAt(ctx, b, off)
	return n, err
}

func (f uringoFile) writeAt(ctx context.Context, b []byte, off int64) (int, error) {
	n, _, err := f.f.WriteAt(ctx, b, off)
	return n, err
}

func (f uringoFile) close(ctx context.Context) error { return f.f.Close(ctx) }
