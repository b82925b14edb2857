package executor

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// Group is tasks that belong together: they are waited for together, and the first that fails cancels the others. It keeps nothing of a task that
// has ended, so a server may start one for each connection, and at its end give those that are left some time:
//
//	g := executor.NewGroup(ctx)
//	accepting, stop := signal.NotifyContext(ctx, os.Interrupt)
//	defer stop()
//	for c, err := range l.Accepts(accepting) {
//		if err != nil {
//			continue
//		}
//		g.Go(func(ctx context.Context) error { serve(ctx, c); return nil })
//	}
//	grace, cancel := context.WithTimeout(ctx, 10*time.Second)
//	defer cancel()
//	_ = g.Wait(grace) // what is left then ends with the root, or by g.Cancel
//
// Its methods may be called from any task or goroutine.
type Group struct {
	ctx context.Context

	mu   sync.Mutex
	n    int                // that have not ended
	live map[*task]struct{} // those of them that have begun to be started
	err  error              // of the first that failed
	over bool               // cancelled
	idle *Event             // happens when none is left; nil while nobody waits
}

// NewGroup returns a group without tasks. Those that it gets are started with ctx, as [Go] does.
func NewGroup(ctx context.Context) *Group {
	return &Group{ctx: ctx, live: make(map[*task]struct{})}
}

// Go starts a task of the group and returns at once. If fn returns an error, panics (a *[PanicError]) or calls runtime.Goexit ([ErrGoexit]), the
// group is cancelled: an error that is to end nobody else is fn's to deal with. In a group that was cancelled, fn does not run.
func (g *Group) Go(fn func(ctx context.Context) error) {
	g.mu.Lock()
	if g.over {
		if g.err == nil {
			g.err = context.Canceled
		}
		g.mu.Unlock()
		return
	}
	g.n++
	g.mu.Unlock()

	h := Go(g.ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, fn(ctx) })

	g.mu.Lock()
	g.live[h.t] = struct{}{}
	over := g.over // just now
	g.mu.Unlock()
	if over {
		h.Abort()
	}
	if m := (member{g, h.t}); !h.t.ended.add(m) {
		m.unpark()
	}
}

// Cancel cancels the context of all tasks of the group, those to come included, as [JoinHandle.Abort] does. It does not wait: Wait does.
func (g *Group) Cancel() {
	g.mu.Lock()
	if g.over {
		g.mu.Unlock()
		return
	}
	g.over = true
	all := slices.Collect(maps.Keys(g.live))
	g.mu.Unlock()
	for _, t := range all {
		t.interrupt(context.Canceled)
	}
}

// Wait waits until no task of the group is left, and returns the error of the first that failed: after Cancel, that is context.Canceled as a rule.
// If ctx, which is the caller's context, ends first, Wait returns its error and the tasks go on. A task of the group may start others in it, and
// must not wait for it.
func (g *Group) Wait(ctx context.Context) error {
	g.mu.Lock()
	if g.n > 0 {
		if g.idle == nil {
			g.idle = new(Event)
		}
		idle := g.idle
		var one *task
		for one = range g.live {
			break
		}
		g.mu.Unlock()
		if err := idle.wait(ctx, one); err != nil {
			return err
		}
		g.mu.Lock()
	}
	defer g.mu.Unlock()
	return g.err
}

// member is told when a task of a group has ended.
type member struct {
	g *Group
	t *task
}

// unpark runs wherever the task ends, which may be where somebody cancels it: nothing is locked then.
func (m member) unpark() {
	g := m.g
	g.mu.Lock()
	delete(g.live, m.t)
	g.n--
	failed := m.t.err != nil && g.err == nil
	if failed {
		g.err = m.t.err
	}
	var idle *Event
	if g.n == 0 {
		idle, g.idle = g.idle, nil
	}
	g.mu.Unlock()
	if failed {
		g.Cancel()
	}
	if idle != nil {
		idle.Set()
	}
}
