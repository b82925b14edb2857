package fs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"uringo/fs"
)

// A file in the ring's own table, and then one with a descriptor for what only that can do.
func ExampleOpenInRing() {
	start(func(ctx context.Context, dir string) error {
		f, err := fs.OpenInRing(ctx, filepath.Join(dir, "greeting"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		if _, _, err := f.WriteAt(ctx, []byte("hello, world"), 0); err != nil {
			return err
		}
		n, b, err := f.ReadAt(ctx, make([]byte, 5), 7)
		if err != nil {
			return err
		}
		g, err := f.Install(ctx)
		if err != nil {
			return err
		}
		defer g.Close(ctx)
		info, err := g.Stat(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("%s, the end of %d bytes\n", b[:n], info.Size())
		return nil
	})
	// Output: world, the end of 12 bytes
}
