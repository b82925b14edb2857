// Package notify is for contexts that end while operations wait, many times over: whoever waits is told without a channel, a goroutine or a
// map entry for each wait.
package notify

import "context"

// Context is a context that can be watched.
type Context interface {
	context.Context

	// Watch has w told of the end, until Unwatch. It is false if the context has ended: then w is not told.
	Watch(w *Watcher) bool

	// Unwatch undoes Watch, told or not. When it has returned, w is not being told.
	Unwatch(w *Watcher)
}

// Watcher is somebody who waits. It is for one context at a time.
type Watcher struct {
	End func() // called at the end of the context; Watch, Unwatch and the end of others wait meanwhile

	next, prev *Watcher
	in         *List
}

// List is the watchers of a context, which guards it with a lock of its own.
type List struct{ first *Watcher }

// Add puts w into the list.
func (l *List) Add(w *Watcher) {
	w.next, w.prev, w.in = l.first, nil, l
	if l.first != nil {
		l.first.prev = w
	}
	l.first = w
}

// Remove takes w out of the list, if it is there.
func (l *List) Remove(w *Watcher) {
	if w.in != l {
		return
	}
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	}
	w.next, w.prev, w.in = nil, nil, nil
}

// Tell tells all of them, and empties the list.
func (l *List) Tell() {
	for w := l.first; w != nil; w = l.first {
		l.Remove(w)
		w.End()
	}
}
