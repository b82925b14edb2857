package fs

import (
	"context"
	"io"
	"os"
)

// ReadFile returns the content of the named file. The end of the file is no error.
func ReadFile(ctx context.Context, name string) ([]byte, error) {
	f, err := openBriefly(ctx, name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	return f.content(ctx)
}

// content reads all of a file, and closes it.
func (f *File) content(ctx context.Context) ([]byte, error) {
	defer f.Close(ctx)
	return f.readAll(ctx)
}

// readAll reads to the end, which for files that cannot say their size is where a read returns nothing.
func (f *File) readAll(ctx context.Context) ([]byte, error) {
	const least = 512
	if f.known()&(traitRegular|traitDir) == 0 {
		return f.readStream(ctx)
	}
	size := f.size + 1 // one more than there should be, to see the end
	if int64(int(size)) != size {
		size = 0 // a slice cannot be so long where words have 32 bits; but the file may have got shorter
	}
	b := make([]byte, max(size, least))
	n := 0
	for {
		m, err := f.readKept(ctx, b[n:], int64(n))
		n += m
		switch {
		case err == io.EOF:
			return b[:n], nil
		case err != nil:
			return b[:n], err
		case int64(n) == f.size && m > 0:
			return b[:n], nil // all that it had, and no more when more was asked for
		case n == len(b):
			b = append(b, make([]byte, max(least, n/4))...)
		}
	}
}

func (f *File) readStream(ctx context.Context) ([]byte, error) {
	b := make([]byte, 0, 4096)
	for {
		n, got, err := f.Read(ctx, b[len(b):cap(b)])
		if got == nil {
			return nil, err
		}
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}

// WriteFile writes data to the named file, which is truncated first, or created with the permissions perm before umask. It does not sync; see
// [WriteFileAtomic]. When it has returned, the kernel has let go of data.
func WriteFile(ctx context.Context, name string, data []byte, perm FileMode) error {
	f, err := openBriefly(ctx, name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	return f.become(ctx, data)
}

// become writes data to a file that was opened for that, and closes it.
func (f *File) become(ctx context.Context, data []byte) (err error) {
	if f.known()&traitRegular != 0 {
		_, err = f.writeKept(ctx, data, 0)
	} else {
		_, err = f.writeNextKept(ctx, data)
	}
	if cerr := f.Close(ctx); err == nil {
		err = cerr
	}
	return err
}
