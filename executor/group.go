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
// Its methods may be called from any task or goroutine. It must be made with [NewGroup].
type Group struct {
	ctx context.Context

	mu   sync.Mutex
	live map[*task]struct{} // that have not ended
	err  error              // of the first that failed
	over bool               // cancelled
	idle *Event             // happens when none is left; nil while nobody waits
}

// NewGroup returns a group without tasks. Those that it gets are started with ctx, as [Go] does: so with the context of a task they do not end when
// that task does, or is aborted, and with one derived from it, by context.WithCancel say, they do.
func NewGroup(ctx context.Context) *Group {
	return &Group{ctx: ctx, live: make(map[*task]struct{})}
}

// Go starts a task of the group and returns at once. If fn returns an error, panics (a *[PanicError]) or calls runtime.Goexit ([ErrGoexit]), the
// group is cancelled: an error or a panic that is to end nobody else is fn's to deal with, as in a server whose other connections go on. In a
// group that was cancelled, fn does not run.
func (g *Group) Go(fn func(ctx context.Context) error) {
	if g.ctx == nil {
		panic("uringo: Go of a Group that NewGroup has not made")
	}
	t, err := new(task), ErrNoRuntime
	if p := taskOf(g.ctx); p != nil {
		t, err = newTask(p.scope, g.ctx, func(t *task) error { return fn(t) }), nil
	}
	t.ended.add(member{g, t}) // before it is launched: a foreign runtime may run it then and there, and not come back
	g.mu.Lock()
	if g.over {
		err = context.Canceled
	}
	if err == nil {
		g.live[t] = struct{}{}
	}
	g.mu.Unlock()
	if err != nil {
		t.end(err)
		return
	}
	t.launch(nil)
}

// Cancel cancels the context of all tasks of the group, those to come included, as [JoinHandle.Abort] does. It does not wait: Wait does.
func (g *Group) Cancel() {
	g.mu.Lock()
	all := g.close()
	g.mu.Unlock()
	abort(all)
}

// close has the group take no more tasks. The first time it returns those that it has, for abort. The lock is held.
func (g *Group) close() (all []*task) {
	if !g.over {
		g.over = true
		all = slices.Collect(maps.Keys(g.live))
	}
	return all
}

func abort(all []*task) {
	for _, t := range all {
		t.interrupt(context.Canceled)
	}
}

// Wait waits until no task of the group is left, and returns the error of the first that failed: after Cancel, that is context.Canceled as a rule.
// If ctx, which is the caller's context, ends first, Wait returns its error and the tasks go on. A task of the group may start others in it, and
// must not wait for it.
func (g *Group) Wait(ctx context.Context) error {
	g.mu.Lock()
	if len(g.live) > 0 {
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

// unpark runs wherever the task ends, which may be where somebody cancels it: nothing is locked then. Who learns from Wait that a task has failed
// finds the group cancelled.
func (m member) unpark() {
	g := m.g
	g.mu.Lock()
	delete(g.live, m.t)
	var others []*task
	if m.t.err != nil && g.err == nil {
		g.err = m.t.err
		others = g.close()
	}
	var idle *Event
	if len(g.live) == 0 {
		idle, g.idle = g.idle, nil
	}
	g.mu.Unlock()
	abort(others)
	if idle != nil {
		idle.Set()
	}
}
