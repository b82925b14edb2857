package fs_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/ops"
)

// TestCloseBroken closes files when there is no driver any more that would, also on what was its own thread.
func TestCloseBroken(t *testing.T) {
	if testenv.Engines(t)[0] != driver.Uring {
		t.Skip("needs io_uring")
	}
	defer fs.Pin(fs.OpClose, fs.Pin(fs.OpClose, fs.Ring))
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, e := range executors() {
		t.Run(e.String(), func(t *testing.T) {
			before := len(testenv.Descriptors(t))
			m := &testenv.Mortal{Kernel: ring.Linux()}
			_ = executor.Start(context.Background(), func(ctx context.Context) error { // it says that the driver broke
				var files [2]*fs.File
				for i := range files {
					var err error
					if files[i], err = fs.Open(ctx, name); err != nil {
						t.Error(err)
						return nil
					}
				}
				m.Kill()
				for executor.Do(ctx, ops.Nop()).Err == nil {
				}
				for i, ctx := range []context.Context{ctx, context.Background()} {
					if err := files[i].Close(ctx); err != nil {
						t.Error(err)
					}
				}
				return nil
			}, executor.WithExecutor(e), executor.WithDriver(driver.OnKernel(driver.Config{Engine: driver.Uring}, m)))
			m.Bury(t)
			if after := len(testenv.Descriptors(t)); after != before {
				t.Errorf("%d descriptors are open, not %d", after, before)
			}
		})
	}
}
