package copier

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/fs"
)

// targets remembers what this copy made, as far as it must not copy or replace that itself.
type targets struct {
	mu      sync.Mutex
	tops    map[fileID][]fileID // directories that named sources are copied to, and these
	tracked bool
	made    map[fileID]place // copies of named files, and of what, only if two sources have the same name
}

// addTop reports whether the directory src was not copied to the directory dst before.
func (t *targets) addTop(dst, src fileID) (first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tops == nil {
		t.tops = make(map[fileID][]fileID)
	}
	if slices.Contains(t.tops[dst], src) {
		return false
	}
	t.tops[dst] = append(t.tops[dst], src)
	return true
}

// isTop reports whether a source is where the copy goes to: it would never end.
func (t *targets) isTop(id fileID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tops[id] != nil
}

func (t *targets) track() { t.tracked, t.made = true, make(map[fileID]place) }

func (t *targets) add(e *entry, id fileID) {
	if !t.tracked {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.arg {
		t.made[id] = e.src
	} else if e.old != nil && t.made[e.old.id].folder != nil {
		t.made[id] = t.made[e.old.id] // from a directory that is merged; with cp, it is the same file still
	}
}

// madeHere returns what a file is the copy of, if it is one of a named file.
func (t *targets) madeHere(id fileID) (src place, ok bool) {
	if !t.tracked {
		return place{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	src, ok = t.made[id]
	return src, ok
}

var (
	errIntoItself = errors.New("cannot copy a directory into itself")
	errSkip       = errors.New("exists")               // and NoClobber is set
	errTwice      = errors.New("named more than once") // and copied by its other name
)

// existing looks at what is at the target and decides whether the copy may replace it. Nil and no error means that nothing is
// there.
//
// This cannot be a race that destroys anything: the copy opens no existing target, it renames over whatever is there at the end.
func (w *worker) existing(ctx context.Context, j job, src, dir *fs.Dir, a *attrs) (*attrs, error) {
	fi, err := dir.Lstat(ctx, j.dst.name)
	if is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, atPath(j.dst, err)
	}
	old := attrsOf(fi)
	if w.opts.NoClobber && !a.isDir() {
		return nil, errSkip
	}
	same := old.id == a.id
	switch uint32(unix.S_IFLNK) {
	case a.kind(): // a link that leads to what it would replace
		same = same || leadsTo(ctx, src, j.src.name, old.id)
	case old.kind(): // replacing it would do no harm, but cp refuses as well: it cannot be what is meant
		same = same || leadsTo(ctx, dir, j.dst.name, a.id)
	}
	switch {
	case same:
		return nil, fmt.Errorf("is the same file as %s", Quote(j.dst.path()))
	case a.isDir() && !old.isDir():
		return nil, atPath(j.dst, fmt.Errorf("is %s, not replaced by a directory", describe(old.mode)))
	case !a.isDir() && old.isDir():
		return nil, atPath(j.dst, fmt.Errorf("is a directory, not replaced by %s", describe(a.mode)))
	case a.isDir():
		return &old, nil
	}
	if src, made := w.targets.madeHere(old.id); made && j.arg {
		if src.name == j.src.name && w.handles.idOf(src.folder) == w.handles.idOf(j.src.folder) {
			return nil, errTwice
		}
		return nil, atPath(j.dst, fmt.Errorf("was just created, not replaced by %s", Quote(j.src.path())))
	}
	switch {
	case a.kind() != unix.S_IFREG:
		return &old, nil
	case old.kind() == unix.S_IFREG:
		return &old, w.mayReplace(ctx, j, dir)
	case old.kind() == unix.S_IFLNK, isDevice(&old) && j.exact, w.opts.Force:
		return &old, nil
	}
	return nil, atPath(j.dst, fmt.Errorf("is %s, not replaced by a regular file without --force", describe(old.mode)))
}

// onlyAdds reports whether the folder is append-only (chattr +a): names can be added to it, and none changed or removed. Like
// inherits, it looks once for each.
func (w *worker) onlyAdds(ctx context.Context, f *folder, dir *fs.Dir) bool {
	const unknown, no, yes = 0, 1, 2
	if i := f.adds.Load(); i != unknown {
		return i == yes
	}
	i := int32(no)
	if st, err := dir.Statx(ctx, ".", unix.STATX_TYPE); err == nil && st.Attributes&unix.STATX_ATTR_APPEND != 0 {
		i = yes
	}
	f.adds.Store(i)
	return i == yes
}

// leadsTo reports whether a symbolic link ends at the given file.
func leadsTo(ctx context.Context, dir *fs.Dir, name string, id fileID) bool {
	st, err := executor.Block(ctx, func() (st unix.Stat_t, err error) {
		return st, unix.Fstatat(int(dir.Fd()), name, &st, 0)
	})
	return err == nil && id == fileID{st.Dev, st.Ino}
}

// mayReplace asks what opening the file for writing would say: a rename needs no right to it, but a user who took that right away
// from himself did so to be stopped.
func (w *worker) mayReplace(ctx context.Context, j job, dir *fs.Dir) error {
	if w.opts.Force || os.Geteuid() == 0 {
		return nil
	}
	_, err := executor.Block(ctx, func() (struct{}, error) {
		return struct{}{}, unix.Faccessat(int(dir.Fd()), j.dst.name, unix.W_OK, unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		return atPath(j.dst, err)
	}
	return nil
}

func isDevice(a *attrs) bool { return a.kind() == unix.S_IFCHR || a.kind() == unix.S_IFBLK }
