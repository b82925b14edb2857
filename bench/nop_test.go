package bench

import (
	"context"
	"testing"

	"uringo/executor"
	"uringo/ops"
)

// BenchmarkNop is the cost of the way to the kernel and back, with nothing done there.
func BenchmarkNop(b *testing.B) {
	everywhere(b, []int{1, 8, 64, 512}, func(_ context.Context, _ int, repeat func(step) error) error {
		return repeat(func(ctx context.Context, _ int) error {
			return executor.Do(ctx, ops.Nop()).Err
		})
	})
}
