package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"uringo/executor"
	"uringo/fs"
)

func TestCrew(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	var now, most atomic.Int32
	err := executor.Start(context.Background(), func(ctx context.Context) error {
		var tasks []*executor.JoinHandle[int64]
		for range 50 {
			tasks = append(tasks, executor.Go(ctx, func(ctx context.Context) (int64, error) {
				n := now.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				time.Sleep(100 * time.Microsecond)
				now.Add(-1)

				// Waiting for other tasks and for operations lets others work, so this cannot run dry.
				info, err := executor.Go(ctx, func(ctx context.Context) (os.FileInfo, error) { return fs.Stat(ctx, name) }).Join(ctx)
				if err != nil {
					return 0, err
				}
				return info.Size(), executor.Sleep(ctx, time.Millisecond)
			}))
		}
		for _, task := range tasks {
			if n, err := task.Join(ctx); n != 5 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		}
		_, err := executor.Go(ctx, func(context.Context) (int, error) { runtime.Goexit(); return 0, nil }).Join(ctx)
		if !errors.Is(err, executor.ErrGoexit) {
			t.Error(err)
		}
		return sizes(ctx, []string{name})
	}, executor.WithExecutor(Crew(3)))
	if err != nil {
		t.Error(err)
	}
	if m := most.Load(); m > 3 {
		t.Errorf("%d at once", m)
	}
}
