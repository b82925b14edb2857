package executor

import (
	"context"
	"sync"
)

// line is those who wait for something, first come first. Whoever owns it guards it with a lock.
type line[T any] struct{ head, tail *waiter[T] }

// waiter is one of them: what it waits for, or brings, and the event that ends the wait.
type waiter[T any] struct {
	what       T
	over       Event
	next, prev *waiter[T]
}

// wait joins the line and waits until somebody has taken w out of it and set w.over, or ctx has ended, which takes w out, too. The lock mu is held,
// and released. When both come at once, the wait has not been in vain, and there is no error. Gone is called when it was, or if an executor of the
// user's has interrupted it, when what w waited for may have come for nobody.
func (l *line[T]) wait(ctx context.Context, mu *sync.Mutex, w *waiter[T], gone func(came bool)) error {
	l.join(w)
	mu.Unlock()
	waited := false
	defer func() {
		if !waited {
			gone(l.quit(mu, w))
		}
	}()
	err := w.over.Wait(ctx)
	if waited = true; err == nil || l.quit(mu, w) {
		return nil
	}
	gone(false)
	return err
}

// quit takes w out of the line, and reports whether it was no longer there, as what it waits for has come.
func (l *line[T]) quit(mu *sync.Mutex, w *waiter[T]) (came bool) {
	mu.Lock()
	defer mu.Unlock()
	if w.over.IsSet() {
		return true
	}
	l.leave(w)
	return false
}

func (l *line[T]) join(w *waiter[T]) {
	if w.prev = l.tail; w.prev != nil {
		w.prev.next = w
	} else {
		l.head = w
	}
	l.tail = w
}

func (l *line[T]) leave(w *waiter[T]) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.head = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.tail = w.prev
	}
	w.next, w.prev = nil, nil
}

// pop takes out who is first, or returns nil.
func (l *line[T]) pop() *waiter[T] {
	w := l.head
	if w != nil {
		l.leave(w)
	}
	return w
}
