package peer

import (
	"context"
	"fmt"
	"io/fs"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/meter"
	"uringo/bench/peers/internal/testdir"
)

// A walkRuntime walks trees, in a way in which the entries are soon described.
type walkRuntime interface {
	runtime
	walk(ctx context.Context, root string, each fs.WalkDirFunc) error
}

// wholly measures do from its first to its last instruction, with the runtime up.
func wholly(rt runtime, ops int64, do func(ctx context.Context, j job.Job) error) Measure {
	return func(ctx context.Context, j job.Job) ([]job.Sample, error) {
		var s job.Sample
		err := rt.run(ctx, j.Tasks, func(ctx context.Context) (err error) {
			s, err = meter.Whole(j.Work, ops, func() error { return do(ctx, j) })
			return err
		})
		return []job.Sample{s}, err
	}
}

// walkTree walks the tree and asks for every file's description.
func walkTree(rt walkRuntime) Measure {
	return wholly(rt, testdir.TreeFiles, func(ctx context.Context, j job.Job) error {
		files := 0
		err := rt.walk(ctx, testdir.Tree(j.Dir), func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if !d.IsDir() {
				files++
			}
			_, err = d.Info()
			return err
		})
		if err == nil && files != testdir.TreeFiles {
			err = fmt.Errorf("found %d files of %d", files, testdir.TreeFiles)
		}
		return err
	})
}

// readFiles reads the small files, each task its share.
func readFiles(rt treeRuntime) Measure {
	return wholly(rt, testdir.SmallFiles, func(ctx context.Context, j job.Job) error {
		return rt.each(ctx, j.Tasks, func(ctx context.Context, i int) error {
			for ; i < testdir.SmallFiles; i += j.Tasks {
				if err := rt.readFile(ctx, testdir.SmallFile(j.Dir, i)); err != nil {
					return err
				}
			}
			return nil
		})
	})
}
