package executor_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

// A task that performs one operation after the other while nothing else is to do leaves a turn to whoever comes: other tasks, other
// goroutines, cancellations. And it is not taken for one that holds its worker.
func TestAloneForLong(t *testing.T) {
	cooperative(t, func(w *world) {
		const limit = time.Second
		core, logs := observer.New(zapcore.WarnLevel)
		w.config.Logger = zap.New(core)
		w.ok(func(ctx context.Context) error {
			d, err := driver.FromContext(ctx)
			if err != nil {
				return err
			}
			var over atomic.Bool
			var turns, done atomic.Int32
			var others sync.WaitGroup
			busy := executor.GoHere(ctx, func(ctx context.Context) (n int, err error) {
				for ; !over.Load(); n++ {
					if err := nop(ctx); err != nil {
						return n, err
					}
					done.Add(1)
				}
				return n, nil
			})
			forever := executor.GoHere(ctx, task(forever))
			until := time.Now().Add(50 * time.Millisecond)
			if w.local {
				until = time.Now().Add(2 * limit)
			}
			others.Go(func() {
				plain := driver.NewContext(context.Background(), d)
				// On a busy machine the driver may have been held up for all that time. There is to be enough for it to be so for a moment more.
				late := func() bool { return done.Load() < turns.Load()+500 && time.Now().Before(until.Add(patience/4)) }
				for time.Now().Before(until) || turns.Load() == 0 || late() {
					if r := executor.Do(plain, ops.Nop()); r.Err != nil {
						w.Errorf("somebody else's operation: %v", r.Err)
					}
					time.Sleep(time.Millisecond)
				}
				over.Store(true)
			})
			for !over.Load() {
				if err := executor.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
				turns.Add(1)
			}
			forever.Abort()
			if _, err := forever.Join(ctx); !errors.Is(err, context.Canceled) {
				w.Errorf("the aborted task ended with %v", err)
			}
			n, err := busy.Join(ctx)
			if n < int(turns.Load()) {
				w.Errorf("%d operations, %d turns of another", n, turns.Load())
			}
			others.Wait()
			return err
		}, executor.WithStallAfter(limit))
		for _, e := range logs.FilterMessage("a task holds its worker").All() {
			w.Errorf("a stall: %v", e.ContextMap())
		}
	})
}
