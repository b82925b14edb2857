package copier

import (
	"context"
	"errors"
	"sync"

	"uringo/executor"
)

// A Copier is one copy at work.
type Copier struct {
	opts     Options
	progress *Progress
	journal  journal
	handles  handles
	links    links
	large    buffers
	offload  offload
	targets  targets
	locks    locks

	mu      sync.Mutex
	stack   []*node // directories with names that nobody has taken yet; the deepest last
	workers int     // at work or about to be
	tasks   []*executor.JoinHandle[struct{}]
}

// New prepares a copy. Progress may be nil.
func New(opts Options, progress *Progress) *Copier {
	if progress == nil {
		progress = new(Progress)
	}
	if opts.Archive {
		opts.Recursive = true
	}
	opts.Security = opts.Security && opts.Archive
	if opts.Jobs <= 0 {
		opts.Jobs = 32
	}
	return &Copier{opts: opts, progress: progress, journal: journal{observer: opts.Observer}}
}

// Run copies the sources to the target and reports what happened. It has to be called by a task of uringo/executor. When ctx ends
// it stops early, and leaves complete files only.
func (c *Copier) Run(ctx context.Context, sources []string, target string) *Report {
	c.opts.Jobs, c.handles.limit = budget(c.opts.Jobs, c.opts.Descriptors)
	c.large.left = min(c.opts.Jobs, maxLarge)

	root, err := c.plan(ctx, sources, target)
	switch {
	case err == nil:
		c.push(ctx, root)
		c.wait(ctx)
		c.relock(ctx)
	case !interrupted(ctx, err):
		c.journal.fail(target, err)
	}
	c.handles.closeAll(ctx)

	c.journal.report.Interrupted = ctx.Err() != nil
	return &c.journal.report
}

// push offers the names of a directory to the workers, and starts as many as are missing. They are joined in time: whoever pushes is
// a worker itself, or the one who waits for all of them.
func (c *Copier) push(ctx context.Context, n *node) {
	c.mu.Lock()
	c.stack = append(c.stack, n)
	missing := min(c.opts.Jobs-c.workers, n.remaining())
	c.workers += missing
	c.mu.Unlock()
	for range missing {
		t := executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
			c.work(ctx)
			return struct{}{}, nil
		})
		c.mu.Lock()
		c.tasks = append(c.tasks, t)
		c.mu.Unlock()
	}
}

// take hands out a name. A worker that gets none has to end: it is not counted any more.
func (c *Copier) take(ctx context.Context) (job, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.stack) > 0 && ctx.Err() == nil {
		top := c.stack[len(c.stack)-1]
		if j, ok := top.take(); ok {
			return j, true
		}
		c.stack[len(c.stack)-1] = nil
		c.stack = c.stack[:len(c.stack)-1]
	}
	c.workers--
	return job{}, false
}

// work copies entries until none is left.
func (c *Copier) work(ctx context.Context) {
	w := &worker{Copier: c, small: make([]byte, smallBlock)}
	for {
		j, ok := c.take(ctx)
		if !ok {
			return
		}
		w.copy(ctx, j)
		c.done(ctx, j.node)
	}
}

// wait returns when all workers have ended, those too that others start meanwhile.
func (c *Copier) wait(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	for {
		c.mu.Lock()
		if len(c.tasks) == 0 {
			c.mu.Unlock()
			return
		}
		t := c.tasks[len(c.tasks)-1]
		c.tasks = c.tasks[:len(c.tasks)-1]
		c.mu.Unlock()
		if _, err := t.Join(ctx); err != nil && !errors.Is(err, context.Canceled) {
			c.journal.fail("", err) // a panic: a worker ends with no other error, unless it came too late to begin
		}
	}
}

// A worker copies one entry at a time.
type worker struct {
	*Copier
	small []byte
}

// smallBlock is the size of a worker's own buffer: most files fit in.
const smallBlock = 128 << 10
