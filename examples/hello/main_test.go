package main

import (
	"io"
	"os"
	"testing"
)

func TestHello(t *testing.T) {
	t.Chdir(t.TempDir())
	const want = "Hello from the ring.\n"
	if err := os.WriteFile("hello.txt", []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	old := os.Stdout
	os.Stdout = w
	main()
	os.Stdout = old
	w.Close()
	if got, err := io.ReadAll(r); string(got) != want || err != nil {
		t.Errorf("printed %q, %v", got, err)
	}
}
