package peer

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// A runtime runs tasks.
type runtime interface {
	// run calls root with the runtime up, and takes the runtime down after it.
	run(ctx context.Context, tasks int, root func(ctx context.Context) error) error
	// each starts n tasks from inside root and waits for them.
	each(ctx context.Context, n int, task func(ctx context.Context, i int) error) error
}

// goroutines is the runtime of every peer written in plain Go: a goroutine per task.
type goroutines struct{}

func (goroutines) run(ctx context.Context, _ int, root func(ctx context.Context) error) error {
	return root(ctx)
}

func (goroutines) each(ctx context.Context, n int, task func(ctx context.Context, i int) error) error {
	var g errgroup.Group
	for i := range n {
		g.Go(func() error { return task(ctx, i) })
	}
	return g.Wait()
}
