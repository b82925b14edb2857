package executor

import (
	"context"

	"uringo/driver"
)

// Next returns the next item of a stream, like the stream's own Next, and waits in the way of ctx's executor: other tasks run meanwhile.
// It allocates nothing. The stream must be of ctx's driver.
func Next[T any](ctx context.Context, s *driver.Stream[T]) (T, error) {
	if ctx.Err() != nil {
		var zero T
		return zero, driver.Canceled(ctx) // also of a stream that always has something
	}
	for {
		if v, err, ok := s.Take(); ok {
			return v, err
		}
		if r := Do(ctx, s.Ready()); r.Err != nil && s.Err() == nil {
			var zero T
			return zero, r.Err
		}
	}
}
