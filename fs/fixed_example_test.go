package fs_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"uringo/buf"
	"uringo/executor"
	"uringo/fs"
)

// A pool of buffers that the kernel keeps ready, and a file written and read with them.
func ExampleFile_ReadFixedAt() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	pool, err := buf.NewPool(buf.PoolConfig{Classes: []buf.Class{{Size: 64 << 10, Count: 16}}})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	err = executor.Start(context.Background(), func(ctx context.Context) error {
		f, err := fs.Create(ctx, filepath.Join(dir, "greeting"))
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		b, err := pool.Get(ctx, 5) // waits if all are in use
		if err != nil {
			return err
		}
		defer b.Release()
		copy(b.Bytes(), "hello")
		if _, b, err = f.WriteFixedAt(ctx, b, 0); err != nil {
			return err
		}
		n, b, err := f.ReadFixedAt(ctx, b.View(0, 100), 1)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", b.Bytes()[:n])
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: ello
}
