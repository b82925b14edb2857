package executor

// Waiting returns how many wait for the mutex.
func (m *Mutex) Waiting() int { return m.gate.waiting() }

// Waiting returns how many wait for the mutex.
func (m *RWMutex) Waiting() int { return m.gate.waiting() }

// Waiting returns how many wait for a share.
func (s *Semaphore) Waiting() int { return s.gate.waiting() }

func (g *gate) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.line.Len()
}

// Waiting returns how many wait to put something, and to take something.
func (q *Queue[T]) Waiting() (givers, takers int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.givers.Len(), q.takers.Len()
}

// Ring returns the queue's memory.
func (q *Queue[T]) Ring() []T { return q.vals }

// Kept returns how many tasks the group keeps.
func (g *Group) Kept() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.live)
}
