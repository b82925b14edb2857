package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"uringo/executor"
)

func TestTasks(t *testing.T) {
	dir := t.TempDir()
	var names []string
	var want strings.Builder
	for i := range 20 {
		name := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(name, bytes.Repeat([]byte("a line of some length\n"), 1000*i), 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
		fmt.Fprintf(&want, "%8d %s\n", 1000*i, name)
	}
	fmt.Fprintf(&want, "%8d total\n", 190_000)
	names = append(names, filepath.Join(dir, "missing"))

	var got bytes.Buffer
	err := executor.Start(context.Background(), func(ctx context.Context) error { return count(ctx, &got, names) })
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the missing file: %v", err)
	}
	if got.String() != want.String() {
		t.Errorf("printed\n%s\nwant\n%s", &got, want.String())
	}
}
