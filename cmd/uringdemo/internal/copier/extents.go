package copier

import (
	"context"

	"golang.org/x/sys/unix"
)

// An extent is a part of a file that holds data.
type extent struct{ off, end int64 }

// maxExtents bounds the memory for what is known of a file with many holes.
const maxExtents = 1024

// find fills in the next extents from pos on and returns where to go on. Where the file system knows no holes, or is told not to
// look, there is one extent. Holes are only looked for in files that take less room than their size, and what is said about them is
// checked by the size at the end, and by Verify.
func (t *transfer) find(ctx context.Context, pos int64) int64 {
	size := t.attrs.size
	if t.opts.Dense || t.attrs.blocks*512 >= size {
		t.extents = []extent{{pos, size}}
		return size
	}
	t.extents = t.extents[:0]
	for pos < size && len(t.extents) < maxExtents {
		data, err := t.src.SeekData(ctx, pos)
		if is(err, unix.ENXIO) {
			return size // only a hole is left
		}
		if err != nil || data < pos {
			t.extents = append(t.extents, extent{pos, size})
			return size
		}
		hole, err := t.src.SeekHole(ctx, data)
		if err != nil || hole <= data {
			hole = size
		}
		if hole = min(hole, size); data < hole {
			t.extents = append(t.extents, extent{data, hole})
		}
		pos = max(hole, data)
	}
	return pos
}
