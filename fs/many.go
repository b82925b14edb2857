package fs

import (
	"cmp"
	"context"
	"io"
	"slices"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
	"uringo/ops"
)

// Range is a part of a file that [File.ReadMany] shall read, and what became of it.
type Range struct {
	Off int64  // in the file, in bytes; not negative
	Buf []byte // of the length to be read; nil afterwards if Err wraps driver.ErrAbandoned

	// N is how many bytes were read, and Err is as with [File.ReadExactAt], but at the end of the file as with [File.ReadAt]: a range of
	// which the file has only the beginning is short without an error, and one of which it has nothing is io.EOF.
	N   int
	Err error
}

// ManyOptions says how [File.ReadMany] reads. The zero value is a good choice for most.
type ManyOptions struct {
	// MaxGap bounds the amplification: two ranges are read in one operation if at most so many bytes lie between them, which are read for
	// nothing. Zero means 4096; a negative value, that only ranges which touch or overlap are read in one.
	MaxGap int

	// MaxRead is how many bytes one operation for several ranges reads at most, into as much memory; more than 1 GiB is 1 GiB. Zero means 256 KiB. A
	// longer range is one of its own.
	MaxRead int

	// Depth is how many operations are under way at most. Zero means 32.
	Depth int
}

const (
	defaultGap   = 4096
	defaultWidth = 32
)

// ReadMany reads many ranges of the file at once, in any order, and notes in each what became of it. Ranges that lie near each other are
// read together, by way of a buffer; others go straight into theirs. With O_DIRECT they need not be aligned. What the page cache has is
// copied at once.
//
// It returns when all have ended. Its error is that of the first range that has one other than io.EOF. Kernel 5.6, pread(2).
func (f *File) ReadMany(ctx context.Context, ranges []Range, o ManyOptions) error {
	m := many{f: f, ctx: ctx, ranges: ranges, gap: int64(o.MaxGap), most: int64(o.MaxRead), align: Alignment{1, 1}}
	switch {
	case o.MaxGap == 0:
		m.gap = defaultGap
	case o.MaxGap < 0:
		m.gap = 0
	}
	if o.MaxRead <= 0 {
		m.most = defaultBlock
	}
	m.most = min(m.most, ops.MaxTransfer)
	depth := o.Depth
	if depth <= 0 {
		depth = defaultWidth
	}
	err := m.open()
	plan := m.plan(err)
	for _, g := range plan {
		if len(m.flying) == depth {
			m.land()
		}
		m.start(g)
	}
	for len(m.flying) > 0 {
		m.land()
	}
	for _, r := range ranges {
		if r.Err != nil && r.Err != io.EOF {
			return r.Err
		}
	}
	return nil
}

// many is one ReadMany.
type many struct {
	f      *File
	ctx    context.Context
	d      *driver.Driver
	align  Alignment
	ranges []Range
	gap    int64
	most   int64
	flying []*group
	spare  [][]byte // scratch buffers that are free
}

// group is what one operation reads: a part of the file, and the ranges in it.
type group struct {
	block
	to      int64 // where its ranges end
	ranges  []*Range
	scratch bool // mem is no range's own
}

// open finds out what to know of the file.
func (m *many) open() (err error) {
	if m.d, err = executor.DriverOf(m.ctx); err != nil {
		return err
	}
	if err := m.f.positional(); err != nil {
		return err
	}
	if m.f.flag&unix.O_DIRECT != 0 {
		m.align, err = m.f.alignment(m.ctx)
	}
	return err
}

// plan groups the ranges, in the order of the file. With an error that is theirs, and no group is left.
func (m *many) plan(err error) (groups []*group) {
	var sorted []*Range
	for i := range m.ranges {
		r := &m.ranges[i]
		r.N, r.Err = 0, m.f.wrap("read", err)
		if bad := checkRange(r.Off, int64(len(r.Buf))); bad != nil {
			r.Err = m.f.wrap("readat", bad)
		}
		if r.Err == nil && len(r.Buf) > 0 {
			sorted = append(sorted, r)
		}
	}
	slices.SortStableFunc(sorted, func(a, b *Range) int { return cmp.Compare(a.Off, b.Off) })
	var g *group
	for _, r := range sorted {
		end := r.Off + int64(len(r.Buf))
		if g != nil && r.Off-g.to <= m.gap && max(g.to, end)-g.off <= m.most {
			g.to = max(g.to, end)
			g.ranges = append(g.ranges, r)
			continue
		}
		g = &group{block: block{off: r.Off}, to: end, ranges: []*Range{r}}
		groups = append(groups, g)
	}
	return groups
}

