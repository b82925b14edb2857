package handle

// Waiting returns how many wait for their turn.
func (t *Turn) Waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.queue)
}
