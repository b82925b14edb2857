package fs

import (
	"context"

	"golang.org/x/sys/unix"
)

// SeekData returns where, from offset off on, the next data of a sparse file begins; ENXIO means that there is none up to the end. A file
// system may know no holes, and calls everything data. It is what the file system believes: data that is not on the disk yet may be
// taken for a hole by some, so sync first where that matters. It moves the file position of Read and Write. lseek(2), SEEK_DATA.
func (f *File) SeekData(ctx context.Context, off int64) (int64, error) {
	return f.seek(ctx, off, unix.SEEK_DATA)
}

// SeekHole returns where, from offset off on, the next hole of a sparse file begins. The end of the file counts as one; ENXIO means that
// off is beyond it. See [File.SeekData]. lseek(2), SEEK_HOLE.
func (f *File) SeekHole(ctx context.Context, off int64) (int64, error) {
	return f.seek(ctx, off, unix.SEEK_HOLE)
}

func (f *File) seek(ctx context.Context, off int64, whence int) (int64, error) {
	if off < 0 {
		return 0, f.wrap("seek", errNegativeOffset)
	}
	pos, err := doCall(ctx, f, OpStat, func(fd int) (int64, error) { return unix.Seek(fd, off, whence) })
	if err != nil {
		return 0, f.wrap("seek", err)
	}
	return pos, nil
}
