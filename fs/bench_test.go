package fs_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/testenv"
)

// work is something to measure: n times on each way to do it.
type work struct {
	name string
	op   fs.Operation
	os   func(b *testing.B, dir string) func(i int) error                                           // beside package os
	fs   func(b *testing.B, ctx context.Context, dir string) func(ctx context.Context, i int) error // by this package
}

const benchSize = 64 << 20

func benchFile(b *testing.B, dir string) string {
	name := filepath.Join(dir, "data")
	if err := os.WriteFile(name, make([]byte, benchSize), 0o644); err != nil {
		b.Fatal(err)
	}
	return name
}

func somewhere() int64 { return rand.Int64N(benchSize/4096) * 4096 }

// bufs has one buffer for each task.
func bufs(n int) [][]byte {
	list := make([][]byte, n)
	for i := range list {
		list[i] = make([]byte, 4096)
	}
	return list
}

const benchTasks = 64

func works() []work {
	return []work{
		{"read", fs.OpRead, func(b *testing.B, dir string) func(int) error {
			f, err := os.Open(benchFile(b, dir))
			if err != nil {
				b.Fatal(err)
			}
			list := bufs(benchTasks)
			return func(i int) error { _, err := f.ReadAt(list[i], somewhere()); return err }
		}, func(b *testing.B, ctx context.Context, dir string) func(context.Context, int) error {
			f, err := fs.Open(ctx, benchFile(b, dir))
			if err != nil {
				b.Error(err)
			}
			list := bufs(benchTasks)
			return func(ctx context.Context, i int) error { _, _, err := f.ReadAt(ctx, list[i], somewhere()); return err }
		}},
		{"write", fs.OpWrite, func(b *testing.B, dir string) func(int) error {
			f, err := os.OpenFile(benchFile(b, dir), os.O_RDWR, 0)
			if err != nil {
				b.Fatal(err)
			}
			list := bufs(benchTasks)
			return func(i int) error { _, err := f.WriteAt(list[i], somewhere()); return err }
		}, func(b *testing.B, ctx context.Context, dir string) func(context.Context, int) error {
			f, err := fs.OpenFile(ctx, benchFile(b, dir), os.O_RDWR, 0)
			if err != nil {
				b.Error(err)
			}
			list := bufs(benchTasks)
			return func(ctx context.Context, i int) error { _, _, err := f.WriteAt(ctx, list[i], somewhere()); return err }
		}},
		{"stat", fs.OpStat, func(b *testing.B, dir string) func(int) error {
			name := benchFile(b, dir)
			return func(int) error { _, err := os.Stat(name); return err }
		}, func(b *testing.B, ctx context.Context, dir string) func(context.Context, int) error {
			name := benchFile(b, dir)
			return func(ctx context.Context, i int) error { _, err := fs.Stat(ctx, name); return err }
		}},
		{"open", fs.OpOpen, func(b *testing.B, dir string) func(int) error {
			name := benchFile(b, dir)
			return func(int) error {
				f, err := os.Open(name)
				if err != nil {
					return err
				}
				return f.Close()
			}
		}, func(b *testing.B, ctx context.Context, dir string) func(context.Context, int) error {
			name := benchFile(b, dir)
			return func(ctx context.Context, i int) error {
				f, err := fs.Open(ctx, name)
				if err != nil {
					return err
				}
				return f.Close(ctx)
			}
		}},
		{"create", fs.OpCreate, func(b *testing.B, dir string) func(int) error {
			return func(i int) error {
				name := filepath.Join(dir, strconv.Itoa(i))
				f, err := os.Create(name)
				if err != nil {
					return err
				}
				if err := f.Close(); err != nil {
					return err
				}
				return os.Remove(name)
			}
		}, func(b *testing.B, ctx context.Context, dir string) func(context.Context, int) error {
			return func(ctx context.Context, i int) error {
				name := filepath.Join(dir, strconv.Itoa(i))
				f, err := fs.Create(ctx, name)
				if err != nil {
					return err
				}
				if err := f.Close(ctx); err != nil {
					return err
				}
				return fs.Remove(ctx, name)
			}
		}},
		{"readfile", fs.OpRead, func(b *testing.B, dir string) func(int) error {
			name := filepath.Join(dir, "small")
			if err := os.WriteFile(name, make([]byte, 4096), 0o600); err != nil {
				b.Fatal(err)
			}
			return func(int) error { _, err := os.ReadFile(name); return err }
		}, func(b *testing.B, ctx context.Context, dir string) func(context.Context, int) error {
			name := filepath.Join(dir, "small")
			if err := os.WriteFile(name, make([]byte, 4096), 0o600); err != nil {
				b.Error(err)
			}
			return func(ctx context.Context, i int) error { _, err := fs.ReadFile(ctx, name); return err }
		}},
		{"sync", fs.OpSync, func(b *testing.B, dir string) func(int) error {
			list := make([]*os.File, benchTasks)
			buf := make([]byte, 4096)
			for i := range list {
				list[i], _ = os.Create(filepath.Join(dir, strconv.Itoa(i)))
			}
			return func(i int) error {
				if _, err := list[i].WriteAt(buf, 0); err != nil {
					return err
				}
				return list[i].Sync()
			}
		}, func(b *testing.B, ctx context.Context, dir string) func(context.Context, int) error {
			list := make([]*fs.File, benchTasks)
			bs := bufs(benchTasks)
			for i := range list {
				list[i], _ = fs.Create(ctx, filepath.Join(dir, strconv.Itoa(i)))
			}
			return func(ctx context.Context, i int) error {
				if _, _, err := list[i].WriteAt(ctx, bs[i], 0); err != nil {
					return err
				}
				return list[i].SyncAll(ctx)
			}
		}},
	}
}

