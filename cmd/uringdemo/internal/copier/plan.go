package copier

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/fs"
)

// plan turns the arguments into jobs, with the rules of cp: several sources need a directory, a directory as target takes the
// sources under their own names, and anything else is the name that the one source is copied to.
func (c *Copier) plan(ctx context.Context, sources []string, target string) (*node, error) {
	root := new(node)
	if target == "" {
		return nil, errors.New("the name of the target is empty")
	}
	into, err := c.isDirectory(ctx, target)
	switch {
	case err != nil:
		return nil, err
	case into:
		root.dst = &folder{name: target}
	case len(sources) > 1:
		return nil, errors.New("target of several sources is not a directory")
	default:
		dir, _ := split(target)
		root.dst = &folder{name: dir}
	}

	parents := make(map[string]*folder)
	names := make(map[string]bool)
	named := make(map[string]bool)
	for _, source := range sources {
		if named[source] {
			c.journal.note(source, errTwice.Error())
			continue
		}
		named[source] = true
		if source == "" {
			c.journal.fail("", errors.New("the name of a source is empty"))
			continue
		}
		dir, name := split(source)
		parent := parents[dir]
		if parent == nil {
			parent = &folder{name: dir}
			parents[dir] = parent
		}
		j := job{node: root, arg: true, src: place{parent, name}, dst: place{root.dst, name}}
		j.mustDir = strings.HasSuffix(source, "/") && name != "."
		if !into {
			j.exact = true
			_, j.dst.name = split(target)
			j.newDir = strings.HasSuffix(target, "/")
		} else if names[name] || names["."] || name == "." && len(names) > 0 {
			// As with cp, the second file does not replace the first, and directories merge, the later one's files over the
			// earlier's. That needs an order, and a memory. What "." contains may have any name.
			c.targets.track()
			c.opts.Jobs = 1
		}
		names[name] = true
		root.args = append(root.args, j)
	}
	root.pending = len(root.args)
	c.links.overlap = len(root.args) > 1
	return root, nil
}

// isDirectory reports whether the target is a directory, by way of links as well: the user named it.
func (c *Copier) isDirectory(ctx context.Context, target string) (bool, error) {
	fi, err := fs.Stat(ctx, target)
	switch {
	case err == nil:
		if !fi.IsDir() && strings.HasSuffix(target, "/") {
			return false, unix.ENOTDIR
		}
		return fi.IsDir(), nil
	case is(err, unix.ENOENT), is(err, unix.ELOOP) && !strings.HasSuffix(target, "/"): // a link can be replaced by one that leads nowhere, too
		return false, nil
	}
	return false, err
}

// split cuts a path into a directory and a name in it. The name is "." where the last component is none of its parent's names.
func split(path string) (dir, name string) {
	path = strings.TrimRight(path, "/")
	if path == "" {
		return "/", "."
	}
	cut := strings.LastIndexByte(path, '/')
	name = path[cut+1:]
	if name == "." || name == ".." {
		return path, "."
	}
	switch cut {
	case -1:
		return ".", name
	case 0:
		return "/", name
	}
	return path[:cut], name
}

// follow replaces a named symbolic link by what it leads to. From there on its place is as good as one that was named.
func follow(ctx context.Context, p place) (place, error) {
	real, err := executor.Block(ctx, func() (string, error) { return filepath.EvalSymlinks(p.path()) })
	if err != nil {
		var errno syscall.Errno
		if !errors.As(err, &errno) { // it says in words only that there are too many links
			err = unix.ELOOP
		}
		if errno == unix.ENOENT { // a link of /proc can lead to what no name leads to
			if st, e := executor.Block(ctx, func() (st unix.Stat_t, err error) { return st, unix.Stat(p.path(), &st) }); e == nil {
				err = fmt.Errorf("leads to %s that has no name", describe(st.Mode))
			}
		}
		return p, err
	}
	dir, name := split(real)
	return place{&folder{name: dir}, name}, nil
}

// writeThrough finds where a copy to a named symbolic link goes. Like cp, it does not create what a dangling link leads to: in
// /tmp, somebody else may have put the link there. A loop of links leads nowhere; with force it is replaced.
func writeThrough(ctx context.Context, p place, force bool) (place, error) {
	to, err := follow(ctx, p)
	switch {
	case is(err, unix.ENOENT):
		return p, errors.New("not writing through a dangling symbolic link")
	case is(err, unix.ELOOP) && force:
		return p, nil
	}
	return to, err
}

// checkInside refuses to copy a directory to a place below itself. It goes up from the open target, so no name can deceive it; where
// a bind mount hides the way up, [targets.isTop] ends the copy.
func (w *worker) checkInside(ctx context.Context, src fileID, dst place) error {
	dir, err := w.handles.acquire(ctx, dst.folder)
	if err != nil {
		return atPath(dst, err)
	}
	defer w.handles.release(ctx, dst.folder)
	inside, err := executor.Block(ctx, func() (bool, error) { return isBelow(int(dir.Fd()), src) })
	if err != nil {
		return atPath(dst, err)
	}
	if inside {
		return errIntoItself
	}
	return nil
}

// isBelow reports whether a directory is the given one, or anywhere below it.
func isBelow(fd int, top fileID) (bool, error) {
	fd, err := unix.Openat(fd, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer func() { unix.Close(fd) }()
	var last fileID
	for {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return false, err
		}
		id := fileID{st.Dev, st.Ino}
		switch id {
		case top:
			return true, nil
		case last:
			return false, nil // the root is its own parent
		}
		last = id
		up, err := unix.Openat(fd, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return false, fmt.Errorf("looking for its parents: %w", err)
		}
		unix.Close(fd)
		fd = up
	}
}
