package net

// ClosePipes closes the pipes that are kept for the next user.
func ClosePipes() {
	for {
		select {
		case p := <-pipes:
			p.close()
		default:
			return
		}
	}
}
