package copier

import (
	"context"
	"os"
	"sync"

	"uringo/fs"
)

// locks are the modes of directories that forbade their owner to make names in them, until their copies are finished.
type locks struct {
	mu    sync.Mutex
	modes map[*folder]os.FileMode
}

func (l *locks) add(f *folder, mode os.FileMode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.modes == nil {
		l.modes = make(map[*folder]os.FileMode)
	}
	l.modes[f] = mode
}

func (l *locks) drop(f *folder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.modes, f)
}

// unlock lets us make names in a directory of ours that was there before and forbids that, as what an earlier copy made of a read-only one
// does. cp gets by without as long as it only writes to files that are there; here every file comes under a new name. The directory gets its
// source's mode in the end, in any case.
func (w *worker) unlock(ctx context.Context, f *folder, dir *fs.Dir) error {
	a, err := dirAttrs(ctx, dir)
	if err != nil {
		return err
	}
	if me := os.Geteuid(); me == 0 || int(a.uid) != me || a.perm()&0300 == 0300 {
		return nil
	}
	w.locks.add(f, fileMode(a.perm()))
	return dir.Chmod(ctx, ".", fileMode(a.perm()|0300))
}

// relock gives the directories that were not finished the modes that they had.
func (c *Copier) relock(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	for f, mode := range c.locks.modes {
		dir, err := c.handles.acquire(ctx, f)
		if err == nil {
			err = dir.Chmod(ctx, ".", mode)
			c.handles.release(ctx, f)
		}
		if err != nil {
			c.journal.fail(f.path(), err)
		}
	}
}
