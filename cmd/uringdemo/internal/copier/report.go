package copier

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// A Problem is one entry that could not be copied, or only with a reservation.
type Problem struct {
	Path string
	Why  string
}

// Report is the outcome of a copy.
type Report struct {
	Files       int64
	Directories int64
	Symlinks    int64
	HardLinks   int64
	Specials    int64 // FIFOs, sockets, devices
	Skipped     int64 // existing files left alone by NoClobber
	Verified    int64
	Bytes       int64 // of file content, holes not counted
	Failures    []Problem
	Warnings    []Problem
	Notes       []Problem // what a file system or the user's rights did not allow to keep, once for each kind
	Interrupted bool
}

// Progress can be read while the copy runs.
type Progress struct {
	Entries atomic.Int64 // finished
	Found   atomic.Int64 // bytes of the files that were started
	Done    atomic.Int64 // bytes of them that are copied or known to be holes
}

// journal collects a Report.
type journal struct {
	mu       sync.Mutex
	report   Report
	observer Observer
	noted    map[string]bool
}

func (r *journal) count(field *int64, n int64) {
	r.mu.Lock()
	*field += n
	r.mu.Unlock()
}

func (r *journal) fail(path string, err error) {
	p := Problem{path, why(err)}
	r.mu.Lock()
	r.report.Failures = append(r.report.Failures, p)
	r.mu.Unlock()
	if r.observer != nil {
		r.observer.Failed(p)
	}
}

func (r *journal) warn(path, why string) {
	p := Problem{path, why}
	r.mu.Lock()
	r.report.Warnings = append(r.report.Warnings, p)
	r.mu.Unlock()
	if r.observer != nil {
		r.observer.Warned(p)
	}
}

func (r *journal) note(path, why string) {
	p := Problem{path, why}
	r.mu.Lock()
	r.report.Notes = append(r.report.Notes, p)
	r.mu.Unlock()
	if r.observer != nil {
		r.observer.Noted(p)
	}
}

// once reports whether kind was not seen before: for what a file system lacks, which every file would repeat.
func (r *journal) once(kind string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.noted[kind] {
		return false
	}
	if r.noted == nil {
		r.noted = make(map[string]bool)
	}
	r.noted[kind] = true
	return true
}

// why is the part of an error that its path does not say.
func why(err error) string {
	var path *os.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return fmt.Sprintf("%s: %s", path.Op, path.Err)
	case errors.As(err, &link):
		return fmt.Sprintf("%s: %s", link.Op, link.Err)
	}
	return err.Error()
}

// is reports whether err is one of the given system errors.
func is(err error, errnos ...syscall.Errno) bool {
	var got syscall.Errno
	if !errors.As(err, &got) {
		return false
	}
	for _, e := range errnos {
		if got == e {
			return true
		}
	}
	return false
}
