package copier

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"

	"github.com/cespare/xxhash/v2"
)

// Options say what to copy and how. The zero value copies single files and syncs nothing.
type Options struct {
	Recursive bool // copy directories, and symbolic links, FIFOs and devices as what they are
	Archive   bool // Recursive, and keep owners, modes, times, attributes and hard links
	Security  bool // with Archive: security.* and trusted.* attributes as well, as far as permitted
	Follow    bool // follow symbolic links that are named as sources

	NoClobber bool // leave existing files alone
	Force     bool // replace even files that we may not write to

	Sync   bool   // fsync files and directories
	Verify Verify // read the copies back and compare
	Method Method // how bytes travel
	Dense  bool   // write holes out instead of keeping them

	// Jobs is how many entries are in work at a time, and how many blocks of large files. Zero means 32. The limit on open
	// descriptors can lower it.
	Jobs int

	// Descriptors bounds the descriptors that the copy opens. Zero means 256, or what RLIMIT_NOFILE leaves if that is less.
	Descriptors int

	// Umask is that of the process. It is applied to new files' modes unless Archive is set.
	Umask uint32

	// Observer is told what happens. Nil means nobody.
	Observer Observer
}

// An Observer hears about single entries while the copy runs. Several tasks call it, and only Copied, which is given a task's context,
// may wait, as a task waits.
type Observer interface {
	Copied(ctx context.Context, src, dst, sum string) // sum is empty without Verify
	Failed(Problem)
	Warned(Problem)
	Noted(Problem)
}

// Method says how the bytes of a file travel.
type Method int

const (
	// Auto shares blocks if the file system can (a reflink), else lets the kernel copy (copy_file_range), else reads and writes.
	Auto Method = iota
	// Range starts at copy_file_range.
	Range
	// Blocks reads and writes.
	Blocks
)

var methodNames = []string{Auto: "auto", Range: "range", Blocks: "blocks"}

func (m Method) String() string { return methodNames[m] }

// ParseMethod is the inverse of Method.String.
func ParseMethod(s string) (Method, error) {
	for m, name := range methodNames {
		if s == name {
			return Method(m), nil
		}
	}
	return 0, fmt.Errorf("unknown method %q: want auto, range or blocks", s)
}

// Verify names the checksum that a copy must share with its source.
type Verify string

const (
	NoVerify Verify = ""
	XXH64    Verify = "xxh64"  // fast, for faults
	SHA256   Verify = "sha256" // against intent as well
)

// ParseVerify checks the name of a checksum.
func ParseVerify(s string) (Verify, error) {
	switch v := Verify(s); v {
	case NoVerify, XXH64, SHA256:
		return v, nil
	}
	return "", fmt.Errorf("unknown checksum %q: want xxh64 or sha256", s)
}

func (v Verify) hash() hash.Hash {
	if v == SHA256 {
		return sha256.New()
	}
	return xxhash.New()
}
