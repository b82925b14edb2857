package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"uringo/fs"
)

// BenchmarkStat asks for a file whose inode is in memory.
func BenchmarkStat(b *testing.B) {
	name := filepath.Join(b.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		b.Fatal(err)
	}
	everywhere(b, []int{1, 64}, func(_ context.Context, _ int, repeat func(step) error) error {
		return repeat(func(ctx context.Context, _ int) error {
			_, err := fs.Stat(ctx, name)
			return err
		})
	})
}

// BenchmarkSmallFile creates a file of one block, reads it, and removes it; each task has a name of its own.
func BenchmarkSmallFile(b *testing.B) {
	dir := b.TempDir()
	data := make([]byte, block)
	everywhere(b, []int{1, 64}, func(_ context.Context, tasks int, repeat func(step) error) error {
		names := make([]string, tasks)
		for i := range names {
			names[i] = filepath.Join(dir, strconv.Itoa(i))
		}
		return repeat(func(ctx context.Context, task int) error {
			if err := fs.WriteFile(ctx, names[task], data, 0o644); err != nil {
				return err
			}
			got, err := fs.ReadFile(ctx, names[task])
			if err == nil && len(got) != len(data) {
				err = errors.New("read back less than was written")
			}
			return errors.Join(err, fs.Remove(ctx, names[task]))
		})
	})
}
