package net

import (
	"sync/atomic"
	"time"
)

// resident is a range of a file that was found to be in the page cache. To ask the kernel (cachestat(2)) takes a thirtieth of the time that
// sending it takes, so for what is sent over and over it is not asked every time.
type resident struct {
	file
	from, to int64
	at       time.Time
}

// file identifies a file of this system. Where one has taken the number of another, what is known of that is wrong, and a thread may wait for
// a disk once.
type file struct{ dev, ino uint64 }

// residentFor is how long it is believed. It was used then, so other files' pages are evicted before.
const residentFor = 100 * time.Millisecond

// residents are the latest ranges, each in the place of its file.
var residents [64]atomic.Pointer[resident]

func (f file) place() *atomic.Pointer[resident] {
	return &residents[(f.ino+f.dev)%uint64(len(residents))]
}

// wasResident reports whether the range was found there lately.
func (f file) wasResident(from, to int64) bool {
	r := f.place().Load()
	return r != nil && r.file == f && r.from <= from && to <= r.to && time.Since(r.at) < residentFor
}

// isResident says that the range has just been found there.
func (f file) isResident(from, to int64) {
	now := &resident{f, from, to, time.Now()}
	if r := f.place().Load(); r != nil && r.file == f && r.from <= from && from <= r.to && now.at.Sub(r.at) < residentFor {
		now.from, now.to, now.at = r.from, max(to, r.to), r.at
	}
	f.place().Store(now)
}