// BenchmarkRoutes measures every operation on every executor by every route, beside package os, with 1 and with 64 tasks.
//
//	go test ./fs -run '^$' -bench Routes/read
func BenchmarkRoutes(b *testing.B) {
	for _, w := range works() {
		for _, tasks := range []int{1, 8, benchTasks} {
			b.Run(fmt.Sprintf("%s/tasks=%d/os", w.name, tasks), func(b *testing.B) {
				do := w.os(b, b.TempDir())
				b.ReportAllocs()
				defer cpuTime(b)()
				done := make(chan error, tasks)
				for i := range tasks {
					go func() {
						for range share(b.N, tasks, i) {
							if err := do(i); err != nil {
								done <- err
								return
							}
						}
						done <- nil
					}()
				}
				for range tasks {
					if err := <-done; err != nil {
						b.Fatal(err)
					}
				}
			})
			for _, e := range []executor.Executor{executor.Goroutines(), executor.Workers(1), executor.Workers(2), executor.Local()} {
				for _, r := range []fs.Route{fs.Auto, fs.Inline, fs.Call, fs.Ring} {
					b.Run(fmt.Sprintf("%s/tasks=%d/%v/%v", w.name, tasks, e, r), func(b *testing.B) {
						defer fs.Pin(w.op, fs.Pin(w.op, r))
						if w.op == fs.OpCreate {
							defer fs.Pin(fs.OpRemove, fs.Pin(fs.OpRemove, r))
						}
						dir := b.TempDir()
						err := executor.Start(context.Background(), func(ctx context.Context) error {
							do := w.fs(b, ctx, dir)
							b.ReportAllocs()
							defer cpuTime(b)()
							return goAll(ctx, tasks, func(ctx context.Context, i int) error {
								for range share(b.N, tasks, i) {
									if err := do(ctx, i); err != nil {
										return err
									}
								}
								return nil
							})
						}, executor.WithExecutor(e), executor.WithDriver(driver.Config{Engine: testenv.Engines(b)[0]}))
						if err != nil {
							b.Fatal(err)
						}
					})
				}
			}
		}
	}
}

// cpuTime starts the measurement. The function it returns ends it and reports what the whole process spent, kernel included.
func cpuTime(b *testing.B) (stop func()) {
	used := func() int64 {
		var u unix.Rusage
		_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // cannot fail
		return u.Utime.Nano() + u.Stime.Nano()
	}
	start := used()
	b.ResetTimer()
	return func() {
		b.StopTimer()
		b.ReportMetric(float64(used()-start)/float64(b.N), "cpu-ns/op")
	}
}

// share is how many of n operations task i of several makes.
func share(n, tasks, i int) int { return n*(i+1)/tasks - n*i/tasks }
