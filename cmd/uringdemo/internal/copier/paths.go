package copier

import (
	"path/filepath"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// placeError is an error at another path than that of the source.
type placeError struct {
	path string
	err  error
}

func (e *placeError) Error() string { return Quote(e.path) + ": " + e.err.Error() }
func (e *placeError) Unwrap() error { return e.err }

func atPath(p place, err error) error { return &placeError{p.path(), err} }

// Quote makes a path fit for one line of a message: as it is if that is possible.
func Quote(path string) string {
	if !utf8.ValidString(path) {
		return strconv.Quote(path)
	}
	for _, r := range path {
		if !unicode.IsPrint(r) {
			return strconv.Quote(path)
		}
	}
	return path
}

// join is filepath.Join without its cleaning: "a/.." stays what the user wrote.
func join(dir, name string) string { return string(appendName([]byte(dir), name)) }

func appendName(dir []byte, name string) []byte {
	switch {
	case len(dir) == 0 || len(dir) == 1 && dir[0] == '.':
		return append(dir[:0], name...)
	case name == ".":
		return dir
	case dir[len(dir)-1] != filepath.Separator:
		dir = append(dir, filepath.Separator)
	}
	return append(dir, name...)
}

// place is a name in a folder.
type place struct {
	folder *folder
	name   string
}

func (p place) path() string { return join(p.folder.path(), p.name) }
