package fs

import (
	"context"

	"golang.org/x/sys/unix"
)

// length returns where the file ends.
func (f *File) length(ctx context.Context) (int64, error) {
	var st unix.Statx_t
	if err := f.statx(ctx, 0, unix.STATX_TYPE|unix.STATX_SIZE, &st); err != nil {
		return 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return int64(st.Size), nil
	}
	return doCall(ctx, f, OpStat, deviceSize)
}

// deviceSize returns the size of a block device, which statx(2) calls 0. BLKGETSIZE64.
func deviceSize(fd int) (int64, error) {
	n, err := unix.IoctlGetUint64(fd, unix.BLKGETSIZE64)
	return int64(n), err
}
