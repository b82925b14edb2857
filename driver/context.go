package driver

import "context"

type contextKey struct{}

// ContextKey is the key under which a context answers Value with its *Driver. It lets an executor's own contexts carry one.
var ContextKey any = contextKey{}

// NewContext returns a context that carries d, so that the packages fs and net work from plain goroutines:
//
//	ctx = driver.NewContext(ctx, d)
//	f, err := fs.Open(ctx, name)
func NewContext(ctx context.Context, d *Driver) context.Context {
	return context.WithValue(ctx, ContextKey, d)
}

// FromContext returns the driver that ctx carries, or ErrNoDriver.
func FromContext(ctx context.Context) (*Driver, error) {
	if d, ok := ctx.Value(ContextKey).(*Driver); ok && d != nil {
		return d, nil
	}
	return nil, ErrNoDriver
}
