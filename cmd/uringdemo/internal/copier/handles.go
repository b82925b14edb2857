package copier

import (
	"container/list"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"uringo/fs"
)

// A folder is a directory that the copy reads from or writes to. It is open while somebody uses it, and closed and opened again
// as the limit on descriptors demands.
type folder struct {
	parent *folder // nil for one reached through an argument
	name   string  // in parent; else the path

	// Guarded by handles.mu.
	id    fileID // of the first time it was opened: what it has to be ever after
	known bool
	dir   *fs.Dir
	users int
	idle  *list.Element

	inherits atomic.Int32 // see (*worker).inherits
	adds     atomic.Int32 // see (*worker).onlyAdds
}

// path is for messages; files are never opened by it.
func (f *folder) path() string {
	var below []string
	for ; f.parent != nil; f = f.parent {
		below = append(below, f.name)
	}
	path := []byte(f.name)
	for _, name := range slices.Backward(below) {
		path = appendName(path, name)
	}
	return string(path)
}

var errMoved = errors.New("directory was exchanged for another one during the copy")

// handles keeps at most about limit folders open. Those in use do not count as closable, so the workers' number bounds the
// excess.
type handles struct {
	mu    sync.Mutex
	limit int
	open  int
	idle  list.List // of *folder, the longest unused first
}

// acquire returns the open directory and keeps it open until release.
func (h *handles) acquire(ctx context.Context, f *folder) (*fs.Dir, error) {
	if dir := h.pin(f); dir != nil {
		return dir, nil
	}
	dir, err := h.openFolder(ctx, f)
	if err != nil {
		return nil, err
	}
	id, err := dirID(ctx, dir)
	if err != nil {
		closeDir(ctx, dir)
		return nil, err
	}

	h.mu.Lock()
	if f.known && f.id != id {
		h.mu.Unlock()
		closeDir(ctx, dir)
		return nil, errMoved
	}
	f.id, f.known = id, true
	extra := dir
	if f.dir == nil {
		f.dir, extra = dir, nil
		h.open++
	} else if f.idle != nil { // another worker was faster, and has even finished
		h.idle.Remove(f.idle)
		f.idle = nil
	}
	f.users++
	dir = f.dir
	closing := h.shed()
	h.mu.Unlock()

	if extra != nil {
		closeDir(ctx, extra)
	}
	for _, d := range closing {
		closeDir(ctx, d)
	}
	return dir, nil
}

// pin returns the directory if it is open.
func (h *handles) pin(f *folder) *fs.Dir {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.dir == nil {
		return nil
	}
	if f.idle != nil {
		h.idle.Remove(f.idle)
		f.idle = nil
	}
	f.users++
	return f.dir
}

// openFolder opens f through a folder above it, which may have to be opened for that as well; never by its whole path, in which a
// component could have become a link since.
func (h *handles) openFolder(ctx context.Context, f *folder) (*fs.Dir, error) {
	if f.parent == nil {
		return fs.OpenDir(ctx, f.name)
	}
	if top, names := h.above(f); top != f.parent {
		if dir, err := h.openBelow(ctx, top, names); err == nil {
			return dir, nil
		}
	}
	return h.openBelow(ctx, f.parent, f.name)
}

func (h *handles) openBelow(ctx context.Context, top *folder, names string) (*fs.Dir, error) {
	dir, err := h.acquire(ctx, top)
	if err != nil {
		return nil, err
	}
	defer h.release(ctx, top)
	return dir.OpenDir(ctx, names)
}

// above returns where to open f from, and by what names: its parent, or, for one that was open before and so is known again when it is
// found, the next folder above it that is open. That is one call for many levels of a deep tree, in which the kernel follows no link.
func (h *handles) above(f *folder) (*folder, string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	top, names := f.parent, f.name
	for f.known && top.dir == nil && top.parent != nil && len(top.name)+1+len(names) < unix.PathMax {
		names = top.name + "/" + names
		top = top.parent
	}
	return top, names
}

// shed takes out what has to be closed to come back to the limit.
func (h *handles) shed() []*fs.Dir {
	var out []*fs.Dir
	for h.open > h.limit && h.idle.Len() > 0 {
		f := h.idle.Remove(h.idle.Front()).(*folder)
		out = append(out, f.dir)
		f.dir, f.idle = nil, nil
		h.open--
	}
	return out
}

func (h *handles) release(ctx context.Context, f *folder) {
	h.mu.Lock()
	if f.users--; f.users == 0 {
		f.idle = h.idle.PushBack(f)
	}
	closing := h.shed()
	h.mu.Unlock()
	for _, d := range closing {
		closeDir(ctx, d)
	}
}

// opened reports whether the folder was ever open.
func (h *handles) opened(f *folder) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return f.known
}

// idOf returns what an acquired folder is.
func (h *handles) idOf(f *folder) fileID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return f.id
}

// forget closes a folder that will not be used again. If it is, after all, it opens again.
func (h *handles) forget(ctx context.Context, f *folder) {
	h.mu.Lock()
	var dir *fs.Dir
	if f.users == 0 && f.dir != nil {
		h.idle.Remove(f.idle)
		dir = f.dir
		f.dir, f.idle = nil, nil
		h.open--
	}
	h.mu.Unlock()
	if dir != nil {
		closeDir(ctx, dir)
	}
}

// closeAll ends the use of handles.
func (h *handles) closeAll(ctx context.Context) {
	h.mu.Lock()
	h.limit = 0
	closing := h.shed()
	h.mu.Unlock()
	for _, d := range closing {
		closeDir(ctx, d)
	}
}

// closeDir closes a directory that was only read, or was synced by whoever cares: its error says nothing about data.
func closeDir(ctx context.Context, d *fs.Dir) { _ = d.Close(context.WithoutCancel(ctx)) }

func dirID(ctx context.Context, d *fs.Dir) (fileID, error) {
	fi, err := d.Stat(ctx)
	if err != nil {
		return fileID{}, err
	}
	a := attrsOf(fi)
	return a.id, nil
}
