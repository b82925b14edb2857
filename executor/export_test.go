package executor

// Waiting returns how many wait for the mutex.
func (m *Mutex) Waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.line.len()
}

// Waiting returns how many wait for the mutex.
func (m *RWMutex) Waiting() int { return m.gate.waiting() }

// Waiting returns how many wait for a share.
func (s *Semaphore) Waiting() int { return s.gate.waiting() }

func (g *gate) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.line.len()
}

// Waiting returns how many wait to put something, and to take something.
func (q *Queue[T]) Waiting() (givers, takers int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.givers.len(), q.takers.len()
}

// Ring returns the queue's memory.
func (q *Queue[T]) Ring() []T { return q.vals }

// Kept returns how many tasks the group keeps.
func (g *Group) Kept() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.live)
}

func (l *line[T]) len() int {
	n := 0
	for w := l.head; w != nil; w = w.next {
		n++
	}
	return n
}