// start begins to read a group, and ends that at once if the page cache has it.
func (m *many) start(g *group) {
	if g.err = canceled(m.ctx); g.err != nil {
		m.deliver(g)
		return
	}
	if r := g.ranges[0]; len(g.ranges) == 1 && int64(len(r.Buf)) > m.most && !m.align.fits(r.Buf, r.Off) {
		m.alone(r) // a piece at a time
		return
	}
	m.place(g)
	var all bool
	g.n, all, g.err = m.f.cached(m.ctx, g.mem, g.off)
	if g.err == nil && all && g.n < len(g.mem) {
		g.err = io.EOF
	}
	if !all && g.n < len(g.mem) {
		g.err = g.read(m.f, m.d)
	}
	if g.t == nil {
		m.deliver(g)
		return
	}
	m.flying = append(m.flying, g)
}

// place gives a group memory: that of its range, if it has one that can be read as it is.
func (m *many) place(g *group) {
	first := g.ranges[0]
	if len(g.ranges) == 1 && m.align.fits(first.Buf, first.Off) {
		g.mem = first.Buf
		return
	}
	g.scratch = true
	mask := int64(m.align.Offset) - 1
	g.off &^= mask
	size := int((g.to+mask)&^mask - g.off)
	for i, b := range m.spare {
		if cap(b) >= size {
			g.mem = b[:size]
			m.spare = slices.Delete(m.spare, i, i+1)
			return
		}
	}
	g.mem = buf.Aligned(size, m.align.Memory)
}

// land waits for the group that is under way longest. If ctx ends, it is cancelled, as the ranges' buffers belong to the caller.
func (m *many) land() {
	g := m.flying[0]
	m.flying = slices.Delete(m.flying, 0, 1)
	if err := g.arrive(m.ctx, m.f, m.align.Offset); err != nil {
		g.t.end(m.ctx)
		_ = g.arrive(m.ctx, m.f, m.align.Offset) // which finds it over
		if driver.IsCanceled(g.err) {
			g.err = err
		}
	}
	m.deliver(g)
}

// deliver hands out what was read.
func (m *many) deliver(g *group) {
	for _, r := range g.ranges {
		have := max(0, min(len(r.Buf), g.n-int(r.Off-g.off)))
		if g.scratch {
			copy(r.Buf[:have], g.mem[max(0, min(g.n, int(r.Off-g.off))):])
		}
		r.N = have
		switch {
		case have == len(r.Buf):
		case g.err == nil || g.err == io.EOF:
			if have == 0 {
				r.Err = io.EOF
			}
		case len(g.ranges) > 1 && m.perhaps(g.err):
			m.alone(r)
		default:
			r.Err = m.f.wrap("read", g.err)
			if handle.Abandoned(g.err) && !g.scratch {
				r.Buf = nil
			}
		}
	}
	if g.scratch && !handle.Abandoned(g.err) {
		m.spare = append(m.spare, g.mem)
	}
	g.mem = nil
}

// perhaps reports whether the ranges of a group that failed may be read one by one: what failed may have been a part that nobody wants.
func (m *many) perhaps(err error) bool {
	return m.ctx.Err() == nil && err != ErrClosed && !handle.Abandoned(err)
}

// alone reads the rest of a range by itself.
func (m *many) alone(r *Range) {
	n, b, err := m.f.ReadDirectAt(m.ctx, r.Buf[r.N:], r.Off+int64(r.N))
	r.N += n
	if b == nil {
		r.Buf = nil
	}
	if err == io.ErrUnexpectedEOF || err == io.EOF && r.N > 0 {
		err = nil
	}
	r.Err = err
}
