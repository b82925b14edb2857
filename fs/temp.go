package fs

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
)

var errSeparator = errors.New("pattern contains path separator")

// CreateTemp makes a new file in the directory dir, or in os.TempDir if dir is empty, with permissions 0600 before umask, and opens it for
// reading and writing. Its name is pattern with a random string in place of its last *, or at its end. Nobody else chooses the same.
func CreateTemp(ctx context.Context, dir, pattern string) (f *File, err error) {
	err = tempName("createtemp", dir, pattern, func(name string) (err error) {
		f, err = OpenFile(ctx, name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	return f, err
}

// MkdirTemp makes a new directory in the directory dir, with permissions 0700 before umask, and returns its name; see [CreateTemp].
func MkdirTemp(ctx context.Context, dir, pattern string) (made string, err error) {
	err = tempName("mkdirtemp", dir, pattern, func(name string) error {
		made = name
		return Mkdir(ctx, name, 0o700)
	})
	if err != nil {
		return "", err
	}
	return made, nil
}

// tempName calls make with names until one does not exist yet.
func tempName(verb, dir, pattern string, make func(name string) error) error {
	if dir == "" {
		dir = os.TempDir()
	}
	if strings.Contains(pattern, "/") {
		return &PathError{Op: verb, Path: pattern, Err: errSeparator}
	}
	prefix, suffix := pattern, ""
	if i := strings.LastIndexByte(pattern, '*'); i >= 0 {
		prefix, suffix = pattern[:i], pattern[i+1:]
	}
	if !strings.HasSuffix(dir, "/") {
		dir += "/"
	}
	err := freshName(dir+prefix, suffix, make)
	if err == ErrExist {
		err = &PathError{Op: verb, Path: dir + prefix + "*" + suffix, Err: err}
	}
	return err
}

// freshName calls make with names until one does not exist yet, or a great many did: then it is ErrExist.
func freshName(prefix, suffix string, make func(name string) error) error {
	for range 10000 {
		name := prefix + strconv.FormatUint(uint64(rand.Uint32()), 10) + suffix
		if err := make(name); !says(err, syscall.EEXIST) {
			return err
		}
	}
	return ErrExist
}
